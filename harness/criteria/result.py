"""What judging one criterion yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

__all__ = [
    "CriterionResult",
    "State",
    "decimal_text",
    "ratios_of",
]


class State(StrEnum):
    """How a criterion came out. Everything but PASS blocks a deployment."""

    PASS = "PASS"  # noqa: S105 - a state, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_RUN = "NOT_RUN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionResult:
    """One requirement, judged.

    Attributes
    ----------
    id : str
        The criterion, such as ``accuracy-drop``.
    state : State
        How it came out.
    value : Fraction or None
        The number that was compared, exact; None where there is none.
    limit : Fraction or None
        What it was compared with, exact.
    unit : str
        Unit of value, limit and interval, such as ``points``.
    interval : tuple of float or None
        Lower and upper end of the value's interval.
    detail : str
        One or two sentences: what was found.
    warnings : tuple of str
        Notes that do not change the state.
    reservations : tuple of str
        Notes that stand with the verdict at the top of every report; they change no state either.
    next_steps : tuple of str
        What to do about a state other than PASS, most useful first.
    evidence : dict of JSON values
        The numbers behind it, for the reports.
    """

    id: str
    state: State
    detail: str
    value: Fraction | None = None
    limit: Fraction | None = None
    unit: str = ""
    interval: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()
    reservations: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry for ``verdict.json``: rounded values for reading, exact ones beside."""
        return {
            "id": self.id,
            "state": self.state.value,
            "value": None if self.value is None else decimal_text(self.value),
            "numerator": None if self.value is None else self.value.numerator,
            "denominator": None if self.value is None else self.value.denominator,
            "limit": None if self.limit is None else decimal_text(self.limit),
            "unit": self.unit,
            "interval": None if self.interval is None else [decimal_text(x) for x in self.interval],
            "detail": self.detail,
            "warnings": list(self.warnings),
            "reservations": list(self.reservations),
            "next_steps": list(self.next_steps),
            "evidence": self.evidence,
        }


def ratios_of(tn: Any, fp: Any, fn: Any, tp: Any) -> dict[str, tuple[Any, Any]]:
    """Return the ratios of confusion matrices, given counts or arrays of counts.

    Returns
    -------
    dict of str to tuple
        Numerator and denominator; a metric whose denominator is 0 is undefined.
    """
    return {
        "accuracy": (tp + tn, tp + tn + fp + fn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
    }


def decimal_text(number: Fraction | float) -> str:
    """Return a number as decimal text for reading: at most four places, no trailing zeros.

    Examples
    --------
    >>> decimal_text(Fraction(5, 4))
    '1.25'
    >>> decimal_text(Fraction(5))
    '5'
    """
    text = f"{float(number):.4f}"
    trimmed = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if trimmed == "-0" else trimmed
