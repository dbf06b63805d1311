"""The embedding-time criterion: the clock, the all-pairs rule, repeated attempts.

What is timed, and in which order, is decided by the acceptance tests; here are only readings and
what follows from them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from harness.gate.result import CriterionResult, State
from harness.gate.speed.advice import advise_on_time, describe_attempt, noise_warnings
from harness.gate.speed.attempts import Attempt

__all__ = ["Attempt", "checked_clock", "judge_attempts", "judge_time", "read_clock", "time_rounds"]


def read_clock() -> float:
    """Return seconds of a monotonic clock, once the device has finished all work given to it.

    Raises
    ------
    ValueError
        If the reading is not finite.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            if torch.cuda.memory_reserved(index):  # others would only get a context of their own
                torch.cuda.synchronize(index)
    return _finite(time.perf_counter())


def checked_clock(clock: Callable[[], float]) -> Callable[[], float]:
    """Return a clock that raises ValueError where ``clock`` gives a reading that is not finite."""
    return lambda: _finite(clock())


def time_rounds(
    work: Callable[[], object], rounds: int, *, clock: Callable[[], float] = read_clock
) -> tuple[float, ...]:
    """Return how many seconds each of ``rounds`` calls of ``work`` took, one by one."""
    seconds = []
    for _ in range(rounds):
        started = clock()
        work()
        seconds.append(clock() - started)
    return tuple(seconds)


def judge_time(
    baseline_seconds: Sequence[float],
    candidate_seconds: Sequence[float],
    *,
    limit_ratio: str | Fraction = "0.50",
    closing_baseline_seconds: Sequence[float] = (),
) -> CriterionResult:
    """Judge whether the candidate needs at most ``limit_ratio`` of the baseline's time.

    Parameters
    ----------
    baseline_seconds, candidate_seconds : sequence of float
        The timed rounds, in seconds, of the same work.
    limit_ratio : str or Fraction
        The largest ratio of the means that passes, inclusive.
    closing_baseline_seconds : sequence of float
        Baseline rounds run at the very end; they count as baseline runs in the pairs, not in the
        mean.

    Returns
    -------
    CriterionResult
        PASS if the ratio of the means is within the limit and so is every pair of runs; FAIL if
        neither is; INCONCLUSIVE if the runs disagree or one is not a finite, positive time. The
        interval is that of all pairs.

    Notes
    -----
    All comparisons are exact: a float is a rational number. 'Every pair' is the exact rank test of
    three runs against four; at the boundary it errs 1 time in 35.
    """
    attempt = Attempt(
        baseline_seconds=tuple(baseline_seconds),
        candidate_seconds=tuple(candidate_seconds),
        closing_baseline_seconds=tuple(closing_baseline_seconds),
    )
    return judge_attempts([attempt], limit_ratio=limit_ratio)


def judge_attempts(
    attempts: Sequence[Attempt], *, limit_ratio: str | Fraction = "0.50"
) -> CriterionResult:
    """Judge repeated measurements: the first that is settled counts, all are kept as evidence.

    Raises
    ------
    ValueError
        If there is no attempt, or one without runs on either side.
    """
    if not attempts:
        raise ValueError("expected at least one attempt")
    limit = Fraction(limit_ratio)
    results = [_judge(attempt, limit) for attempt in attempts]
    settled = [r for r in results if r.state is not State.INCONCLUSIVE]
    chosen = settled[0] if settled else results[-1]
    evidence = chosen.evidence | {"attempts": [attempt.to_dict() for attempt in attempts]}
    return replace(chosen, evidence=evidence)


def _judge(attempt: Attempt, limit: Fraction) -> CriterionResult:
    if not (attempt.baseline_seconds and attempt.candidate_seconds):
        raise ValueError("expected at least one run of the baseline and of the candidate")
    baselines = attempt.baseline_seconds + attempt.closing_baseline_seconds
    runs = baselines + attempt.candidate_seconds
    if not all(math.isfinite(x) and x > 0 for x in runs):
        return _unmeasured(attempt, limit, runs)
    baseline = [Fraction(x) for x in baselines]
    candidate = [Fraction(x) for x in attempt.candidate_seconds]
    ratio = _mean(candidate) / _mean(baseline[: len(attempt.baseline_seconds)])
    lowest, highest = min(candidate) / max(baseline), max(candidate) / min(baseline)
    state = _state(ratio, lowest, highest, limit, is_disturbed=bool(attempt.disturbances))
    return CriterionResult(
        id="embedding-time",
        state=state,
        value=ratio,
        limit=limit,
        unit="of the baseline's time",
        interval=(float(lowest), float(highest)),
        detail=describe_attempt(attempt, ratio, limit, state),
        warnings=noise_warnings(attempt),
        next_steps=advise_on_time(
            attempt, state, ratio, limit, pairs=(float(lowest), float(highest))
        ),
        evidence=attempt.to_dict() | {"ratio": float(ratio)},
    )


def _state(
    ratio: Fraction, lowest: Fraction, highest: Fraction, limit: Fraction, *, is_disturbed: bool
) -> State:
    if is_disturbed:
        return State.INCONCLUSIVE
    if ratio <= limit and highest <= limit:
        return State.PASS
    if ratio > limit and lowest > limit:
        return State.FAIL
    return State.INCONCLUSIVE


def _unmeasured(attempt: Attempt, limit: Fraction, runs: Sequence[float]) -> CriterionResult:
    bad = next(x for x in runs if not (math.isfinite(x) and x > 0))
    return CriterionResult(
        id="embedding-time",
        state=State.INCONCLUSIVE,
        limit=limit,
        unit="of the baseline's time",
        detail=f"A run took {bad} s, which is no time: the clock or the workload is broken.",
        next_steps=(
            f"Check the clock and the number of sequences: the runs were {_listed(runs)} s.",
            "Raise [timing] sequences until a run takes at least a second, then measure again.",
        ),
        evidence=attempt.to_dict(),
    )


def _listed(runs: Sequence[float]) -> str:
    return ", ".join(f"{seconds:.3g}" for seconds in runs)


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


def _finite(reading: float) -> float:
    if not math.isfinite(reading):
        raise ValueError(f"the clock returned {reading}; expected finite seconds")
    return reading
