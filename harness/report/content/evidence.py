"""Free-form evidence as tables: what a criterion measured, without knowing the criterion."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from harness.report.content.document import Block, Column, Table
from harness.report.content.reading import as_mapping, as_number, as_rows, as_text
from harness.report.content.wording import (
    ABSENT,
    label,
    show_bytes,
    show_number,
    show_seconds,
)

__all__ = ["evidence_blocks", "evidence_of", "rows_table", "show_value"]

# More rows or columns than these help no reader; all of them stand in verdict.json.
MOST_ROWS = 40
MOST_COLUMNS = 12
MOST_CHARACTERS = 300

# Set in fixed width: what is copied rather than read.
_CODE_KEYS = {"id", "sha256", "ids_sha256", "example", "examples", "path"}


def evidence_of(verdict: Mapping[str, Any], criterion: str) -> dict[str, Any]:
    """Return the evidence of one criterion; empty if there is none."""
    rows = as_rows(verdict.get("criteria"))
    found = [as_mapping(row.get("evidence")) for row in rows if row.get("id") == criterion]
    return found[0] if found else {}


def evidence_blocks(
    evidence: Mapping[str, Any], *, title: str, skip: Iterable[str] = ()
) -> list[Block]:
    """Return evidence as tables: single values in one, each list or set of objects in its own."""
    skipped = set(skip)
    shown = {k: v for k, v in evidence.items() if k not in skipped and v not in (None, [], {})}
    tables = {key: rows for key, value in shown.items() if (rows := _as_table(value))}
    facts = {key: value for key, value in shown.items() if key not in tables}
    blocks: list[Block] = [_facts_table(facts, title=title)] if facts else []
    return blocks + [
        rows_table(rows, title=f"{title}: {label(key).lower()}") for key, rows in tables.items()
    ]


def rows_table(rows: list[dict[str, Any]], *, title: str, note: str = "") -> Table:
    """Return a list of objects as a table, one column for each key, in order of appearance."""
    keys = list(dict.fromkeys(key for row in rows for key in row))[:MOST_COLUMNS]
    return Table(
        title=title,
        columns=tuple(Column(title=label(key), kind=_kind(rows, key)) for key in keys),
        rows=tuple(tuple(show_value(row.get(key)) for key in keys) for row in rows[:MOST_ROWS]),
        note=" ".join(filter(None, (note, _rest(len(rows))))),
    )


def show_value(value: object) -> str:
    """Return any JSON value as a short text."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        number = as_number(value)
        return show_number(number) if number is not None else _shorten(str(value))
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return _shorten(", ".join(map(show_value, value))) or ABSENT
    text = as_text(value) if isinstance(value, str) else json.dumps(value, default=str)
    return _shorten(text) or ABSENT


def _as_table(value: object) -> list[dict[str, Any]]:
    """Return a list of objects, or an object of objects with its keys as the first column."""
    inner = as_mapping(value)
    if inner and all(as_mapping(item) for item in inner.values()):
        return [{"": key, **item} for key, item in inner.items()]
    return as_rows(value)


def _facts_table(facts: Mapping[str, Any], *, title: str) -> Table:
    """Return named values as a table of two columns; one level of nesting is opened."""
    flat: dict[str, str] = {}
    for key, value in facts.items():
        if inner := as_mapping(value):
            flat |= {f"{label(key)}: {name}": show_value(item) for name, item in inner.items()}
        else:
            name, text = _show_fact(key, value)
            flat[name] = text
    rows = tuple(list(flat.items())[:MOST_ROWS])
    columns = (Column(title="What"), Column(title="Value", kind="number"))
    return Table(title=title, columns=columns, rows=rows, note=_rest(len(flat)))


def _show_fact(key: str, value: object) -> tuple[str, str]:
    """Return name and value; the unit stands at one of the two."""
    number = as_number(value) if isinstance(value, int | float) else _fraction(value)
    if number is not None and key.endswith("_bytes"):
        return label(key.removesuffix("_bytes")), show_bytes(number)
    if number is not None and key.endswith("_seconds"):
        return label(key.removesuffix("_seconds")), show_seconds(number)
    return label(key), show_value(value if number is None else number)


def _fraction(value: object) -> float | None:
    """Return an exact setting such as 1/5000 as a number."""
    is_fraction = isinstance(value, str) and re.fullmatch(r"\d{1,15}/[1-9]\d{0,15}", value)
    return float(Fraction(str(value))) if is_fraction else None


def _kind(rows: list[dict[str, Any]], key: str) -> Any:
    values = [row[key] for row in rows if row.get(key) is not None]
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if values and are_numbers:
        return "number"
    return "code" if key in _CODE_KEYS else "text"


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _rest(count: int) -> str:
    hidden = count - MOST_ROWS
    return f"{hidden:,} more rows stand in verdict.json." if hidden > 0 else ""
