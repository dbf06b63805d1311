"""Rates of embedding: counted once, shown while it goes on, added over processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.embedding import write_store
from harness.embedding.extraction import Meter, Throughput, add_throughputs
from harness.embedding.nucleotide import KmerProfile


class Task:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.note = ""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Keep it."""
        self.steps.append(steps)
        self.note = note


class Counted(KmerProfile):
    """An embedder that knows its arithmetic: ten operations a letter, a peak of 400 a second."""

    def flop(self, lengths: Sequence[int]) -> float:
        """Return the operations."""
        return 10.0 * sum(lengths)

    def peak_flops(self) -> float | None:
        """Return the peak."""
        return 400.0


def test_meter_while_embedding_then_shows_sequences_and_tokens_a_second() -> None:
    """Tokens are those of the batch on average, until it is done."""
    task, times = Task(), iter([0.0, 2.0, 4.0])
    meter = Meter(KmerProfile(1), task, count_tokens=lambda n: n + 2, clock=lambda: next(times))
    meter.begin(["A" * 8, "A" * 18])
    meter.advance(1)

    assert task.note == "0 sequences/s, 8 tokens/s"
    meter.end()
    assert task.note == "0 sequences/s, 8 tokens/s"
    assert task.steps == [1, 1]


def test_meter_when_the_embedder_tells_nothing_then_all_is_shown_at_the_end() -> None:
    """And for each sequence as many as all processes do."""
    task = Task()
    meter = Meter(KmerProfile(1), task, scale=2.5)
    meter.begin(["A"] * 4)
    meter.end()

    assert task.steps == [10]


def test_meter_when_single_sequences_are_reported_then_not_each_is_shown() -> None:
    """Showing costs more than a short sequence."""
    task = Task()
    meter = Meter(KmerProfile(1), task)
    meter.begin(["A"] * 6400)
    for _ in range(6400):
        meter.advance(1)

    assert task.steps == [100] * 64


def test_throughput_when_the_embedder_counts_operations_then_has_the_share_of_the_peak() -> None:
    """260 operations in two seconds, of 400 a second."""
    times = iter([0.0, 1.0, 2.0])
    meter = Meter(Counted(1), Task(), clock=lambda: next(times))
    meter.begin(["A" * 8, "A" * 18])
    meter.end()

    assert str(meter.throughput()) == "1 sequences/s, 32% of the device's peak"


class Full(KmerProfile):
    """An embedder whose device's memory runs out with every batch."""

    n_out_of_memory = 3

    def gpu_memory_bytes(self) -> int | None:
        """Return what it took."""
        return 1000

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Run out of memory once."""
        self.n_out_of_memory += 1
        return super().embed(sequences, on_progress=on_progress)


def test_write_store_when_memory_runs_out_then_its_throughput_says_how_often(
    tmp_path: Path,
) -> None:
    """Only what happened meanwhile counts, not what the embedder had seen before."""
    embedder = Full(1)

    pace = write_store(tmp_path, ["a", "b", "c"], ["A"] * 3, embedder, rows_per_shard=2)

    assert (pace.n_out_of_memory, pace.gpu_memory_bytes) == (2, 1000)


def test_meter_then_the_memory_is_read_before_the_peak_is_measured() -> None:
    """Measuring the peak takes memory itself."""
    read: list[str] = []

    class Observed(Counted):
        def gpu_memory_bytes(self) -> int | None:
            read.append("memory")
            return None

        def peak_flops(self) -> float | None:
            read.append("peak")
            return None

    meter = Meter(Observed(1), Task())
    meter.begin(["A"])
    meter.end()
    meter.throughput()

    assert read == ["memory", "peak"]


def test_add_throughputs_then_the_fullest_gpu_counts_and_every_lack_of_memory() -> None:
    """A process without a GPU has nothing to say."""
    parts = [
        Throughput(
            n_sequences=1, n_tokens=1, elapsed_seconds=1.0, gpu_memory_bytes=n, n_out_of_memory=2
        )
        for n in (None, 5, 7)
    ]

    together = add_throughputs(parts)

    assert (together.gpu_memory_bytes, together.n_out_of_memory) == (7, 6)
    assert add_throughputs(parts[:1]).gpu_memory_bytes is None


def test_add_throughputs_then_counts_add_up_over_the_longest_time() -> None:
    """One without work counts for nothing."""
    parts = [
        Throughput(n_sequences=n, n_tokens=10 * n, elapsed_seconds=n / 10, flop=n, peak_flops=10.0)
        for n in (100, 50, 0)
    ]

    together = add_throughputs(parts)

    assert str(together) == ("15 sequences/s, 150 tokens/s, 75% of the device's peak, 2 processes")
    assert str(add_throughputs([])) == ""
