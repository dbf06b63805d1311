"""What is said about speed: the ratio, every raw run, and what came in per second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from statistics import fmean, stdev
from typing import Any

from harness.report.document import (
    ABSENT,
    Block,
    Column,
    Note,
    Table,
    show_count,
    show_number,
    show_percent,
    show_range,
    show_seconds,
    side_name,
)
from harness.report.evidence import evidence_blocks, evidence_of, show_value
from harness.report.reading import (
    as_mapping,
    as_number,
    as_numbers,
    as_pair,
    as_rows,
    as_text,
)

__all__ = [
    "speed_blocks",
    "timing_of",
]


# What the tables below show in their own way, so that the generic evidence leaves it out.
_SHOWN = ("attempts", "ratio", "interval", "warnings", "speed_up", "n_out_of_memory")
_RUNS = {
    "baseline_seconds": "baseline",
    "candidate_seconds": "candidate",
    "closing_baseline_seconds": "baseline",
}


def timing_of(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the timing facts: the verdict's own, else the evidence of the criterion."""
    return as_mapping(verdict.get("timing")) or evidence_of(verdict, "embedding-time")


def speed_blocks(verdict: Mapping[str, Any], pictures: list[Block]) -> list[Block]:
    """Return how long both embedders took, round by round."""
    timing = timing_of(verdict)
    blocks: list[Block] = list(_memory_notes(verdict, timing))
    if any(as_numbers(timing.get(key)) for key in _RUNS):
        blocks.append(_runs_table(verdict, timing))
    if as_number(timing.get("ratio")) is not None:
        blocks.append(_ratio_table(verdict, timing))
    blocks += pictures
    if attempts := as_rows(timing.get("attempts")):
        blocks.append(_attempts_table(attempts))
    evidence = evidence_of(verdict, "embedding-time")
    if causes := as_mapping(evidence.get("speed_up")):
        blocks.append(_causes_table(causes))
    rest = evidence | {key: value for key, value in timing.items() if key not in evidence}
    return blocks + evidence_blocks(rest, title="Timing", skip=(*_SHOWN, *_RUNS))


def _memory_notes(verdict: Mapping[str, Any], timing: Mapping[str, Any]) -> Iterator[Note]:
    """Warn of each side whose batches had to become smaller, in the rounds or before."""
    for side in ("baseline", "candidate"):
        facts = as_mapping(verdict.get(side))
        key, batches = "n_out_of_memory", "token_budget"
        times = as_number(as_mapping(timing.get(key)).get(side)) or 0
        own = as_number(facts.get(key)) or 0
        budget = as_mapping(timing.get(batches)).get(side, facts.get(batches))
        if most := max(times, own):
            yield Note(
                text=f"The {side} ran out of GPU memory {show_count(most)} "
                f"time{'' if most == 1 else 's'}: batches of {show_count(as_number(budget))} "
                "tokens."
            )


def _runs_table(verdict: Mapping[str, Any], timing: Mapping[str, Any]) -> Table:
    """One row a side: every round, their mean and their spread."""
    runs = {key: as_numbers(timing.get(key)) for key in _RUNS}
    most = max(map(len, runs.values()))
    rows = []
    for key, side in _RUNS.items():
        if seconds := runs[key]:
            suffix = ", once more at the end" if key.startswith("closing") else ""
            rounds = [show_seconds(s) for s in seconds] + [ABSENT] * (most - len(seconds))
            name = f"{side.capitalize()}: {side_name(verdict, side)}{suffix}"
            rows.append(
                (
                    name,
                    *rounds,
                    show_seconds(fmean(seconds)),
                    _spread(seconds),
                    _rate(timing, seconds),
                )
            )
    heads = [f"Round {number}" for number in range(1, most + 1)]
    heads += ["Mean", "Coefficient of variation", "Sequences per second"]
    return Table(
        title="Embedding time, raw rounds (seconds)",
        columns=(Column(title="Model"), *(Column(title=h, kind="number") for h in heads)),
        rows=tuple(rows),
        note="In turns, from protein strings on the host to pooled embeddings on the host; "
        "tokenisation is inside, loading and compilation are outside. "
        f"{_repeated(as_number(timing.get('repeats')))}",
    )


