"""Total readers of JSON values: whatever a verdict holds, they return the type that was asked for.

A run that halted early leaves parts out, and evidence is free-form; so a value of another kind
reads as absent, never as an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "as_confusion",
    "as_json",
    "as_mapping",
    "as_number",
    "as_numbers",
    "as_pair",
    "as_rows",
    "as_text",
    "as_texts",
]


# More rows than this no test set has, and beyond it floats cannot count.
LARGEST_COUNT = 2**53


def as_json(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a verdict as its file holds it, so that a report of either is the same."""
    content: dict[str, Any] = json.loads(json.dumps(verdict, default=str))
    return content


def as_mapping(value: object) -> dict[str, Any]:
    """Return a JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def as_rows(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in a list; anything else is left out."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def as_number(value: object) -> float | None:
    """Return a finite number, also from decimal text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_numbers(value: object) -> list[float]:
    """Return the finite numbers in a list."""
    items = value if isinstance(value, list) else []
    return [number for number in map(as_number, items) if number is not None]


def as_pair(value: object) -> tuple[float, float] | None:
    """Return the two ends of an interval, or None."""
    numbers = as_numbers(value)
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def as_confusion(value: object) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return a confusion matrix, rows truth and columns prediction, or None if it is not one."""
    rows = [as_numbers(row) for row in value] if isinstance(value, list) else []
    is_matrix = [len(row) for row in rows] == [2, 2] and all(
        0 <= count <= LARGEST_COUNT for row in rows for count in row
    )
    return ((rows[0][0], rows[0][1]), (rows[1][0], rows[1][1])) if is_matrix else None


def as_text(value: object) -> str:
    """Return a text; a number as text; empty for anything else."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else ""


def as_texts(value: object) -> tuple[str, ...]:
    """Return the non-empty texts in a list."""
    items = value if isinstance(value, list) else []
    return tuple(text for text in map(as_text, items) if text)
