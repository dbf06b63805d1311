"""The embedding-time criterion: the clock, the all-pairs rule, repeated attempts.

What is timed, and in which order, is decided by the acceptance tests; here are only readings and
what follows from them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean, stdev
from typing import Any

from harness.gate.result import CriterionResult, State, decimal_text

__all__ = ["Attempt", "checked_clock", "judge_attempts", "judge_time", "read_clock", "time_rounds"]

# Spread or drift that a reader should know about; neither changes the state.
NOISE_WARNING = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One whole measurement, in seconds.

    Attributes
    ----------
    baseline_seconds, candidate_seconds : tuple of float
        The timed rounds, in the order they were run.
    closing_baseline_seconds : tuple of float
        Baseline rounds run after the candidate's, to catch a drifting machine.
    disturbances : tuple of str
        What else used the device meanwhile; any makes the attempt inconclusive.
    """

    baseline_seconds: tuple[float, ...]
    candidate_seconds: tuple[float, ...]
    closing_baseline_seconds: tuple[float, ...] = ()
    disturbances: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; a reading that is not finite becomes text."""
        return {
            "baseline_seconds": [_json_number(x) for x in self.baseline_seconds],
            "candidate_seconds": [_json_number(x) for x in self.candidate_seconds],
            "closing_baseline_seconds": [_json_number(x) for x in self.closing_baseline_seconds],
            "disturbances": list(self.disturbances),
        }


def read_clock() -> float:
    """Return seconds of a monotonic clock, once the device has finished all work given to it.

    Raises
    ------
    ValueError
        If the reading is not finite.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
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
    return CriterionResult(
        id=chosen.id,
        state=chosen.state,
        value=chosen.value,
        limit=chosen.limit,
        unit=chosen.unit,
        interval=chosen.interval,
        detail=chosen.detail,
        warnings=chosen.warnings,
        next_steps=chosen.next_steps,
        evidence=evidence,
    )


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
        detail=_detail(attempt, ratio, limit, state),
        warnings=_noise_warnings(attempt),
        next_steps=_next_steps(attempt, state, ratio, limit),
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
        next_steps=("Measure again with at least a second of work per run.",),
        evidence=attempt.to_dict(),
    )


def _detail(attempt: Attempt, ratio: Fraction, limit: Fraction, state: State) -> str:
    text = (
        f"The candidate needs {float(ratio):.1%} of the baseline's time: "
        f"{fmean(attempt.candidate_seconds):.3g} s against {fmean(attempt.baseline_seconds):.3g} s "
        f"a run, {len(attempt.candidate_seconds)} runs each."
    )
    if attempt.disturbances:
        return f"{text} Something else used the device: {'; '.join(attempt.disturbances)}."
    if state is State.INCONCLUSIVE:
        return f"{text} Single runs lie on both sides of {decimal_text(limit)}: noise could decide."
    return text


def _noise_warnings(attempt: Attempt) -> tuple[str, ...]:
    sides = {"baseline": attempt.baseline_seconds, "candidate": attempt.candidate_seconds}
    spreads = {n: stdev(x) / fmean(x) for n, x in sides.items() if len(x) > 1}
    found = [
        f"The {name}'s runs vary by {spread:.0%} (coefficient of variation)"
        for name, spread in spreads.items()
        if spread > NOISE_WARNING
    ]
    if attempt.closing_baseline_seconds:
        drift = fmean(attempt.closing_baseline_seconds) / fmean(attempt.baseline_seconds) - 1
        if abs(drift) > NOISE_WARNING:
            found.append(f"The baseline drifted by {drift:+.0%} while the candidate was timed")
    return tuple(found)


def _next_steps(
    attempt: Attempt, state: State, ratio: Fraction, limit: Fraction
) -> tuple[str, ...]:
    if state is State.PASS:
        return ()
    if state is State.FAIL:
        shorter = float(1 - limit / ratio)
        return (
            f"The candidate would have to become {shorter:.0%} faster to meet the limit.",
            "Check that both sides ran with the dtype and device that will be deployed.",
        )
    if attempt.disturbances:
        return ("Stop the other work on the device, then run the gate again.",)
    return (
        "Run again on an idle machine: close other programs, fix the clock frequency.",
        "Raise [timing] sequences, so that a run takes longer than the disturbances.",
    )


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


def _finite(reading: float) -> float:
    if not math.isfinite(reading):
        raise ValueError(f"the clock returned {reading}; expected finite seconds")
    return reading


def _json_number(seconds: float) -> float | str:
    return seconds if math.isfinite(seconds) else str(seconds)
