"""Rates of embedding: counted once, shown while it goes on, added over processes."""

from __future__ import annotations

from collections.abc import Sequence

from harness.embedding.nucleotide.kmer import KmerProfile
from harness.embedding.store.throughput import Meter, Throughput, add_throughputs


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


def test_add_throughputs_then_counts_add_up_over_the_longest_time() -> None:
    """One without work counts for nothing."""
    parts = [
        Throughput(n_sequences=n, n_tokens=10 * n, elapsed_seconds=n / 10, flop=n, peak_flops=10.0)
        for n in (100, 50, 0)
    ]

    together = add_throughputs(parts)

    assert str(together) == ("15 sequences/s, 150 tokens/s, 75% of the device's peak, 2 processes")
    assert str(add_throughputs([])) == ""
