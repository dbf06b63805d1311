"""Free-form evidence as tables: what a criterion measured, without knowing the criterion.

What is said last: stages and time, environment and reproduction, what to do next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from harness.report.document import (
    ABSENT,
    Block,
    Blocker,
    Code,
    Column,
    Items,
    Paragraph,
    Table,
    label,
    show_bytes,
    show_count,
    show_number,
    show_seconds,
)
from harness.report.reading import as_mapping, as_number, as_rows, as_text

__all__ = [
    "environment_blocks",
    "evidence_blocks",
    "evidence_of",
    "next_steps_blocks",
    "other_blocks",
    "rows_table",
    "show_value",
    "stages_blocks",
]


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


def stages_blocks(verdict: Mapping[str, Any]) -> list[Block]:
    """Return how long each stage took, what it held on a GPU, and which were reused."""
    stages = as_rows(verdict.get("stages"))
    blocks: list[Block] = [_stages_table(stages)] if stages else []
    peak = as_number(verdict.get("peak_memory_bytes"))
    if peak is not None:
        blocks.append(Paragraph(text=f"Peak memory: {show_bytes(peak)}."))
    if any(as_number(stage.get("gpu_memory_bytes")) is not None for stage in stages):
        text = (
            "GPU memory: the most that tensors of this process took. Where several GPUs embed, "
            "each has a process of its own: what these took stands with the embeddings."
        )
        blocks.append(Paragraph(text=text))
    return blocks


def environment_blocks(verdict: Mapping[str, Any]) -> list[Block]:
    """Return the models, artifacts, environment and the command that reproduces the run."""
    blocks: list[Block] = []
    if command := as_text(verdict.get("command")):
        blocks += [Paragraph(text="To reproduce this run:"), Code(text=command)]
    if models := _models(verdict):
        blocks.append(models)
    if artifacts := as_mapping(verdict.get("artifacts")):
        blocks.append(_artifacts(artifacts))
    if selftest := as_mapping(verdict.get("selftest")):
        blocks.append(Paragraph(text=_selftest(selftest)))
    return blocks + evidence_blocks(as_mapping(verdict.get("environment")), title="Environment")


def next_steps_blocks(blockers: Sequence[Blocker]) -> list[Block]:
    """Return what to do about every criterion that is not PASS."""
    blocks: list[Block] = []
    for blocker in blockers:
        names = ", ".join(blocker.criteria)
        blocks.append(Paragraph(text=f"{names} ({blocker.state_words}): {blocker.detail}"))
        blocks += [Items(items=blocker.next_steps)] if blocker.next_steps else []
    return blocks or [Paragraph(text="Nothing is open: no criterion asks for anything.")]


def other_blocks(verdict: Mapping[str, Any], known: Sequence[str]) -> list[Block]:
    """Return the evidence of criteria that have no section of their own."""
    names = [as_text(row.get("id")) for row in as_rows(verdict.get("criteria"))]
    return [
        block
        for name in dict.fromkeys(names)
        if name not in known
        for block in evidence_blocks(evidence_of(verdict, name), title=name)
    ]


def _stages_table(stages: list[dict[str, Any]]) -> Table:
    times = [as_number(stage.get("elapsed_seconds")) for stage in stages]
    peaks = [as_number(stage.get("gpu_memory_bytes")) for stage in stages]
    columns = [Column(title="Stage"), Column(title="Time", kind="number"), Column(title="How")]
    rows = [
        [
            as_text(stage.get("name")) or ABSENT,
            show_seconds(time),
            "reused" if stage.get("is_reused") is True else "computed",
        ]
        for stage, time in zip(stages, times, strict=True)
    ]
    rows.append(["All stages", show_seconds(sum(t for t in times if t is not None)), ""])
    known = [peak for peak in peaks if peak is not None]
    if known:
        columns.append(Column(title="GPU memory", kind="number"))
        for row, peak in zip(rows, [*peaks, max(known)], strict=True):
            row.append(show_bytes(peak))
    title = "Time and GPU memory of each stage" if known else "Time of each stage"
    return Table(title=title, columns=tuple(columns), rows=tuple(map(tuple, rows)))


def _selftest(selftest: Mapping[str, Any]) -> str:
    passed, total = (as_number(selftest.get(key)) for key in ("passed", "total"))
    if passed is None or total is None:
        return "The gate's self-test left no usable result."
    finished = as_text(selftest.get("finished")) or ABSENT
    text = f"{show_count(passed)} of {show_count(total)} planted faults were taken as expected"
    return f"Self-test of the gate with this configuration, {finished}: {text}."


def _models(verdict: Mapping[str, Any]) -> Table | None:
    keys = (
        *("name", "model", "engine", "dtype", "dim", "parameters", "is_random", "model_sha256"),
        "may_have_seen_test_rows",
    )
    sides = [as_mapping(verdict.get(side)) for side in ("baseline", "candidate")]
    rows = tuple(
        (label(key), *(_model_fact(side.get(key)) for side in sides))
        for key in keys
        if any(side.get(key) is not None for side in sides)
    )
    columns = (Column(title="Embedder"), Column(title="Baseline"), Column(title="Candidate"))
    return Table(title="Models", columns=columns, rows=rows) if rows else None


def _model_fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    number = as_number(value) if isinstance(value, int) else None
    return show_count(number) if number is not None else as_text(value) or ABSENT


def _artifacts(artifacts: Mapping[str, Any]) -> Table:
    code = (Column(title="Path", kind="code"), Column(title="sha256", kind="code"))
    rows = tuple(
        (name, *(as_text(as_mapping(entry).get(key)) or ABSENT for key in ("path", "sha256")))
        for name, entry in artifacts.items()
    )
    return Table(title="Artifacts", columns=(Column(title="Artifact"), *code), rows=rows)
