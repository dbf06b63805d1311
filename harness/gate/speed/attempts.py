"""One measurement of the embedding time, and what is said about it in words.

Whether it passes is decided in ``harness.gate.speed.criterion``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from statistics import fmean, stdev
from typing import Any, Self

from harness.gate.result import State, decimal_text
from harness.gate.speed.neighbours import Observation

__all__ = ["Attempt", "advise_on_time", "describe_attempt", "noise_warnings"]

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


def describe_attempt(attempt: Attempt, ratio: Fraction, limit: Fraction, state: State) -> str:
    """Return one or two sentences: the ratio, the mean times, and what made it inconclusive."""
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
    attempt: Attempt, state: State, ratio: Fraction, limit: Fraction
) -> tuple[str, ...]:
    """Return what to do about a state other than PASS, most useful first."""
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
        *(f"Stop what else runs: {warning}." for warning in attempt.warnings),
        "Run again on an idle machine: close other programs, fix the clock frequency.",
        "Raise [timing] sequences, so that a run takes longer than the disturbances.",
    )


def _json_number(seconds: float) -> float | str:
    return seconds if math.isfinite(seconds) else str(seconds)
