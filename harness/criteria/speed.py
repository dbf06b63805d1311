"""The embedding-time criterion: the clock, the rule of all pairs, the rule of repeated attempts.

Owns what follows from timed rounds and from what was observed around them: the state, and every
sentence about it. What is timed, and in which order, is decided by who runs the rounds.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from statistics import fmean, stdev
from typing import Any, Self

from harness.config import DEPLOYMENT_TIME_RATIO
from harness.criteria.criterion import FAILS, PASSES, Bench, Fault, Run
from harness.criteria.neighbours import Observation
from harness.criteria.result import CriterionResult, State, decimal_text

__all__ = [
    "FAULTS",
    "Attempt",
    "advise_on_slowness",
    "checked_clock",
    "describe_pace",
    "judge",
    "judge_attempts",
    "judge_time",
    "measure_until_settled",
    "read_clock",
    "time_rounds",
]


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


def judge(run: Run) -> CriterionResult:
    """Judge the rounds that the run has timed, by ``judge_attempts``."""
    return run.timing()


def judge_time(
    baseline_seconds: Sequence[float],
    candidate_seconds: Sequence[float],
    *,
    limit_ratio: str | Fraction = DEPLOYMENT_TIME_RATIO,
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
        Baseline rounds after the candidate's last; they count as baseline runs in the pairs, not in
        the mean.

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


def judge_attempts(attempts: Sequence[Attempt], *, limit_ratio: str | Fraction) -> CriterionResult:
    """Judge repeated measurements: more than half of them must agree; all are kept as evidence.

    Raises
    ------
    ValueError
        If there is no attempt, or one without runs on either side.

    Notes
    -----
    If the first that is settled counted, a candidate over the limit would pass ever more often the
    more attempts it had. With more than half to agree, one attempt decides as before, an
    INCONCLUSIVE one takes two others that agree, and the chance of a false PASS stays below that of
    one attempt plus a few of its squares, however many there are. A disturbed attempt is void,
    whatever it measured, and counts on neither side.
    """
    if not attempts:
        raise ValueError("expected at least one attempt")
    limit = Fraction(limit_ratio)
    results = [_judge(attempt, limit) for attempt in attempts]
    state = _agreed(_votes(attempts, results))
    matching = [result for result in results if result.state is state]
    chosen = matching[-1] if matching else replace(results[-1], state=state)
    evidence = chosen.evidence | {"attempts": [attempt.to_dict() for attempt in attempts]}
    return replace(chosen, evidence=evidence)


def measure_until_settled(
    measure: Callable[[], Attempt], *, attempts: int, limit_ratio: str | Fraction
) -> CriterionResult:
    """Measure, and again while the attempts disagree and those left could still settle it.

    Parameters
    ----------
    measure : callable
        Makes one attempt.
    attempts : int
        How many are made at most.
    limit_ratio : str or Fraction
        The largest ratio that passes.
    """
    made = [measure()]
    result = judge_attempts(made, limit_ratio=limit_ratio)
    while result.state is State.INCONCLUSIVE and (left := attempts - len(made)) > 0:
        votes = _votes(made, [_judge(attempt, Fraction(limit_ratio)) for attempt in made])
        hopes = (State.PASS, State.FAIL)
        if all(_agreed([*votes, *[hope] * left]) is not hope for hope in hopes):
            break
        made.append(measure())
        result = judge_attempts(made, limit_ratio=limit_ratio)
    return result


def _votes(attempts: Sequence[Attempt], results: Sequence[CriterionResult]) -> list[State]:
    """Return the states of the attempts that were not disturbed."""
    pairs = zip(attempts, results, strict=True)
    return [result.state for attempt, result in pairs if not attempt.disturbances]


def _agreed(votes: Sequence[State]) -> State:
    """Return what more than half say: INCONCLUSIVE where that is nothing."""
    settled = (State.PASS, State.FAIL)
    return next((s for s in settled if 2 * votes.count(s) > len(votes)), State.INCONCLUSIVE)


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
        unit="times the baseline's time",
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
        unit="times the baseline's time",
        detail=f"A run took {bad} s, which is no time: the clock or the workload is broken.",
        next_steps=(
            f"Check the clock and the number of sequences: the runs were {_listed(runs)} s.",
            "Measure again on a clock that runs.",
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
        What made the rounds incomparable, such as other work on the device; any makes the attempt
        inconclusive.
    warnings : tuple of str
        What may have slowed a round; changes no state.
    readings : tuple of dict of JSON values
        Clocks, temperature or load, in the order they were read.
    """

    baseline_seconds: tuple[float, ...]
    candidate_seconds: tuple[float, ...]
    closing_baseline_seconds: tuple[float, ...] = ()
    disturbances: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    readings: tuple[dict[str, Any], ...] = ()

    @classmethod
    def observed(cls, observations: Sequence[Observation], **seconds: tuple[float, ...]) -> Self:
        """Put together rounds and what was observed around them; each thing is named once."""
        return cls(
            **seconds,
            disturbances=tuple(dict.fromkeys(d for o in observations for d in o.disturbances)),
            warnings=tuple(dict.fromkeys(w for o in observations for w in o.warnings)),
            readings=tuple(o.readings for o in observations if o.readings),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; a reading that is not finite becomes text."""
        values = {name: list(value) for name, value in asdict(self).items()}
        runs = {n: list(map(_json_number, v)) for n, v in values.items() if n.endswith("_seconds")}
        return values | runs


def _json_number(seconds: float) -> float | str:
    return seconds if math.isfinite(seconds) else str(seconds)


# Spread or drift that a reader should know about; neither changes the state.
NOISE_WARNING = 0.05
# Runs shorter than this are easily disturbed.
SHORT_RUN_SECONDS = 1.0
# What all models pay alike is worth a word from this share of a run on.
NOTABLE_TOKENISATION = 0.1


def describe_pace(ratio: Fraction | float) -> str:
    """Return a ratio of times as words between the candidate and what it is measured against."""
    if ratio > 1:
        return f"takes {float(ratio):.3g} times as long as"
    return f"is {float(1 / ratio):.3g} times as fast as"


def describe_attempt(attempt: Attempt, ratio: Fraction, limit: Fraction, state: State) -> str:
    """Return one or two sentences: the ratio, the mean times, and what made it inconclusive."""
    text = (
        f"The candidate {describe_pace(ratio)} the baseline: "
        f"{fmean(attempt.candidate_seconds):.3g} s against {fmean(attempt.baseline_seconds):.3g} s "
        f"a run, {len(attempt.candidate_seconds)} runs each."
    )
    if attempt.disturbances:
        return f"{text} The measurement was disturbed: {'; '.join(attempt.disturbances)}."
    if state is State.INCONCLUSIVE:
        return f"{text} Single runs lie on both sides of {decimal_text(limit)}: noise could decide."
    return text


def noise_warnings(attempt: Attempt) -> tuple[str, ...]:
    """Return what a reader should know of spread, drift and other programs."""
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
    return (*found, *attempt.warnings)


def advise_on_time(
    attempt: Attempt,
    state: State,
    ratio: Fraction,
    limit: Fraction,
    *,
    pairs: tuple[float, float],
) -> tuple[str, ...]:
    """Return what to do about a state other than PASS, most useful first.

    Parameters
    ----------
    attempt : Attempt
        What was measured.
    state : State
        How it came out.
    ratio, limit : Fraction
        The candidate's mean time over the baseline's, and the largest that passes.
    pairs : (float, float)
        Smallest and largest ratio of single runs.
    """
    if state is State.PASS:
        return ()
    if state is State.FAIL:
        seconds = fmean(attempt.baseline_seconds) * float(limit)
        return (
            f"The candidate would have to become {float(ratio / limit):.3g} times as fast: "
            f"{seconds:.3g} s a run are allowed, and it takes "
            f"{fmean(attempt.candidate_seconds):.3g} s.",
        )
    if attempt.disturbances:
        return (
            f"Leave the device to the gate alone ({'; '.join(attempt.disturbances)}), then run "
            "the gate again.",
        )
    return tuple(_steps_against_noise(attempt, ratio, limit, pairs))


def advise_on_slowness(evidence: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what a failed measurement consists of: what tokenisation and precision make of it.

    Parameters
    ----------
    evidence : mapping
        ``candidate_seconds`` and, where they were measured, ``tokenisation_seconds`` and
        ``speed_up``.
    """
    steps = []
    run, tokenising = fmean(evidence["candidate_seconds"]), evidence.get("tokenisation_seconds")
    if tokenising and (share := fmean(tokenising) / run) > NOTABLE_TOKENISATION:
        steps.append(
            f"Tokenisation, the same for both, takes {share:.0%} of a candidate run "
            f"({fmean(tokenising):.3g} s): make it faster, or its share smaller."
        )
    causes = evidence.get("speed_up") or {}
    ratio = causes.get("as_deployed_ratio")
    if ratio and causes["baseline_dtype"] != causes["candidate_dtype"]:
        steps.append(
            f"As deployed (baseline {causes['baseline_dtype']}, candidate "
            f"{causes['candidate_dtype']}) the candidate {describe_pace(ratio)} the "
            f"baseline; with both in {causes['candidate_dtype']}, as is judged, the model alone "
            "must be fast enough."
        )
    return tuple(steps)


def _steps_against_noise(
    attempt: Attempt, ratio: Fraction, limit: Fraction, pairs: tuple[float, float]
) -> Iterator[str]:
    yield from _name_neighbours(attempt)
    yield from _name_changed_clocks(attempt)
    yield (
        f"Have the runs agree better: pairs of them range from {pairs[0]:.1%} to {pairs[1]:.1%} "
        f"around {float(ratio):.1%}, and none may reach {float(limit):.1%}, which is "
        f"{abs(float(limit / ratio) - 1):.1%} away."
    )
    shortest = min(fmean(attempt.baseline_seconds), fmean(attempt.candidate_seconds))
    if shortest < SHORT_RUN_SECONDS:
        yield f"Raise [timing] sequences: a run of {shortest:.2g} s is easily disturbed."


def _name_neighbours(attempt: Attempt) -> Iterator[str]:
    """Name the programs that ran where the load was too high; else what the warnings name."""
    programs = dict.fromkeys(p for r in attempt.readings for p in r.get("running", ()))
    loads = [r["load_average"] for r in attempt.readings if "load_average" in r]
    if attempt.warnings and programs:
        yield f"Stop what else ran: {', '.join(programs)} (load average up to {max(loads):.1f})."
    else:
        yield from (f"Make sure that nothing else runs: {warning}." for warning in attempt.warnings)


def _name_changed_clocks(attempt: Attempt) -> Iterator[str]:
    clocks = dict.fromkeys(r["sm_clock"] for r in attempt.readings if "sm_clock" in r)
    if len(clocks) > 1:
        yield f"Fix the GPU's clock (nvidia-smi --lock-gpu-clocks): it read {', '.join(clocks)}."


def _at_percent(percent: Fraction) -> Fault:
    """Return a candidate that takes that share of the baseline's time."""

    def plant(bench: Bench) -> Run:
        return bench.with_seconds(baseline=100.0, candidate=float(percent))

    expected = PASSES if percent <= LIMIT_PERCENT else FAILS
    return Fault(name=f"{float(percent):g}% of the time", expected=expected, plant=plant)


LIMIT_PERCENT = 100 * DEPLOYMENT_TIME_RATIO
FAULTS = (
    Fault(
        name="candidate = baseline: time",
        expected=FAILS,
        plant=lambda bench: bench.with_same_model(),
    ),
    _at_percent(LIMIT_PERCENT * Fraction(51, 50)),
    _at_percent(LIMIT_PERCENT),
)
