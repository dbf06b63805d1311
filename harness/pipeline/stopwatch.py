"""Timing the embedding of both sides: the same sequences, in the same order, warmed up.

The rounds themselves are run by pytest-benchmark in the acceptance tests; only the repetition of
an inconclusive measurement is run here. What the rounds mean is judged in ``harness.gate.timing``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.embedding import Embedder, tokenise
from harness.errors import ArtifactError
from harness.gate.result import CriterionResult, State
from harness.gate.timing import Attempt, judge_attempts, read_clock, time_rounds

__all__ = ["Stopwatch"]

# Warm-up ends when two consecutive runs differ by less than this share, or after so many runs.
STEADY = 0.02
MAX_WARM_UPS = 10

Vectors = npt.NDArray[np.float32]


class Stopwatch:
    """The workload of both sides and the rounds measured so far.

    Parameters
    ----------
    embedders : mapping of side to Embedder
        ``baseline`` and ``candidate``.
    proteins : sequence of str
        What each run embeds, in this order.
    stored : mapping of side to float32 array, (n_proteins, dim)
        The embeddings that the heads were judged on: what is timed must be what was validated.
    limit_ratio : Fraction
        Largest ratio that passes.
    runs : int
        Timed rounds a side.
    attempts : int
        How often an inconclusive measurement is made in all.
    clock : callable
        Returns seconds; synchronises the device first.
    """

    def __init__(
        self,
        embedders: Mapping[str, Embedder],
        proteins: Sequence[str],
        stored: Mapping[str, Vectors],
        *,
        limit_ratio: Fraction,
        runs: int,
        attempts: int,
        clock: Callable[[], float] = read_clock,
    ) -> None:
        self.runs = runs
        self._embedders = embedders
        self._proteins = list(proteins)
        self._stored = stored
        self._limit_ratio = limit_ratio
        self._attempts = attempts
        self._clock = clock
        self._seconds: dict[str, tuple[float, ...]] = {}
        self._cpu_seconds: dict[str, list[float]] = {"baseline": [], "candidate": []}
        self._warm_ups: dict[str, list[float]] = {}
        self._latest: dict[str, Vectors] = {}
        self.result: CriterionResult | None = None

    def work(self, side: str) -> Callable[[], None]:
        """Return what one round of a side runs: strings on the host in, vectors on the host out."""

        def embed() -> None:
            cpu_started = time.process_time()
            self._latest[side] = self._embedders[side].embed(self._proteins)
            self._cpu_seconds[side].append(time.process_time() - cpu_started)

        return embed

    def warmed_up(self, side: str) -> Callable[[], None]:
        """Run a side until two consecutive runs are alike, at most ten times; return its work."""
        work = self.work(side)
        seconds = list(time_rounds(work, 2, clock=self._clock))
        while abs(seconds[-1] / seconds[-2] - 1) >= STEADY and len(seconds) < MAX_WARM_UPS:
            seconds += time_rounds(work, 1, clock=self._clock)
        self._warm_ups[side] = seconds
        self._cpu_seconds[side].clear()
        return work

    def keep(self, name: str, seconds: Sequence[float]) -> None:
        """Keep the measured rounds of ``baseline``, ``candidate`` or ``closing`` (baseline)."""
        self._seconds[name] = tuple(seconds)

    def judge(self) -> CriterionResult:
        """Judge the kept rounds; measure again, whole, while the answer is inconclusive.

        Raises
        ------
        ArtifactError
            If the timed embeddings are not those that the heads were judged on.
        """
        attempts = [self._first_attempt()]
        self._check_latest()
        result = judge_attempts(attempts, limit_ratio=self._limit_ratio)
        while result.state is State.INCONCLUSIVE and len(attempts) < self._attempts:
            attempts.append(self._another_attempt())
            result = judge_attempts(attempts, limit_ratio=self._limit_ratio)
        self.result = replace(result, evidence=result.evidence | self._surroundings())
        return self.result

    def _first_attempt(self) -> Attempt:
        return Attempt(
            baseline_seconds=self._seconds.get("baseline", ()),
            candidate_seconds=self._seconds.get("candidate", ()),
            closing_baseline_seconds=self._seconds.get("closing", ()),
        )

    def _another_attempt(self) -> Attempt:
        return Attempt(
            baseline_seconds=time_rounds(self.work("baseline"), self.runs, clock=self._clock),
            candidate_seconds=time_rounds(self.work("candidate"), self.runs, clock=self._clock),
            closing_baseline_seconds=time_rounds(self.work("baseline"), 1, clock=self._clock),
        )

    def _check_latest(self) -> None:
        for side, stored in self._stored.items():
            timed = self._latest.get(side)
            if timed is None:
                raise ArtifactError(f"the {side} was not timed: run acceptance/ whole, without -k")
            if timed.shape != stored.shape or not np.allclose(timed, stored, rtol=1e-2, atol=1e-3):
                raise ArtifactError(
                    f"the {side}'s timed embeddings are not those that its head was judged on. "
                    "Delete the work directory's embeddings and run again"
                )

    def _surroundings(self) -> dict[str, Any]:
        tokenising = time_rounds(lambda: tokenise(self._proteins), self.runs, clock=self._clock)
        return {
            "n_sequences": len(self._proteins),
            "n_residues": sum(map(len, self._proteins)),
            "tokenisation_seconds": list(tokenising),
            "cpu_seconds": {side: list(x) for side, x in self._cpu_seconds.items()},
            "warm_up_seconds": self._warm_ups,
        }
