"""Timing the embedding of both sides: the same sequences, in the same order, warmed up.

The binding comparison is matched: both sides in the candidate's dtype, by the same engine. Its
rounds are run by pytest-benchmark in the acceptance tests; only the repetition of an inconclusive
measurement is run here. What the rounds mean is judged in ``harness.criteria.speed``.

Equal batches for both sides of a timed comparison, and what became of them on a full device.

An embedder halves its batches where the device's memory does not suffice; how fast it is then says
as much about the memory as about the model.

Why the candidate is faster: the model, the precision, the batching. Reported, never gated.

A few rounds outside the timed ones. The binding comparison is ``harness.pipeline.stopwatch``'s.

How many threads torch computes on.
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

from harness.criteria.embedding_integrity import TOLERANCE
from harness.criteria.neighbours import Observation
from harness.criteria.result import CriterionResult, State, decimal_text
from harness.criteria.speed import (
    Attempt,
    advise_on_slowness,
    judge_attempts,
    read_clock,
    time_rounds,
)
from harness.embedding.embedder import Abilities, Embedder
from harness.errors import ArtifactError

__all__ = [
    "Causes",
    "Stopwatch",
    "compute_threads",
    "measure_causes",
    "observe_batches",
    "shared_budget",
]


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


# Warm-up ends when two consecutive runs differ by less than this share, or after so many runs.
STEADY = 0.02
MAX_WARM_UPS = 10

Vectors = npt.NDArray[np.float32]


class Stopwatch:
    """The workload of both sides and the rounds measured so far.

    Parameters
    ----------
    embedders : mapping of side to Embedder
        ``baseline`` and ``candidate``, both in the candidate's dtype. They are given equal batches.
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
    dtype : str
        What both embedders compute in.
    deployed : Embedder, optional
        The baseline in its own dtype, to tell the causes of the speed-up apart.
    observe : callable
        Looks at what else uses the device; called before and after each side's rounds.
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
        self.runs = runs
        self._embedders = embedders
        self._abilities = {side: Abilities(embedder) for side, embedder in embedders.items()}
        self._shared_budget: int | None = None  # most tokens in a batch of either side
        self._proteins = list(proteins)
        self._stored = stored
        self._limit_ratio = limit_ratio
        self._attempts = attempts
        self._dtype = dtype
        self._deployed = deployed
        dtypes = {"candidate": {dtype}, "baseline": {dtype, deployed.dtype if deployed else dtype}}
        self._tolerances = {s: max(TOLERANCE[d] for d in found) for s, found in dtypes.items()}
        self._observe = observe
        self._clock = clock
        self._observations: list[Observation] = []
        self._seconds: dict[str, tuple[float, ...]] = {}
        self._cpu_seconds: dict[str, list[float]] = {"baseline": [], "candidate": []}
        self._warm_ups: dict[str, list[float]] = {}
        self._latest: dict[str, Vectors] = {}
        self._budgets: list[int] = []  # tokens in a batch, before and after each round
        self.result: CriterionResult | None = None

    def work(self, side: str) -> Callable[[], None]:
        """Return what one round of a side runs: strings on the host in, vectors on the host out."""

        def embed() -> None:
            embedder, cpu_started = self._embedders[side], time.process_time()
            self._budgets += self._budget(side)
            self._latest[side] = embedder.embed(self._proteins, token_budget=self._shared_budget)
            self._cpu_seconds[side].append(time.process_time() - cpu_started)
            self._budgets += self._budget(side)

        return embed

    def warmed_up(self, side: str) -> Callable[[], None]:
        """Run a side until two consecutive runs are alike, at most ten times; return its work."""
        self._shared_budget = shared_budget(self._abilities.values())
        work, n_counted = self.work(side), len(self._budgets)
        seconds = list(time_rounds(work, 2, clock=self._clock))
        while len(seconds) < MAX_WARM_UPS and not _is_steady(seconds):
            seconds += time_rounds(work, 1, clock=self._clock)
        self._warm_ups[side] = seconds
        self._cpu_seconds[side].clear()
        del self._budgets[n_counted:]
        self._observations.append(self._observe())
        return work

    def keep(self, name: str, seconds: Sequence[float]) -> None:
        """Keep the measured rounds of ``baseline``, ``candidate`` or ``closing`` (baseline)."""
        self._seconds[name] = tuple(seconds)
        self._observations.append(self._observe())

    def judge(self) -> CriterionResult:
        """Judge the kept rounds; measure again, whole, while the answer is inconclusive.

        Raises
        ------
        ArtifactError
            If a round is missing, or the timed embeddings are not those that the heads were judged
            on.
        """
        attempts = [self._first_attempt()]
        result = judge_attempts(attempts, limit_ratio=self._limit_ratio)
        while result.state is State.INCONCLUSIVE and len(attempts) < self._attempts:
            attempts.append(self._another_attempt())
            result = judge_attempts(attempts, limit_ratio=self._limit_ratio)
        for side in self._stored:
            self._check(side, self._latest[side], self._tolerances[side])
        result = replace(result, evidence=result.evidence | self._workload())
        result = self._with_causes(self._with_engines(result))
        if result.state is State.FAIL:
            steps = advise_on_slowness(result.evidence)
            result = replace(result, next_steps=(*result.next_steps, *steps))
        self.result = result
        return result

    def _first_attempt(self) -> Attempt:
        names = ("baseline", "candidate", "closing")
        if missing := [name for name in names if name not in self._seconds]:
            raise ArtifactError(
                f"the {missing[0]} rounds were not timed: run acceptance/ whole, without -k"
            )
        return Attempt.observed(
            [*self._observations, observe_batches(self._budgets)],
            baseline_seconds=self._seconds["baseline"],
            candidate_seconds=self._seconds["candidate"],
            closing_baseline_seconds=self._seconds["closing"],
        )

    def _another_attempt(self) -> Attempt:
        self._shared_budget = shared_budget(self._abilities.values())
        self._budgets.clear()
        before = self._observe()
        seconds = {
            f"{name}_seconds": time_rounds(self.work(side), rounds, clock=self._clock)
            for name, side, rounds in (
                ("baseline", "baseline", self.runs),
                ("candidate", "candidate", self.runs),
                ("closing_baseline", "baseline", 1),
            )
        }
        seen = [before, self._observe(), observe_batches(self._budgets)]
        return Attempt.observed(seen, **seconds)

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

    def _check(self, side: str, timed: Vectors, tolerance: float) -> None:
        """Raise unless the vectors are the stored ones, relative to the largest stored value."""
        stored = self._stored[side]
        if timed.shape == stored.shape:
            scale = max(float(np.abs(stored).max()), 1e-30)
            if float(np.abs(timed - stored).max()) <= tolerance * scale:
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
        ratio = causes.as_deployed_ratio
        warning = (
            f"As deployed (baseline {causes.baseline_dtype}, candidate {causes.candidate_dtype}), "
            f"the candidate needs {ratio or 0:.1%} of the baseline's time; the limit of "
            f"{decimal_text(self._limit_ratio)} holds for equal dtypes"
        )
        differ = causes.baseline_dtype != causes.candidate_dtype
        is_slow = differ and ratio is not None and ratio > self._limit_ratio
        return replace(
            result,
            evidence=result.evidence | {"speed_up": causes.to_dict()},
            warnings=(*result.warnings, warning) if is_slow else result.warnings,
        )

    def _measure_causes(self, deployed: Embedder, result: CriterionResult) -> Causes:
        def work() -> None:
            self._check("baseline", deployed.embed(self._proteins), TOLERANCE[deployed.dtype])

        return measure_causes(
            deployed,
            self._proteins,
            candidate_dtype=self._dtype,
            matched_seconds=result.evidence["baseline_seconds"],
            candidate_seconds=result.evidence["candidate_seconds"],
            deployed_work=work,
            clock=self._clock,
        )

    def _workload(self) -> dict[str, Any]:
        budgets = {side: self._budget(side) for side in self._embedders}
        return {
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
        return list(time_rounds(lambda: tokenise(self._proteins), self.runs, clock=self._clock))


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
