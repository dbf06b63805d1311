"""The words about a measurement of the embedding time: what was found, and what to do about it.

Every sentence is made from the rounds and from what was observed around them. Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from statistics import fmean, stdev
from typing import Any

from harness.gate.result import State, decimal_text
from harness.gate.speed.attempts import Attempt

__all__ = ["advise_on_slowness", "advise_on_time", "describe_attempt", "noise_warnings"]

# Spread or drift that a reader should know about; neither changes the state.
NOISE_WARNING = 0.05
# Runs shorter than this are easily disturbed.
SHORT_RUN_SECONDS = 1.0
# What all models pay alike is worth a word from this share of a run on.
NOTABLE_TOKENISATION = 0.1


def describe_attempt(attempt: Attempt, ratio: Fraction, limit: Fraction, state: State) -> str:
    """Return one or two sentences: the ratio, the mean times, and what made it inconclusive."""
    text = (
        f"The candidate needs {float(ratio):.1%} of the baseline's time: "
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
            f"The candidate would have to become {float(1 - limit / ratio):.0%} faster: "
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
    if causes.get("as_deployed_ratio") and causes["baseline_dtype"] != causes["candidate_dtype"]:
        steps.append(
            f"As deployed (baseline {causes['baseline_dtype']}, candidate "
            f"{causes['candidate_dtype']}) the candidate needs {causes['as_deployed_ratio']:.1%} "
            f"of the time; with both in {causes['candidate_dtype']}, as is judged, the model alone "
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