def _ratio_table(verdict: Mapping[str, Any], timing: Mapping[str, Any]) -> Table:
    limits = [
        row.get("limit")
        for row in as_rows(verdict.get("criteria"))
        if row.get("id") == "embedding-time"
    ]
    limit = as_number(limits[0]) if limits else None
    row = (
        show_number(as_number(timing.get("ratio"))),
        show_range(as_pair(timing.get("interval")), digits=3) or ABSENT,
        f"at most {show_number(limit)}" if limit is not None else ABSENT,
    )
    heads = ("Candidate's mean time over the baseline's", "Fastest to slowest pair", "Limit")
    return Table(
        title="Time ratio (fraction of the baseline's time)",
        columns=tuple(Column(title=head, kind="number") for head in heads),
        rows=(row,),
    )


def _attempts_table(attempts: list[dict[str, Any]]) -> Table:
    keys = [key for key in _RUNS if any(as_numbers(a.get(key)) for a in attempts)]
    heads = {
        "baseline_seconds": "Baseline rounds (s)",
        "candidate_seconds": "Candidate rounds (s)",
        "closing_baseline_seconds": "Closing baseline rounds (s)",
    }
    are_disturbed = any(a.get("disturbances") for a in attempts)
    rows = tuple(
        (
            show_count(number),
            *(", ".join(show_number(s) for s in as_numbers(a.get(key))) or ABSENT for key in keys),
            *([show_value(a.get("disturbances"))] if are_disturbed else []),
        )
        for number, a in enumerate(attempts[:20], start=1)
    )
    columns = (Column(title="Attempt", kind="number"), *(Column(title=heads[k]) for k in keys))
    if are_disturbed:
        columns = (*columns, Column(title="Disturbed by"))
    return Table(title="Every attempt; more than half must agree", columns=columns, rows=rows)


def _causes_table(causes: Mapping[str, Any]) -> Table:
    """Split the speed-up into factors that multiply to what a deployment gains."""
    dtypes = [as_text(causes.get(f"{side}_dtype")) for side in ("baseline", "candidate")]
    parts = {
        f"Model: both sides in {dtypes[1]}, the ratio that is judged": "model",
        f"Precision: the baseline in {dtypes[0]} against {dtypes[1]}": "precision",
        "Batching: the baseline in padded batches of 16, in file order, against these": "batching",
    }
    factors = {text: as_number(causes.get(key)) for text, key in parts.items()}
    rows = [(text, show_number(x, 3)) for text, x in factors.items()]
    known = [x for x in factors.values() if x is not None]
    if len(known) == len(factors):
        rows.append(("As deployed: model and precision", show_number(prod(known[:2]), 3)))
        rows.append(("All three, over a baseline in padded batches", show_number(prod(known), 3)))
    return Table(
        title="Where the speed-up comes from (times faster)",
        columns=(Column(title="Cause"), Column(title="Factor", kind="number")),
        rows=tuple(rows),
        note="From a few rounds outside the judged ones; "
        f"batching on {show_count(as_number(causes.get('n_batching_sequences')))} sequences.",
    )


def _spread(seconds: list[float]) -> str:
    mean = fmean(seconds)
    return show_percent(stdev(seconds) / mean, 1) if len(seconds) > 1 and mean else ABSENT


def _repeated(repeats: float | None) -> str:
    """Say how often a round embeds the sequences, so that it lasts a second."""
    return f"Each round embeds the sequences {show_count(repeats)} times." if repeats else ""


def _rate(timing: Mapping[str, Any], seconds: list[float]) -> str:
    count, mean = as_number(timing.get("n_sequences")), fmean(seconds)
    count = None if count is None else count * (as_number(timing.get("repeats")) or 1)
    return show_number(count / mean, 3) if count is not None and mean > 0 else ABSENT
