"""What is said about the test set: how it was drawn, whether it is representative, what leaked."""

from __future__ import annotations

from harness.report.document import SYMBOLS, Block, Note, Paragraph, Table
from harness.report.evidence import evidence_blocks, rows_table
from harness.verdict.contents import Json, Split, Verdict
from harness.verdict.history import describe_looks

__all__ = ["dataset_blocks"]

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
        [_in_words(row) | {"lineage": row["lineage"] or "unknown"} for row in by_p],
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
