"""What is said about accuracy: both models' metrics, and where the candidate lost and gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.content.document import Block, Column, Table
from harness.report.content.evidence import evidence_blocks, evidence_of, show_value
from harness.report.content.metrics import (
    confusion_table,
    metric_rows,
    metrics_table,
    moved_notes,
)
from harness.report.content.reading import as_mapping, as_number, as_pair, as_rows, as_text
from harness.report.content.wording import (
    ABSENT,
    label,
    show_count,
    show_percent,
    show_points,
    show_range,
    side_columns,
)

__all__ = ["accuracy_blocks", "breakdown_blocks"]

# Groups shown of each breakdown.
MOST_GROUPS = 25

# What the groups of a breakdown are, where the name does not say it.
_GROUPS = {
    "length": "Length (nucleotides)",
    "identity": "Identity of the best hit in train (%)",
}

# The evidence of the drop in its reader's words, in the order of the argument.
_PAIRED = {
    "paired": "Paired by record",
    "n": "Test rows (n)",
    "both_right": "Both right (rows)",
    "b": "Only the baseline right (b, rows)",
    "c": "Only the candidate right (c, rows)",
    "both_wrong": "Both wrong (rows)",
    "drop_points": "Drop, 100·(b\N{MINUS SIGN}c)/n (points)",
    "lower_bound_points": "One-sided 95% lower bound, on genomes like these (points)",
    "upper_bound_points": "One-sided 95% upper bound, on genomes like these (points)",
    "tango_upper_points": "Upper bound on these very genomes, Tango (points)",
    "relative_drop_percent": "Relative drop (% of the baseline's accuracy)",
    "error_ratio": "Errors, candidate over baseline (ratio)",
    "mcnemar_p": "McNemar's p (reported, never gated)",
    "n_genomes": "Genomes",
    "effective_genomes": "Effective genomes",
    "degrees_of_freedom": "Degrees of freedom",
    "design_effect": "Design effect of the genomes (ratio of variances)",
    "correlation_within_genomes": "Correlation within genomes (0 to 1)",
}


def accuracy_blocks(verdict: Mapping[str, Any], pictures: list[Block]) -> list[Block]:
    """Return both models' metrics, their difference, and the evidence of the accuracy criteria."""
    blocks: list[Block] = []
    if rows := metric_rows(verdict):
        blocks.append(metrics_table(verdict, rows))
    blocks += moved_notes(verdict)
    if confusion := confusion_table(verdict):
        blocks.append(confusion)
    blocks += pictures
    evidence = evidence_of(verdict, "accuracy-drop")
    if facts := [(words, evidence[key]) for key, words in _PAIRED.items() if key in evidence]:
        blocks.append(_paired_table(facts))
    blocks += evidence_blocks(evidence, title="Accuracy drop", skip=_PAIRED)
    sanity = evidence_of(verdict, "baseline-sanity")
    return blocks + evidence_blocks(sanity, title="The baseline against a constant answer")


def breakdown_blocks(verdict: Mapping[str, Any], pictures: list[Block]) -> list[Block]:
    """Return the accuracy drop by lineage, length, genome and identity."""
    breakdowns = as_mapping(verdict.get("breakdowns"))
    found = {key: as_rows(value) for key, value in breakdowns.items()}
    return pictures + [_breakdown(verdict, key, rows) for key, rows in found.items() if rows]


def _paired_table(facts: list[tuple[str, object]]) -> Table:
    return Table(
        title="The comparison of the two heads",
        columns=(Column(title="What"), Column(title="Value", kind="number")),
        rows=tuple((words, show_value(value)) for words, value in facts),
    )


def _breakdown(verdict: Mapping[str, Any], key: str, rows: list[dict[str, Any]]) -> Table:
    hidden = len(rows) - MOST_GROUPS
    rest = f" The first {MOST_GROUPS}; {hidden:,} more stand in verdict.json." if hidden > 0 else ""
    return Table(
        title=f"Accuracy by {label(key).lower()}",
        columns=(
            Column(title=_GROUPS.get(key) or label(key)),
            Column(title="Test rows", kind="number"),
            Column(title="Genomes", kind="number"),
            *side_columns(verdict),
            Column(title="Drop (points)", kind="number"),
            Column(title="95% interval (points)", kind="number"),
        ),
        rows=tuple(_breakdown_row(row) for row in rows[:MOST_GROUPS]),
        note=f"A negative drop is a gain. Among many groups some drop by chance.{rest}",
    )


def _breakdown_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        as_text(row.get("group")) or ABSENT,
        show_count(as_number(row.get("n"))),
        show_count(as_number(row.get("n_genomes"))),
        show_percent(as_number(row.get("baseline_accuracy"))),
        show_percent(as_number(row.get("candidate_accuracy"))),
        show_points(as_number(row.get("drop_points"))),
        show_range(as_pair(row.get("interval"))) or ABSENT,
    )
