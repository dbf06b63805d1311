"""Free-form evidence as tables: what a criterion measured, without knowing the criterion."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from harness.report.content.document import Block, Column, Paragraph, Table
from harness.report.content.reading import as_mapping, as_rows, as_text
from harness.report.content.wording import ABSENT, label, show_number

__all__ = ["evidence_blocks", "evidence_of", "facts_table", "rows_table", "show_value"]

# More rows or columns than these help no reader; all of them stand in verdict.json.
MOST_ROWS = 40
MOST_COLUMNS = 12
MOST_CHARACTERS = 300


def evidence_of(verdict: Mapping[str, Any], criterion: str) -> dict[str, Any]:
    """Return the evidence of one criterion; empty if there is none."""
    rows = as_rows(verdict.get("criteria"))
    found = [as_mapping(row.get("evidence")) for row in rows if row.get("id") == criterion]
    return found[0] if found else {}


def evidence_blocks(
    evidence: Mapping[str, Any], *, title: str, skip: Iterable[str] = ()
) -> list[Block]:
    """Return evidence as tables: single values in one, each list of objects in its own."""
    skipped = set(skip)
    shown = {key: value for key, value in evidence.items() if key not in skipped}
    tables = {key: value for key, value in shown.items() if as_rows(value)}
    facts = {key: value for key, value in shown.items() if key not in tables and value is not None}
    blocks: list[Block] = [facts_table(facts, title=title)] if facts else []
    for key, value in tables.items():
        blocks.append(rows_table(as_rows(value), title=f"{title}: {label(key).lower()}"))
    return blocks


def facts_table(facts: Mapping[str, Any], *, title: str, note: str = "") -> Table:
    """Return named values as a table of two columns; one level of nesting is opened."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        inner = as_mapping(value)
        flat |= {f"{label(key)}: {name}": item for name, item in inner.items()}
        flat |= {} if inner else {label(key): value}
    rows = tuple((name, show_value(value)) for name, value in list(flat.items())[:MOST_ROWS])
    columns = (Column(title="What"), Column(title="Value", kind="number"))
    return Table(title=title, columns=columns, rows=rows, note=note or _rest(len(flat)))


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
        return show_number(float(value)) if abs(value) < 1e300 else str(value)[:MOST_CHARACTERS]
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return _shorten(", ".join(show_value(item) for item in value)) or ABSENT
    text = as_text(value) if isinstance(value, str) else json.dumps(value, default=str)
    return _shorten(text) or ABSENT


def no_evidence(what: str) -> Paragraph:
    """Return the sentence that stands where a part was not reached."""
    return Paragraph(text=f"{what}: not measured in this run.")


def _kind(rows: list[dict[str, Any]], key: str) -> Any:
    values = [row[key] for row in rows if row.get(key) is not None]
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if values and are_numbers:
        return "number"
    return "code" if key in {"id", "sha256", "example", "examples", "store", "path"} else "text"


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _rest(count: int) -> str:
    hidden = count - MOST_ROWS
    return f"{hidden:,} more rows stand in verdict.json." if hidden > 0 else ""
