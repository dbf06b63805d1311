"""What is said about the test set: how it was drawn, whether it is representative, what leaked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.document import (
    ABSENT,
    Block,
    Column,
    Note,
    Paragraph,
    Table,
    show_count,
    show_number,
)
from harness.report.evidence import evidence_blocks, evidence_of, rows_table
from harness.report.outcome import SYMBOLS
from harness.report.reading import as_mapping, as_number, as_rows, as_text
from harness.verdict.history import describe_looks

__all__ = [
    "dataset_blocks",
]


# Rows shown of the two tables.
MOST_CHECKS = 60
MOST_LINEAGES = 25

_CHECK_SYMBOLS = SYMBOLS | {"WARN": "⚠"}

# What the split tells of earlier verdicts, shown in its own words and as a figure.
_HISTORY = ("looks", "earlier_verdicts", "history_warning")


def dataset_blocks(verdict: Mapping[str, Any], pictures: list[Block]) -> list[Block]:
    """Return the split, its representativeness with effect sizes, and the leaks."""
    blocks: list[Block] = []
    split = as_mapping(verdict.get("split"))
    blocks += evidence_blocks(as_mapping(verdict.get("data")), title="Records")
    blocks += evidence_blocks(split, title="Split", skip=_HISTORY)
    blocks += _looks_blocks(split)
    evidence = evidence_of(verdict, "representative-split")
    if checks := as_rows(evidence.get("checks")):
        blocks.append(_checks_table(checks))
    blocks += pictures
    if lineages := as_rows(evidence.get("lineages")):
        by_p = sorted(lineages, key=lambda row: as_number(row.get("p")) or 0)
        blocks.append(_lineages_table(by_p))
    skip = ("checks", "lineages", "lineage_shares", "histograms")
    blocks += evidence_blocks(evidence, title="Representativeness", skip=skip)
    return blocks + _leak_blocks(evidence_of(verdict, "split-integrity"))


def _looks_blocks(split: Mapping[str, Any]) -> list[Block]:
    looks, warning = as_number(split.get("looks")), as_text(split.get("history_warning"))
    blocks: list[Block] = [Paragraph(text=describe_looks(int(looks)))] if looks else []
    return blocks + ([Note(text=f"{warning}.")] if warning else [])


def _checks_table(checks: list[dict[str, Any]]) -> Table:
    heads = (
        "Effect",
        "Warns from",
        "Fails from",
        "p",
        "Fails at p up to",
        "Smallest it could catch",
    )
    return Table(
        title="Train against test: effect sizes",
        columns=(
            *(Column(title=head) for head in ("Class", "What", "Statistic")),
            *(Column(title=head, kind="number") for head in heads),
            Column(title="State"),
            Column(title="Note"),
        ),
        rows=tuple(_check_row(check) for check in checks[:MOST_CHECKS]),
        note="A check fails only if its effect is over the floor and its p under the honest "
        "sampler is small: p alone is tiny for many rows, an effect alone is large for few.",
    )


def _check_row(check: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = ("value", "warn_floor", "fail_floor", "p", "alpha", "smallest_caught")
    return (
        _class_name(check.get("label")),
        as_text(check.get("what")) or ABSENT,
        as_text(check.get("statistic")) or ABSENT,
        *(show_number(as_number(check.get(key)), 3) for key in numbers),
        _state(check.get("state")),
        as_text(check.get("detail")),
    )


def _lineages_table(lineages: list[dict[str, Any]]) -> Table:
    heads = ("Train", "Test", "Test share over train share", "p", "Fails at p up to")
    hidden = len(lineages) - MOST_LINEAGES
    return Table(
        title="Lineages, train against test (sampling units)",
        columns=(
            *(Column(title=head) for head in ("Class", "Lineage")),
            *(Column(title=head, kind="number") for head in heads),
            Column(title="State"),
        ),
        rows=tuple(_lineage_row(row) for row in lineages[:MOST_LINEAGES]),
        note=f"The {MOST_LINEAGES} least likely; {hidden:,} more stand in verdict.json."
        if hidden > 0
        else "The least likely first.",
    )


def _lineage_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _class_name(row.get("label")),
        as_text(row.get("lineage")) or "unknown",
        show_count(as_number(row.get("n_train"))),
        show_count(as_number(row.get("n_test"))),
        *(show_number(as_number(row.get(key)), 3) for key in ("ratio", "p", "alpha")),
        _state(row.get("state")),
    )


def _leak_blocks(evidence: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    if hard := as_rows(evidence.get("hard")):
        note = "Any count over 0 fails the split."
        blocks.append(rows_table(hard, title="Leaks that fail the split (rows)", note=note))
    if soft := as_rows(evidence.get("soft")):
        note = "Reported, never gated; shares are of the test rows, 0 to 1."
        blocks.append(rows_table(soft, title="Kinship of the test rows with train", note=note))
    return blocks + evidence_blocks(evidence, title="Split integrity", skip=("hard", "soft"))


def _class_name(value: object) -> str:
    return {"0": "not viral", "1": "viral"}.get(as_text(value), as_text(value)) or "both"


def _state(value: object) -> str:
    state = as_text(value)
    return f"{_CHECK_SYMBOLS.get(state, '')} {state.replace('_', ' ')}".strip() or ABSENT
