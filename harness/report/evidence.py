"""Free-form parts as tables: what a criterion measured, what a run ran on, without knowing either.

A part that the schema of a verdict describes has a table of its own, in the module of its section;
that of the test set stands here: how it was drawn, whether it is representative, what leaked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Literal

from harness.report.document import (
    ABSENT,
    SYMBOLS,
    Block,
    Column,
    Note,
    Paragraph,
    Table,
    columns,
    label,
    show_bytes,
    show_number,
    show_seconds,
)
from harness.verdict.contents import Json, Split, Verdict
from harness.verdict.history import describe_looks

__all__ = ["dataset_blocks", "evidence_blocks", "facts_table", "rows_table", "show_value"]


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


_CHECK_HEADS = {
    "label": "Class", "what": "What", "statistic": "Statistic", "value": "Effect",
    "warn_floor": "Warns from", "fail_floor": "Fails from", "p": "p", "alpha": "Fails at p up to",
    "smallest_caught": "Smallest it could catch", "state": "State", "detail": "Note",
}  # fmt: skip
_LINEAGE_HEADS = {
    "label": "Class", "lineage": "Lineage", "n_train": "Train", "n_test": "Test",
    "ratio": "Test share over train share", "p": "p", "alpha": "Fails at p up to",
    "state": "State",
}  # fmt: skip
_CHECK_SYMBOLS = SYMBOLS | {"WARN": "⚠"}
_CLASS_NAMES = {0: "not viral", 1: "viral"}

# What the split tells of earlier verdicts, shown in its own words and as a figure.
_HISTORY = ("looks", "history_lost", "earlier_verdicts", "history_warning")
# What the comparison tells in tables and figures of its own.
_SHOWN = ("checks", "lineages", "lineage_shares", "histograms")


def dataset_blocks(verdict: Verdict, pictures: list[Block]) -> list[Block]:
    """Return the split, its representativeness with effect sizes, and the leaks."""
    evidence = verdict.evidence("representative-split")
    checks, lineages = evidence.get("checks"), evidence.get("lineages")
    return [
        *evidence_blocks(verdict.data, title="Records"),
        *evidence_blocks(verdict.split.content, title="Split", skip=_HISTORY),
        *_looks_blocks(verdict.split),
        *([_checks_table(checks)] if checks else []),
        *pictures,
        *([_lineages_table(lineages)] if lineages else []),
        *evidence_blocks(evidence, title="Representativeness", skip=_SHOWN),
        *_leak_blocks(verdict.evidence("split-integrity")),
    ]


def _looks_blocks(split: Split) -> list[Block]:
    blocks: list[Block] = [Paragraph(text=describe_looks(split.looks))] if split.looks else []
    warning = split.history_warning
    return blocks + ([Note(text=f"{warning}.")] if warning else [])


def _checks_table(checks: list[Json]) -> Table:
    note = (
        "A check fails only if its effect is over the floor and its p under the honest sampler is "
        "small: p alone is tiny for many rows, an effect alone is large for few."
    )
    title = "Train against test: effect sizes"
    return rows_table(list(map(_in_words, checks)), title=title, note=note, heads=_CHECK_HEADS)


def _lineages_table(lineages: list[Json]) -> Table:
    by_p = sorted(lineages, key=lambda row: row["p"] or 0)
    return rows_table(
        [{**_in_words(row), "lineage": row["lineage"] or "unknown"} for row in by_p],
        title="Lineages, train against test (sampling units)",
        note="The least likely first.",
        heads=_LINEAGE_HEADS,
    )


def _in_words(row: Json) -> Json:
    """Return a row with its class and its state as they are read."""
    state = str(row["state"])
    words = f"{_CHECK_SYMBOLS.get(state, '')} {state.replace('_', ' ')}".strip()
    return {**row, "label": _CLASS_NAMES.get(row["label"], "both"), "state": words}


def _leak_blocks(evidence: Json) -> list[Block]:
    blocks: list[Block] = []
    if hard := evidence.get("hard"):
        note = "Any count over 0 fails the split."
        blocks.append(rows_table(hard, title="Leaks that fail the split (rows)", note=note))
    if soft := evidence.get("soft"):
        note = "Reported, never gated; shares are of the test rows, 0 to 1."
        blocks.append(rows_table(soft, title="Kinship of the test rows with train", note=note))
    return blocks + evidence_blocks(evidence, title="Split integrity", skip=("hard", "soft"))
