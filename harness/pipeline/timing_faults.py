"""Planted faults of time: a candidate that is no faster, or only almost fast enough.

Which state each must lead to stands in :mod:`harness.pipeline.faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from harness.gate import CriterionResult
from harness.gate.speed.criterion import time_rounds
from harness.pipeline.batches import BatchingEmbedder
from harness.pipeline.bench import Bench
from harness.pipeline.stopwatch import Stopwatch
from harness.pipeline.vectors import SIDES, Side

__all__ = ["at_percent", "same_model"]

# Enough to see a ratio of about 1; the gate itself times more.
TIMED_SEQUENCES = 32
# A busy machine must not make a sound gate look broken: it would take noise of a factor of two,
# in each attempt.
ATTEMPTS = 5


def same_model(bench: Bench) -> CriterionResult:
    """Time the baseline against itself, by the bench's clock."""
    honest = bench.honest
    own = bench.config.timing
    timing = replace(own, sequences=min(TIMED_SEQUENCES, own.sequences), attempts=ATTEMPTS)
    copied = bench.copy(
        config=replace(bench.config, candidate=bench.config.baseline, timing=timing),
        made={f"embedder {side}": honest.vectors.embedder("baseline") for side in SIDES}
        | {f"store {side}": honest.vectors.embeddings("baseline") for side in SIDES},
        artifacts={
            f"embeddings {side}": honest.cache.artifacts["embeddings baseline"] for side in SIDES
        },
    )
    with copied.stopwatch() as stopwatch:
        return _measure(stopwatch, bench.clock)


class _SlowedEmbedder:
    """An embedder whose every call moves a clock on by a given time."""

    n_out_of_memory = 0

    def __init__(self, embedder: BatchingEmbedder, seconds: float, now: list[float]) -> None:
        self._embedder, self._seconds, self._now = embedder, seconds, now
        self.name, self.dim, self.digest = embedder.name, embedder.dim, embedder.digest
        self.token_budget = embedder.token_budget

    def limit_tokens(self, token_budget: int) -> None:
        """Let no batch hold more tokens than this."""
        self._embedder.limit_tokens(token_budget)

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Embed, and let the time pass."""
        self._now[0] += self._seconds
        return self._embedder.embed(sequences, on_progress=on_progress)


def at_percent(percent: int) -> Callable[[Bench], CriterionResult]:
    """Return a candidate at that share of the baseline's time, by a clock of its own."""

    def plant(bench: Bench) -> CriterionResult:
        vectors, now = bench.honest.vectors, [0.0]
        sample = bench.honest.samples.part("test").head(1)
        seconds: dict[Side, float] = {"baseline": 100.0, "candidate": float(percent)}
        stopwatch = Stopwatch(
            {s: _SlowedEmbedder(vectors.embedder(s), seconds[s], now) for s in SIDES},
            sample["protein"].tolist(),
            {side: vectors.proteins(side).rows(sample["id"]) for side in SIDES},
            limit_ratio=bench.config.thresholds.max_time_ratio,
            runs=bench.config.timing.runs,
            attempts=1,
            clock=lambda: now[0],
        )
        return _measure(stopwatch, lambda: now[0])

    return plant


def _measure(stopwatch: Stopwatch, clock: Callable[[], float]) -> CriterionResult:
    for side in SIDES:
        work = stopwatch.warmed_up(side)
        stopwatch.keep(side, time_rounds(work, stopwatch.runs, clock=clock))
    stopwatch.keep("closing", time_rounds(stopwatch.work("baseline"), 1, clock=clock))
    return stopwatch.judge()
