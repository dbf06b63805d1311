"""Runs of ``harness embed`` on several GPUs: what they said, and how they compare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from benchmarks.projection import markdown_table
from harness.embedding.devices import Ranks

__all__ = [
    "EmbedRun",
    "Rate",
    "is_same_everywhere",
    "order_runs",
    "read_rate",
    "render_markdown",
]

# What the command writes last: see harness.progress and harness.embedding.extraction.
LAST_LINE = re.compile(
    r"^embed \w+: [\d,]+ sequences in (?P<seconds>[\d.]+) s "
    r"\((?P<sequences>[\d,]+) sequences/s, (?P<tokens>[\d,]+) tokens/s"
    r"(?:, (?P<percent>\d+)% of the device's peak)?(?:, (?P<processes>\d+) processes)?\)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What the command itself says of its speed, all processes together.

    Attributes
    ----------
    line : str
        Its own words.
    elapsed_seconds : float
        From the first sequence to the last shard.
    sequences_per_second, tokens_per_second : int
    peak_percent : int or None
        Share of what the devices can do; None where that is not known.
    n_processes : int
        Of those that had something to do.
    """

    line: str
    elapsed_seconds: float
    sequences_per_second: int
    tokens_per_second: int
    peak_percent: int | None
    n_processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRun:
    """One run of the command.

    Attributes
    ----------
    n_gpus : int
        Or processes, on a CPU.
    rate : Rate
        What it said.
    command_seconds : float
        Wall clock of the whole command, the start of its processes and the models included.
    rows_of_shards : tuple of int
        How its store is divided.
    shards_sha256 : tuple of str
        Digest of each shard's file.
    """

    n_gpus: int
    rate: Rate
    command_seconds: float
    rows_of_shards: tuple[int, ...]
    shards_sha256: tuple[str, ...]

    def most_times_as_fast(self) -> float:
        """Return how much faster than one GPU it can be: shards are not divided."""
        everyone = [Ranks(rank=rank, world_size=self.n_gpus) for rank in range(self.n_gpus)]
        most_rows = max(sum(ranks.portion(self.rows_of_shards)) for ranks in everyone)
        return sum(self.rows_of_shards) / most_rows


def order_runs(gpus: Sequence[int], n_rounds: int) -> list[int]:
    """Return the numbers of GPUs in the order of the runs: forwards, backwards, forwards, ...

    Examples
    --------
    >>> order_runs([1, 2, 4], 2)
    [1, 2, 4, 4, 2, 1]
    """
    return [n for number in range(n_rounds) for n in (gpus[::-1] if number % 2 else gpus)]


def read_rate(text: str) -> Rate:
    """Return the rate that a run of ``harness embed`` wrote; ValueError if it wrote none."""
    found = LAST_LINE.search(text)
    if found is None:
        raise ValueError(f"expected a line 'embed ...: ... sequences/s, ...', got:\n{text}")
    percent = found["percent"]
    return Rate(
        line=found[0],
        elapsed_seconds=float(found["seconds"]),
        sequences_per_second=_integer(found["sequences"]),
        tokens_per_second=_integer(found["tokens"]),
        peak_percent=int(percent) if percent else None,
        n_processes=int(found["processes"] or 1),
    )


def is_same_everywhere(runs: Sequence[EmbedRun]) -> bool:
    """Whether all runs left the same shards, byte for byte."""
    return len({run.shards_sha256 for run in runs}) == 1


def render_markdown(runs: Sequence[EmbedRun], *, title: str, unit: str) -> str:
    """Return the runs as a table, in their order, with ratios against the fewest GPUs.

    Parameters
    ----------
    runs : sequence of EmbedRun
        Of the same records.
    title : str
        What was run on what.
    unit : str
        What there are several of: GPUs, or processes.
    """
    fewest = min(run.n_gpus for run in runs)
    reference = [run for run in runs if run.n_gpus == fewest]
    rate = mean(run.rate.sequences_per_second for run in reference)
    seconds = mean(run.command_seconds for run in reference)
    header = (
        unit,
        "sequences/s",
        "tokens/s",
        "share of the peak",
        f"rate against {fewest}",
        "at most",
        "whole command, s",
        "of these, embedding",
        f"command against {fewest}",
    )
    most = reference[0].most_times_as_fast()
    rows = [
        (
            str(run.n_gpus),
            f"{run.rate.sequences_per_second:,}",
            f"{run.rate.tokens_per_second:,}",
            "" if run.rate.peak_percent is None else f"{run.rate.peak_percent}%",
            f"{run.rate.sequences_per_second / rate:.2f} x",
            f"{run.most_times_as_fast() / most:.2f} x",
            f"{run.command_seconds:.1f}",
            f"{run.rate.elapsed_seconds:.1f}",
            f"{seconds / run.command_seconds:.2f} x",
        )
        for run in runs
    ]
    note = (
        f"Ratios are against the mean of the runs with {fewest}; more than 1 is faster. 'At most' "
        f"is what dividing {len(runs[0].rows_of_shards)} whole shards allows."
    )
    return "\n\n".join([f"## {title}", markdown_table(header, rows), note, _compare(runs)]) + "\n"


def _compare(runs: Sequence[EmbedRun]) -> str:
    """Say whether the stores are equal, and which are not."""
    first = runs[0].shards_sha256
    if is_same_everywhere(runs):
        return f"The stores of all runs are equal, byte for byte ({len(first)} shards)."
    lines = [
        f"- run {number} ({run.n_gpus}): {_count_differences(run.shards_sha256, first)} of "
        f"{len(first)} shards are not those of run 1 ({runs[0].n_gpus})"
        for number, run in enumerate(runs, start=1)
        if run.shards_sha256 != first
    ]
    return "\n".join(["**The stores differ:**", "", *lines])


def _count_differences(mine: Sequence[str], others: Sequence[str]) -> int:
    return sum(one != other for one, other in zip(mine, others, strict=True))


def _integer(text: str) -> int:
    return int(text.replace(",", ""))
