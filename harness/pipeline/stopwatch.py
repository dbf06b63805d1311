"""Timing the embedding of both sides: the same sequences, warmed up, in turns.

The binding comparison is matched: both sides in the candidate's dtype, by the same engine, in equal
batches. Its first rounds are run by pytest-benchmark in the acceptance tests, the others here, like
those that tell why the candidate is faster (model, precision, batching), which gate nothing. What
the rounds mean is judged in ``harness.criteria.speed``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.criteria.neighbours import Observation
from harness.criteria.result import CriterionResult, State, decimal_text
from harness.criteria.same_vector import compare_rows, take_yardstick
from harness.criteria.speed import (
    Attempt,
    advise_on_slowness,
    describe_pace,
    measure_until_settled,
    read_clock,
    time_rounds,
)
from harness.embedding.embedder import Abilities, Embedder
from harness.errors import ArtifactError
from harness.pipeline.vectors import SIDES

__all__ = ["Causes", "Stopwatch", "compute_threads", "measure_causes"]


def shared_budget(abilities: Iterable[Abilities]) -> int | None:
    """Return the smallest budget of tokens that an embedder has; None if none says."""
    budgets = (ability.token_budget for ability in abilities)
    return min((budget for budget in budgets if budget is not None), default=None)


def observe_batches(token_budgets: Collection[int]) -> Observation:
    """Compare what the budgets were around each timed round: unequal ones disturb a comparison."""
    if len(set(token_budgets)) <= 1:
        return Observation()
    shrunk = (
        "the device's memory did not suffice: batches shrank from "
        f"{max(token_budgets):,} to {min(token_budgets):,} tokens"
    )
    return Observation(disturbances=(shrunk,))


# Warm-up ends when two consecutive runs differ by less than this share, or after so many runs or so
# many seconds: what is to be compiled and cached is so by the second one.
STEADY = 0.02
MAX_WARM_UPS, MAX_WARM_UP_SECONDS = 10, 15.0
# A round lasts at least a second, else anything disturbs it. The sequences are repeated for that,
# somewhat more often than it takes; a clock that stands still ends it.
ROUND_SECONDS = 1.0
REPEATS_MARGIN = 1.1
MAX_REPEATS = 4_096

Vectors = npt.NDArray[np.float32]


class Stopwatch:
    """The workload of both sides and the rounds measured so far.

    Parameters
    ----------
    embedders : mapping of side to Embedder
        ``baseline`` and ``candidate``, both in the candidate's dtype. They are given equal batches.
    proteins : sequence of str
        What each run embeds, in this order; a round repeats them until it lasts a second.
    stored : mapping of side to float32 array, (n_proteins, dim)
        The embeddings that the heads were judged on: what is timed must be what was validated.
    limit_ratio : Fraction
        Largest ratio that passes.
    runs : int
        Timed rounds a side.
    attempts : int
        How often an inconclusive measurement is made in all.
    dtype : str
        What both embedders compute in.
    deployed : Embedder, optional
        The baseline in its own dtype, to tell the causes of the speed-up apart.
    observe : callable
        Looks at what else uses the device; called before the rounds and after each.
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
        dtype: str = "float32",
        deployed: Embedder | None = None,
        observe: Callable[[], Observation] = Observation,
        clock: Callable[[], float] = read_clock,
    ) -> None:
        self.turns = (*SIDES * runs, "baseline")  # so that what disturbs a while disturbs both
        self._embedders = embedders
        self._abilities = {side: Abilities(embedder) for side, embedder in embedders.items()}
        self._shared_budget: int | None = None  # most tokens in a batch of either side
        self._proteins = list(proteins)
        self._repeats = 1
        self._stored = stored
        self._yardsticks = {side: take_yardstick(rows) for side, rows in stored.items()}
        self._limit_ratio = limit_ratio
        self._attempts = attempts
        self._dtype = dtype
        self._deployed = deployed
        self._observe = observe
        self._clock = clock
        self._cpu_seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        self._warm_ups: dict[str, list[float]] = {}
        self._latest: dict[str, Vectors] = {}
        self._budgets: list[int] = []  # tokens in a batch, before and after each round
        self._kept: list[float] = []
        self._observations: list[Observation] = []
        self.result: CriterionResult | None = None

    def warm_up(self) -> None:
        """Run each side until two runs are alike, then find how often a round must repeat them."""
        self._shared_budget = shared_budget(self._abilities.values())
        self._warm_ups = {side: self._until_steady(self.work(side)) for side in SIDES}
        shortest = min(seconds[-1] for seconds in self._warm_ups.values())
        while shortest < ROUND_SECONDS and self._repeats < MAX_REPEATS:
            factor = REPEATS_MARGIN * ROUND_SECONDS / max(shortest, ROUND_SECONDS / MAX_REPEATS)
            self._repeats = min(MAX_REPEATS, math.ceil(self._repeats * factor))
            for side in SIDES:
                self._warm_ups[side] += time_rounds(self.work(side), 1, clock=self._clock)
            shortest = min(seconds[-1] for seconds in self._warm_ups.values())
        for seconds_on_cpu in self._cpu_seconds.values():
            seconds_on_cpu.clear()
        self._start_attempt()

    def work(self, side: str) -> Callable[[], None]:
        """Return what one round of a side runs: strings on the host in, vectors on the host out."""
        proteins = self._proteins * self._repeats

        def embed() -> None:
            embedder, cpu_started = self._embedders[side], time.process_time()
            self._budgets += self._budget(side)
            self._latest[side] = embedder.embed(proteins, token_budget=self._shared_budget)
            self._cpu_seconds[side].append(time.process_time() - cpu_started)
            self._budgets += self._budget(side)

        return embed

    def keep(self, side: str, seconds: float) -> None:
        """Keep one measured round.

        Raises
        ------
        ArtifactError
            If it is another side's turn.
        """
        if [side] != list(self.turns[len(self._kept) : len(self._kept) + 1]):
            raise ArtifactError(
                f"a round of the {side} was timed out of turn: run acceptance/ whole, without -k"
            )
        self._kept.append(seconds)
        self._observations.append(self._observe())

    def judge(self) -> CriterionResult:
        """Judge the kept rounds; measure again, whole, while that may settle it.

        Rounds that nobody has kept are timed first: those over the three of each side that the
        acceptance tests time.

        Raises
        ------
        ArtifactError
            If the timed embeddings are not those that the heads were judged on.
        """
        result = measure_until_settled(
            self._attempt, attempts=self._attempts, limit_ratio=self._limit_ratio
        )
        for side, timed in self._latest.items():
            self._check(side, timed)
        result = replace(result, evidence=result.evidence | self._workload())
        result = self._with_causes(self._with_engines(result))
        if result.state is State.FAIL:
            steps = advise_on_slowness(result.evidence)
            result = replace(result, next_steps=(*result.next_steps, *steps))
        self.result = result
        return result

    def _until_steady(self, work: Callable[[], None]) -> list[float]:
        seconds = list(time_rounds(work, 2, clock=self._clock))
        while (
            not _is_steady(seconds)
            and len(seconds) < MAX_WARM_UPS
            and sum(seconds) < MAX_WARM_UP_SECONDS
        ):
            seconds += time_rounds(work, 1, clock=self._clock)
        return seconds

    def _start_attempt(self) -> None:
        self._shared_budget = shared_budget(self._abilities.values())
        self._budgets.clear()
        self._kept.clear()
        self._observations = [self._observe()]

    def _budget(self, side: str) -> list[int]:
        """Return the most tokens in a batch of a side, if it says."""
        own = self._abilities[side].token_budget
        return [] if own is None else [min(own, self._shared_budget or own)]

    def _with_engines(self, result: CriterionResult) -> CriterionResult:
        """Add a warning where the sides do not run in the same engine."""
        engines = {side: embedder.facts.engine for side, embedder in self._embedders.items()}
        if len(set(engines.values())) == 1:
            return result
        warning = (
            "The two sides run in different engines "
            f"({', '.join(f'{side}: {engine}' for side, engine in engines.items())}), so the ratio "
            "speaks of the engines as well as of the models"
        )
        return replace(result, warnings=(*result.warnings, warning))

    def _attempt(self) -> Attempt:
        """Return one measurement: the rounds kept so far, and those that lack; begin another."""
        if not self._warm_ups:
            self.warm_up()
        if not self._observations:
            self._start_attempt()
        for side in self.turns[len(self._kept) :]:
            self.keep(side, *time_rounds(self.work(side), 1, clock=self._clock))
        *rounds, closing = self._kept
        attempt = Attempt.observed(
            [*self._observations, observe_batches(self._budgets)],
            baseline_seconds=tuple(rounds[::2]),
            candidate_seconds=tuple(rounds[1::2]),
            closing_baseline_seconds=(closing,),
        )
        self._observations = []
        return attempt

    def _check(self, side: str, timed: Vectors) -> None:
        """Raise unless the vectors are the stored ones, however often they were embedded."""
        stored, yardstick = self._stored[side], self._yardsticks[side]
        if timed.shape == (self._repeats * len(stored), stored.shape[1]) and all(
            compare_rows(part, stored, yardstick, keys=self._proteins).is_same
            for part in np.split(timed, self._repeats)
        ):
            return
        raise ArtifactError(
            f"the {side}'s timed embeddings are not those that its head was judged on. "
            "Delete the work directory's embeddings and run again"
        )

    def _with_causes(self, result: CriterionResult) -> CriterionResult:
        """Add the causes of the speed-up, and a warning where it is none as deployed."""
        if self._deployed is None or result.value is None:
            return result
        causes = self._measure_causes(self._deployed, result)
        warnings, ratio = result.warnings, causes.as_deployed_ratio
        differ = causes.baseline_dtype != causes.candidate_dtype
        if differ and ratio is not None and ratio > self._limit_ratio:
            warnings += (
                f"As deployed (baseline {causes.baseline_dtype}, candidate "
                f"{causes.candidate_dtype}), the candidate {describe_pace(ratio)} the baseline; "
                f"the limit of {decimal_text(self._limit_ratio)} holds for equal dtypes",
            )
        evidence = result.evidence | {"speed_up": causes.to_dict()}
        return replace(result, evidence=evidence, warnings=warnings)

    def _measure_causes(self, deployed: Embedder, result: CriterionResult) -> Causes:
        proteins = self._proteins * self._repeats
        embedded: list[Vectors] = []

        def work() -> None:
            embedded[:] = [deployed.embed(proteins)]

        causes = measure_causes(
            deployed,
            self._proteins,
            candidate_dtype=self._dtype,
            matched_seconds=result.evidence["baseline_seconds"],
            candidate_seconds=result.evidence["candidate_seconds"],
            deployed_work=work,
            clock=self._clock,
        )
        for vectors in embedded:
            self._check("baseline", vectors)
        return causes

    def _workload(self) -> dict[str, Any]:
        budgets = {side: self._budget(side) for side in self._embedders}
        return {
            "repeats": self._repeats,
            "n_sequences": len(self._proteins),
            "n_residues": sum(map(len, self._proteins)),
            "tokenisation_seconds": self._time_tokenisation(),
            "cpu_seconds": {side: list(x) for side, x in self._cpu_seconds.items()},
            "warm_up_seconds": self._warm_ups,
            "token_budget": {side: own[0] if own else None for side, own in budgets.items()},
            "n_out_of_memory": {side: a.n_out_of_memory for side, a in self._abilities.items()},
        }

    def _time_tokenisation(self) -> list[float]:
        """Return the seconds of the candidate's tokenisation alone, if it can be had alone."""
        tokenise = self._abilities["candidate"].tokenise
        if tokenise is None:
            return []
        proteins = self._proteins * self._repeats
        return list(time_rounds(lambda: tokenise(proteins), ROUNDS, clock=self._clock))


