"""One measurement of the embedding time: its rounds, and what was observed around them.

Whether it passes is decided in ``harness.gate.speed.criterion``, what is said about it in
``harness.gate.speed.advice``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from harness.gate.speed.neighbours import Observation

__all__ = ["Attempt"]


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
