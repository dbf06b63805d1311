"""What is said about accuracy: both models' metrics, and where the candidate lost and gained.

Both models' metrics in words: values, intervals, differences, confusion matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config import DEPLOYMENT_DROP_POINTS
from harness.report.document import (
    ABSENT,
    Block,
    Column,
    Note,
    Table,
    label,
    show_change,
    show_count,
    show_number,
    show_percent,
    show_points,
    show_range,
    side_columns,
)
from harness.report.evidence import evidence_blocks, evidence_of, show_value
from harness.report.reading import as_confusion, as_mapping, as_number, as_pair, as_rows, as_text

__all__ = [
    "accuracy_blocks",
    "breakdown_blocks",
    "confusion_table",
    "metric_rows",
    "metrics_table",
    "moved_notes",
]


SIDES = ("baseline", "candidate")
CLASSES = ("not viral", "viral")

# Metrics that are shares, shown in percent and their differences in points; the others have a
# range of their own, which stands in the name.
PERCENT_METRICS = {
    "accuracy": "Accuracy",
    "precision": "Precision (viral)",
    "recall": "Recall (viral)",
    "f1": "F1 (viral)",
}
OTHER_METRICS = {
    "roc_auc": "ROC-AUC (0 to 1)",
    "average_precision": "Average precision (0 to 1)",
    "mcc": "MCC (\N{MINUS SIGN}1 to 1)",
    "brier": "Brier score (0 to 1, lower is better)",
}


def metric_rows(verdict: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return (metric, baseline, candidate, candidate minus baseline), with intervals and units."""
    sides = [as_mapping(as_mapping(verdict.get(side)).get("metrics")) for side in SIDES]
    known = [*PERCENT_METRICS, *OTHER_METRICS]
    names = known + sorted({name for side in sides for name in side} - set(known))
    return [
        (
            _metric_name(name),
            _metric(verdict, "baseline", name),
            _metric(verdict, "candidate", name),
            _change(verdict, name),
        )
        for name in names
        if any(name in side for side in sides)
    ]


def metrics_table(verdict: Mapping[str, Any], rows: list[tuple[str, str, str, str]]) -> Table:
    """Return the metrics of both models side by side."""
    last = Column(title="Candidate minus baseline", kind="number")
    return Table(
        title="Metrics on the test set",
        columns=(Column(title="Metric"), *side_columns(verdict), last),
        rows=tuple(rows),
        note="In brackets: 95% intervals, where they were computed.",
    )


def moved_notes(verdict: Mapping[str, Any]) -> list[Note]:
    """Call out every metric that moved by more than accuracy may fall.

    Accuracy once stayed equal while recall moved by 7 points.
    """
    differences = as_mapping(verdict.get("differences"))
    changes = {k: as_number(as_mapping(entry).get("value")) for k, entry in differences.items()}
    limit = _drop_limit(verdict)
    return [
        Note(
            text=f"{_metric_name(name)} moved by {_change(verdict, name)}: more than "
            f"{f'{limit:g} points' if name in PERCENT_METRICS else f'{limit / 100:g}'}."
        )
        for name, change in changes.items()
        if change is not None and abs(change) > limit / 100
    ]


def _drop_limit(verdict: Mapping[str, Any]) -> float:
    """Return the drop that is too much, in points: the run's, or a deployment's where none is."""
    rows = {row.get("id"): row for row in as_rows(verdict.get("criteria"))}
    limit = as_number(as_mapping(rows.get("accuracy-drop")).get("limit"))
    return float(DEPLOYMENT_DROP_POINTS) if limit is None else limit


def confusion_table(verdict: Mapping[str, Any]) -> Table | None:
    """Return both confusion matrices side by side; None where there is neither."""
    matrices = [
        as_confusion(as_mapping(verdict.get(side)).get("confusion_matrix")) for side in SIDES
    ]
    if not any(matrices):
        return None
    heads = [f"{side.capitalize()} says {says}" for side in SIDES for says in CLASSES]
    return Table(
        title="Confusion matrices (rows of the test set)",
        columns=(Column(title="Truth"), *(Column(title=h, kind="number") for h in heads)),
        rows=tuple(
            (
                truth,
                *(show_count(n) for m in matrices for n in (m[index] if m else (None, None))),
            )
            for index, truth in enumerate(CLASSES)
        ),
    )


def _metric_name(name: str) -> str:
    return (PERCENT_METRICS | OTHER_METRICS).get(name) or label(name)


def _metric(verdict: Mapping[str, Any], side: str, name: str) -> str:
    facts = as_mapping(verdict.get(side))
    number = as_number(as_mapping(facts.get("metrics")).get(name))
    if number is None:
        reason = as_text(as_mapping(facts.get("undefined")).get(name))
        return f"undefined: {reason}" if reason else ABSENT
    ends = as_pair(as_mapping(facts.get("intervals")).get(name))
    if name in PERCENT_METRICS:
        return _with_range(show_percent(number), show_range(ends, scale=100, unit="%"))
    return _with_range(show_number(number), show_range(ends, digits=4))


def _change(verdict: Mapping[str, Any], name: str) -> str:
    entry = as_mapping(as_mapping(verdict.get("differences")).get(name))
    number, ends = as_number(entry.get("value")), as_pair(entry.get("interval"))
    if number is None:
        return ABSENT
    if name in PERCENT_METRICS:
        return _with_range(f"{show_change(100 * number, 2)} points", show_range(ends, scale=100))
    return _with_range(show_change(number, 4), show_range(ends, digits=4))


def _with_range(number: str, ends: str) -> str:
    return f"{number} ({ends})" if ends else number


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