def _is_steady(seconds: Sequence[float]) -> bool:
    return abs(seconds[-1] - seconds[-2]) < STEADY * seconds[-2]


ROUNDS = 3
# Enough for a ratio of batchings, few enough to cost a fraction of one timed round.
BATCHING_SEQUENCES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Causes:
    """Rounds in seconds that tell the causes of a speed-up apart.

    Attributes
    ----------
    baseline_dtype, candidate_dtype : str
        What each side computes in where it is deployed.
    matched_seconds, candidate_seconds : tuple of float
        The binding rounds: both sides in the candidate's dtype.
    deployed_seconds : tuple of float
        The baseline in its own dtype; the matched rounds where the dtypes agree.
    n_batching_sequences : int
        What the two batchings of the deployed baseline were timed on; 0 if it has but one.
    batched_seconds, padded_seconds : tuple of float
        Our batches; padded batches of 16 in the order of the file.
    """

    baseline_dtype: str
    candidate_dtype: str
    matched_seconds: tuple[float, ...]
    candidate_seconds: tuple[float, ...]
    deployed_seconds: tuple[float, ...]
    n_batching_sequences: int
    batched_seconds: tuple[float, ...]
    padded_seconds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the rounds and the factors; a factor of no finite, positive times is None.

        ``model * precision`` is the speed-up as deployed, and with ``batching`` that over a
        baseline run in padded batches.
        """
        return asdict(self) | {
            "as_deployed_ratio": self.as_deployed_ratio,
            "model": _quotient(self.matched_seconds, self.candidate_seconds),
            "precision": _quotient(self.deployed_seconds, self.matched_seconds),
            "batching": _quotient(self.padded_seconds, self.batched_seconds),
        }

    @property
    def as_deployed_ratio(self) -> float | None:
        """The candidate's mean time over the baseline's, each in its own dtype."""
        return _quotient(self.candidate_seconds, self.deployed_seconds)


def measure_causes(
    deployed: Embedder,
    proteins: Sequence[str],
    *,
    candidate_dtype: str,
    matched_seconds: Sequence[float],
    candidate_seconds: Sequence[float],
    deployed_work: Callable[[], object],
    clock: Callable[[], float],
) -> Causes:
    """Time the baseline in its own dtype, if that is another, and in padded batches.

    Parameters
    ----------
    deployed : Embedder
        The baseline in its own dtype.
    proteins : sequence of str
        What the timed rounds embed.
    candidate_dtype : str
        What the timed rounds compute in.
    matched_seconds, candidate_seconds : sequence of float
        The timed rounds.
    deployed_work : callable
        One round of the deployed baseline.
    clock : callable
        Returns seconds; synchronises the device first.
    """
    matched = tuple(matched_seconds)
    is_matched = deployed.dtype == candidate_dtype
    padded = Abilities(deployed).embed_padded
    few = list(proteins)[:BATCHING_SEQUENCES] if padded else []
    return Causes(
        baseline_dtype=deployed.dtype,
        candidate_dtype=candidate_dtype,
        matched_seconds=matched,
        candidate_seconds=tuple(candidate_seconds),
        deployed_seconds=matched if is_matched else _warm_rounds(deployed_work, clock),
        n_batching_sequences=len(few),
        batched_seconds=_warm_rounds(lambda: deployed.embed(few), clock) if padded else (),
        padded_seconds=_warm_rounds(lambda: padded(few), clock) if padded else (),
    )


def _warm_rounds(work: Callable[[], object], clock: Callable[[], float]) -> tuple[float, ...]:
    work()
    return time_rounds(work, ROUNDS, clock=clock)


def _quotient(above: Sequence[float], below: Sequence[float]) -> float | None:
    are_times = all(math.isfinite(x) and x > 0 for x in (*above, *below))
    return fmean(above) / fmean(below) if are_times and above and below else None


@contextmanager
def compute_threads(threads: int | None) -> Iterator[None]:
    """Let torch compute on so many threads for a while; None leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
