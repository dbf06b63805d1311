"""Free-form parts as tables: what a criterion measured, what a run ran on, without knowing either.

A part that the schema of a verdict describes has a table of its own, in the module of its section.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Literal

from harness.report.document import (
    ABSENT,
    Block,
    Column,
    Table,
    columns,
    label,
    show_bytes,
    show_number,
    show_seconds,
)
from harness.verdict.contents import Json

__all__ = ["evidence_blocks", "facts_table", "rows_table", "show_value"]

# More rows or columns than these help no reader; all of them stand in verdict.json.
MOST_ROWS = 40
MOST_COLUMNS = 12
MOST_CHARACTERS = 300

# Set in fixed width: what is copied rather than read.
_CODE_KEYS = {"id", "sha256", "ids_sha256", "example", "examples", "path"}


def evidence_blocks(evidence: Json, *, title: str, skip: Iterable[str] = ()) -> list[Block]:
    """Return evidence as tables: single values in one, each list or set of objects in its own."""
    skipped = set(skip)
    shown = {k: v for k, v in evidence.items() if k not in skipped and v not in (None, [], {})}
    tables = {key: rows for key, value in shown.items() if (rows := _as_table(value))}
    facts = {key: value for key, value in shown.items() if key not in tables}
    blocks: list[Block] = [_facts(facts, title=title)] if facts else []
    return blocks + [
        rows_table(rows, title=f"{title}: {label(key).lower()}") for key, rows in tables.items()
    ]


def rows_table(
    rows: Sequence[Json], *, title: str, note: str = "", heads: Mapping[str, str] | None = None
) -> Table:
    """Return a list of objects as a table: ``heads`` by key, or else every key, as it appears."""
    every = list(dict.fromkeys(key for row in rows for key in row))[:MOST_COLUMNS]
    heads = heads or {key: label(key) for key in every}
    keys = heads.keys()
    return Table(
        title=title,
        columns=tuple(Column(title=head, kind=_kind(rows, key)) for key, head in heads.items()),
        rows=tuple(tuple(show_value(row.get(key)) for key in keys) for row in rows[:MOST_ROWS]),
        note=" ".join(filter(None, (note, _rest(len(rows))))),
    )


def facts_table(facts: Mapping[str, str], *, title: str, note: str = "") -> Table:
    """Return names and values as a table of two columns."""
    return Table(
        title=title,
        columns=columns("What", "#Value"),
        rows=tuple(facts.items())[:MOST_ROWS],
        note=" ".join(filter(None, (note, _rest(len(facts))))),
    )


def show_value(value: object) -> str:
    """Return any JSON value as a short text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, int | float):
        return show_number(value)
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        value = ", ".join(map(show_value, value))
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
    return text or ABSENT


def _as_table(value: object) -> list[Json]:
    """Return a list of objects, or an object of objects with its keys as the first column."""
    if isinstance(value, dict) and all(isinstance(item, dict) and item for item in value.values()):
        return [{"": key, **item} for key, item in value.items()]
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    return []


def _facts(facts: Json, *, title: str) -> Table:
    """Return named values as a table; one level of nesting is opened."""
    flat: dict[str, str] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            flat |= {f"{label(key)}: {name}": show_value(item) for name, item in value.items()}
        else:
            name, text = _show_fact(key, value)
            flat[name] = text
    return facts_table(flat, title=title)


def _show_fact(key: str, value: object) -> tuple[str, str]:
    """Return name and value; the unit stands at one of the two."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,15}/[1-9]\d{0,15}", value):
        return label(key), show_number(float(Fraction(value)))  # an exact setting
    for unit, show in (("_bytes", show_bytes), ("_seconds", show_seconds)):
        if key.endswith(unit) and isinstance(value, int | float):
            return label(key.removesuffix(unit)), show(value)
    return label(key), show_value(value)


def _kind(rows: Sequence[Json], key: str) -> Literal["text", "number", "code"]:
    values = [row[key] for row in rows if row.get(key) is not None]
    if values and all(type(value) in (int, float) for value in values):
        return "number"
    return "code" if key in _CODE_KEYS else "text"


def _rest(count: int) -> str:
    hidden = count - MOST_ROWS
    return f"{hidden:,} more rows stand in verdict.json." if hidden > 0 else ""
