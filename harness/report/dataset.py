"""What is said about the test set: how it was drawn, whether it is representative, what leaked."""

from __future__ import annotations

from harness.report.document import (
    ABSENT,
    SYMBOLS,
    Block,
    Note,
    Paragraph,
    Table,
    columns,
    show_number,
)
from harness.report.evidence import evidence_blocks, rows_table
from harness.verdict.contents import Json, Split, Verdict
from harness.verdict.history import describe_looks

__all__ = ["dataset_blocks"]

# Rows shown of the two tables.
MOST_CHECKS = 60
MOST_LINEAGES = 25

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
    shown = ("value", "warn_floor", "fail_floor", "p", "alpha", "smallest_caught")
    return Table(
        title="Train against test: effect sizes",
        columns=columns(
            *("Class", "What", "Statistic", "#Effect", "#Warns from", "#Fails from", "#p"),
            *("#Fails at p up to", "#Smallest it could catch", "State", "Note"),
        ),
        rows=tuple(
            (
                _CLASS_NAMES.get(check["label"], "both"),
                check["what"],
                check["statistic"],
                *(show_number(check[key], 3) for key in shown),
                _state(check),
                check["detail"],
            )
            for check in checks[:MOST_CHECKS]
        ),
        note="A check fails only if its effect is over the floor and its p under the honest "
        "sampler is small: p alone is tiny for many rows, an effect alone is large for few.",
    )


def _lineages_table(lineages: list[Json]) -> Table:
    by_p = sorted(lineages, key=lambda row: row["p"] or 0)
    hidden = len(lineages) - MOST_LINEAGES
    return Table(
        title="Lineages, train against test (sampling units)",
        columns=columns(
            *("Class", "Lineage", "#Train", "#Test", "#Test share over train share", "#p"),
            *("#Fails at p up to", "State"),
        ),
        rows=tuple(
            (
                _CLASS_NAMES.get(row["label"], "both"),
                row["lineage"] or "unknown",
                *(show_number(row[key], 3) for key in ("n_train", "n_test", "ratio", "p", "alpha")),
                _state(row),
            )
            for row in by_p[:MOST_LINEAGES]
        ),
        note=f"The {MOST_LINEAGES} least likely; {hidden:,} more stand in verdict.json."
        if hidden > 0
        else "The least likely first.",
    )


def _leak_blocks(evidence: Json) -> list[Block]:
    blocks: list[Block] = []
    if hard := evidence.get("hard"):
        note = "Any count over 0 fails the split."
        blocks.append(rows_table(hard, title="Leaks that fail the split (rows)", note=note))
    if soft := evidence.get("soft"):
        note = "Reported, never gated; shares are of the test rows, 0 to 1."
        blocks.append(rows_table(soft, title="Kinship of the test rows with train", note=note))
    return blocks + evidence_blocks(evidence, title="Split integrity", skip=("hard", "soft"))


def _state(row: Json) -> str:
    state = str(row["state"])
    return f"{_CHECK_SYMBOLS.get(state, '')} {state.replace('_', ' ')}".strip() or ABSENT
