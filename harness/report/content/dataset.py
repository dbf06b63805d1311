"""What is said about the test set: how it was drawn, whether it is representative, what leaked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.content.document import Block, Column, Table
from harness.report.content.evidence import (
    evidence_blocks,
    evidence_of,
    rows_table,
)
from harness.report.content.outcome import SYMBOLS
from harness.report.content.reading import as_mapping, as_number, as_rows, as_text
from harness.report.content.wording import ABSENT, show_count, show_number

__all__ = ["dataset_blocks"]

# Lineages shown, those furthest from their share first.
MOST_LINEAGES = 25


def dataset_blocks(verdict: Mapping[str, Any], pictures: list[Block]) -> list[Block]:
    """Return the split, its representativeness with effect sizes, and the leaks."""
    blocks: list[Block] = []
    for key, title in (("data", "Records"), ("split", "Split")):
        blocks += evidence_blocks(as_mapping(verdict.get(key)), title=title)
    evidence = evidence_of(verdict, "representative-split")
    if checks := as_rows(evidence.get("checks")):
        blocks.append(_checks_table(checks))
    blocks += pictures
    if lineages := as_rows(evidence.get("lineages")):
        blocks.append(_lineages_table(lineages))
    skip = ("checks", "lineages", "histograms")
    blocks += evidence_blocks(evidence, title="Representativeness", skip=skip)
    return blocks + _leak_blocks(evidence_of(verdict, "split-integrity"))


def _checks_table(checks: list[dict[str, Any]]) -> Table:
    heads = (
        "Class",
        "What",
        "Statistic",
        "Effect",
        "Warns from",
        "Fails from",
        "p",
        "Smallest effect it could catch",
        "State",
    )
    kinds = {"Effect", "Warns from", "Fails from", "p", "Smallest effect it could catch"}
    return Table(
        title="Train against test: effect sizes",
        columns=tuple(Column(title=h, kind="number" if h in kinds else "text") for h in heads),
        rows=tuple(_check_row(check) for check in checks[:60]),
        note="A check fails only if its effect is over the floor and its p under the honest "
        "sampler is small: p alone is tiny for many rows, an effect alone is large for few.",
    )


def _check_row(check: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = {
        key: show_number(as_number(check.get(key)))
        for key in ("value", "warn_floor", "fail_floor", "p", "alpha", "smallest_catchable")
    }
    alpha = f" (must exceed {numbers['alpha']})" if numbers["alpha"] != ABSENT else ""
    return (
        _class_name(check.get("label")),
        as_text(check.get("what")) or ABSENT,
        as_text(check.get("statistic")) or ABSENT,
        numbers["value"],
        numbers["warn_floor"],
        numbers["fail_floor"],
        f"{numbers['p']}{alpha}" if numbers["p"] != ABSENT else ABSENT,
        numbers["smallest_catchable"],
        _state(check.get("state")),
    )


def _lineages_table(lineages: list[dict[str, Any]]) -> Table:
    def distance(row: Mapping[str, Any]) -> float:
        ratio = as_number(row.get("ratio"))
        return -max(ratio, 1 / ratio) if ratio and ratio > 0 else 0

    heads = ("Class", "Lineage", "Train", "Test", "Test share over train share", "p", "State")
    kinds = {"Train", "Test", "Test share over train share", "p"}
    hidden = len(lineages) - MOST_LINEAGES
    return Table(
        title="Lineages, train against test (sampling units)",
        columns=tuple(Column(title=h, kind="number" if h in kinds else "text") for h in heads),
        rows=tuple(_lineage_row(row) for row in sorted(lineages, key=distance)[:MOST_LINEAGES]),
        note=f"The {MOST_LINEAGES} furthest from their share; {hidden:,} more stand in "
        "verdict.json."
        if hidden > 0
        else "Furthest from its share first.",
    )


def _lineage_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _class_name(row.get("label")),
        as_text(row.get("lineage")) or ABSENT,
        show_count(as_number(row.get("train"))),
        show_count(as_number(row.get("test"))),
        show_number(as_number(row.get("ratio")), 3),
        show_number(as_number(row.get("p")), 3),
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
    return f"{SYMBOLS.get(state, '')} {state.replace('_', ' ')}".strip() or ABSENT
