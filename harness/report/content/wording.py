"""Numbers and names as a reader expects them: rounded, with units, the same in every report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from harness.report.content.document import Column
from harness.report.content.reading import as_mapping, as_text

__all__ = [
    "ABSENT",
    "label",
    "show_bytes",
    "show_change",
    "show_count",
    "show_moment",
    "show_number",
    "show_percent",
    "show_points",
    "show_range",
    "show_seconds",
    "side_columns",
    "side_name",
]

ABSENT = "\N{EN DASH}"

# The unit that ends a name in the verdict, and how a reader finds it in a heading.
_UNITS = {
    "seconds": "s",
    "points": "points",
    "percent": "%",
    "bytes": "bytes",
    "residues": "residues",
}
_ACRONYMS = {
    "gc": "GC",
    "id": "id",
    "n": "n",
    "p": "p",
    "roc": "ROC",
    "auc": "AUC",
    "cpu": "CPU",
    "lr": "LR",
}


def label(name: str) -> str:
    """Return a JSON key as a heading.

    Examples
    --------
    >>> label("upper_bound_points")
    'Upper bound (points)'
    >>> label("n_records")
    'Records (n)'
    """
    words = name.replace("_", " ").replace("-", " ").split()
    if len(words) > 1 and words[0] == "n":
        return f"{label(' '.join(words[1:]))} (n)"
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    words = [_ACRONYMS.get(word, word) for word in (words[:-1] if unit else words)]
    text = " ".join(words) or name
    heading = text[:1].upper() + text[1:] if words and words[0] not in _ACRONYMS else text
    return f"{heading} ({unit})" if unit else heading


def show_number(number: float | None, digits: int = 4) -> str:
    """Return a number with ``digits`` significant digits, whole numbers in full."""
    if number is None:
        return ABSENT
    if number == int(number) and abs(number) < 1e15:
        return show_count(number)
    if 1000 <= abs(number) < 1e15:
        return show_count(round(number))
    return f"{number:.{digits}g}".replace("-", "\N{MINUS SIGN}", 1 if number < 0 else 0)


def show_count(number: float | None) -> str:
    """Return a whole number with its thousands set apart."""
    return ABSENT if number is None else f"{int(number):,}".replace("-", "\N{MINUS SIGN}")


def show_percent(share: float | None, digits: int = 2) -> str:
    """Return a share of 1 in percent."""
    return ABSENT if share is None else f"{_fixed(100 * share, digits)}%"


def show_change(number: float, digits: int) -> str:
    """Return a difference with its sign."""
    text = _fixed(number, digits)
    return text if number <= 0 else f"+{text}"


def show_seconds(seconds: float | None) -> str:
    """Return a duration in seconds, from a minute on in minutes and hours as well."""
    if seconds is None:
        return ABSENT
    text = f"{_fixed(seconds, 3 if abs(seconds) < 10 else 1)} s"
    if seconds < 60 or seconds >= 1e9:
        return text
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def show_bytes(count: float | None) -> str:
    """Return a size in MiB or GiB."""
    if count is None:
        return ABSENT
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def show_moment(text: str) -> str:
    """Return a moment in ISO 8601 to the minute, in UTC; any other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
        return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment.tzinfo else text
    except (ValueError, OverflowError):
        return text


def show_points(points: float | None) -> str:
    """Return percentage points to the hundredth."""
    return ABSENT if points is None else _fixed(points, 2)


def show_range(
    ends: tuple[float, float] | None, *, scale: float = 1, digits: int = 2, unit: str = ""
) -> str:
    """Return an interval as ``a to b``; empty if there is none."""
    if ends is None:
        return ""
    low, high = (_fixed(scale * end, digits) for end in ends)
    return f"{low} to {high}{unit}"


def side_name(verdict: Mapping[str, Any], side: str) -> str:
    """Return what a side's model is called, marked where its weights are random."""
    facts = as_mapping(verdict.get(side))
    name = as_text(facts.get("name")) or side.capitalize()
    return f"{name} (random weights)" if facts.get("is_random") is True else name


def side_columns(verdict: Mapping[str, Any]) -> tuple[Column, Column]:
    """Return one column of numbers for each side, under its model's name."""
    baseline, candidate = (side_name(verdict, side) for side in ("baseline", "candidate"))
    return (
        Column(title=f"Baseline: {baseline}", kind="number"),
        Column(title=f"Candidate: {candidate}", kind="number"),
    )


def _fixed(number: float, digits: int) -> str:
    text = f"{number:.{digits}f}" if abs(number) < 1e12 else f"{number:.3g}"
    is_zero = not text.strip("-0.")
    return (
        text.lstrip("-") if is_zero else text.replace("-", "\N{MINUS SIGN}", 1 if number < 0 else 0)
    )
