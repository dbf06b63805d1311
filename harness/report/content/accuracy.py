"""The sections on accuracy: both models' metrics, and where the candidate lost and gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.content.document import Block, Column, Note, Section, Table
from harness.report.content.evidence import evidence_blocks, evidence_of, no_evidence, show_value
from harness.report.content.reading import (
    as_confusion,
    as_mapping,
    as_number,
    as_pair,
    as_rows,
    as_text,
)
from harness.report.content.wording import (
    ABSENT,
    label,
    show_count,
    show_number,
    show_percent,
    show_range,
    side_name,
)

__all__ = ["accuracy_section", "breakdown_section", "metric_rows"]

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

# A metric that moves by more than this is called out even where accuracy holds (accuracy once
# stayed equal while recall moved by 7 points).
CALL_OUT = 0.05

# Groups shown of each breakdown, worst first.
MOST_GROUPS = 25


def accuracy_section(verdict: Mapping[str, Any], pictures: list[Block]) -> Section:
    """Return both models' metrics, their difference, and the evidence of the accuracy criteria."""
    rows = metric_rows(verdict)
    blocks: list[Block] = [_metrics_table(verdict, rows)] if rows else [no_evidence("Accuracy")]
    blocks += [Note(text=text) for text in _moved(verdict)]
    blocks += _confusion_tables(verdict)
    blocks += pictures
    evidence = evidence_of(verdict, "accuracy-drop")
    blocks += _paired_table(evidence)
    blocks += evidence_blocks(evidence, title="Accuracy drop", skip=_PAIRED)
    sanity = evidence_of(verdict, "baseline-sanity")
    blocks += evidence_blocks(sanity, title="Is the baseline better than a constant answer?")
    return Section(
        title="Accuracy", anchor="accuracy", blocks=tuple(blocks), has_model_numbers=True
    )


def metric_rows(verdict: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return (metric, baseline, candidate, candidate minus baseline), with intervals and units."""
    sides = [as_mapping(as_mapping(verdict.get(s)).get("metrics")) for s in _SIDES]
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
        if any(as_number(side.get(name)) is not None for side in sides)
    ]


def breakdown_section(verdict: Mapping[str, Any], pictures: list[Block]) -> Section:
    """Return the accuracy drop by lineage, length, genome and identity, worst first."""
    blocks = list(pictures)
    for key, value in as_mapping(verdict.get("breakdowns")).items():
        if rows := as_rows(value):
            blocks.append(_breakdown_table(verdict, key, rows))
    if len(blocks) == len(pictures):
        blocks.append(no_evidence("The drop by group"))
    return Section(
        title="Where it lost and gained",
        anchor="where-it-lost-and-gained",
        blocks=tuple(blocks),
        has_model_numbers=True,
    )


_SIDES = ("baseline", "candidate")

_PAIRED = {
    "n": "Test rows (n)",
    "both_right": "Both right",
    "b": "Only the baseline right (b)",
    "c": "Only the candidate right (c)",
    "both_wrong": "Both wrong",
    "drop_points": "Drop, 100·(b\N{MINUS SIGN}c)/n (points)",
    "upper_bound_points": "One-sided 95% upper bound, on genomes like these (points)",
    "tango_upper_points": "The same on these very genomes, Tango (points)",
    "relative_drop_percent": "Relative drop (% of the baseline's accuracy)",
    "error_ratio": "Errors, candidate over baseline (ratio)",
    "mcnemar_p": "McNemar's p (reported, never gated)",
    "design_effect": "Design effect of the genomes (ratio of variances)",
    "degrees_of_freedom": "Degrees of freedom",
    "effective_genomes": "Effective genomes",
    "paired": "Paired by record",
}


def _metric_name(name: str) -> str:
    return (PERCENT_METRICS | OTHER_METRICS).get(name) or label(name)


def _metric(verdict: Mapping[str, Any], side: str, name: str) -> str:
    facts = as_mapping(verdict.get(side))
    number = as_number(as_mapping(facts.get("metrics")).get(name))
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
        text = f"{100 * number:+.2f} points".replace("-", "\N{MINUS SIGN}")
        return _with_range(text, show_range(ends, scale=100))
    text = f"{number:+.4f}".replace("-", "\N{MINUS SIGN}")
    return _with_range(text, show_range(ends, digits=4))


def _with_range(number: str, ends: str) -> str:
    return f"{number} ({ends})" if ends else number


def _metrics_table(verdict: Mapping[str, Any], rows: list[tuple[str, str, str, str]]) -> Table:
    names = [side_name(dict(verdict), side) for side in _SIDES]
    return Table(
        title="Metrics on the test set",
        columns=(
            Column(title="Metric"),
            Column(title=f"Baseline: {names[0]}", kind="number"),
            Column(title=f"Candidate: {names[1]}", kind="number"),
            Column(title="Candidate minus baseline", kind="number"),
        ),
        rows=tuple(rows),
        note="In brackets: 95% intervals, where they were computed.",
    )


def _moved(verdict: Mapping[str, Any]) -> list[str]:
    moved = []
    for name, value in as_mapping(verdict.get("differences")).items():
        change = as_number(as_mapping(value).get("value"))
        if change is not None and abs(change) > CALL_OUT:
            moved.append(
                f"{_metric_name(name)} moved by {_change(verdict, name)}: more than "
                f"{'5 points' if name in PERCENT_METRICS else CALL_OUT}."
            )
    return moved


def _confusion_tables(verdict: Mapping[str, Any]) -> list[Block]:
    matrices = [
        as_confusion(as_mapping(verdict.get(side)).get("confusion_matrix")) for side in _SIDES
    ]
    if not any(matrices):
        return []
    rows_of_text = tuple(
        (truth, *(show_count(n) for m in matrices for n in (m[index] if m else (None, None))))
        for index, truth in enumerate(("not viral", "viral"))
    )
    heads = [f"{side.capitalize()} says {says}" for side in _SIDES for says in _CLASSES]
    columns = (Column(title="Truth"), *(Column(title=h, kind="number") for h in heads))
    return [
        Table(title="Confusion matrices (rows of the test set)", columns=columns, rows=rows_of_text)
    ]


_CLASSES = ("not viral", "viral")


def _paired_table(evidence: Mapping[str, Any]) -> list[Block]:
    rows = tuple(
        (words, show_value(evidence[key])) for key, words in _PAIRED.items() if key in evidence
    )
    columns = (Column(title="What"), Column(title="Value", kind="number"))
    return [Table(title="The paired comparison", columns=columns, rows=rows)] if rows else []


def _breakdown_table(verdict: Mapping[str, Any], key: str, rows: list[dict[str, Any]]) -> Table:
    by_drop = sorted(rows, key=lambda row: -(as_number(row.get("drop_points")) or 0))
    names = [side_name(dict(verdict), side) for side in _SIDES]
    hidden = len(rows) - MOST_GROUPS
    return Table(
        title=f"Accuracy by {label(key).lower()}",
        columns=(
            Column(title=label(key)),
            Column(title="Test rows", kind="number"),
            Column(title=f"Baseline: {names[0]}", kind="number"),
            Column(title=f"Candidate: {names[1]}", kind="number"),
            Column(title="Drop (points)", kind="number"),
            Column(title="95% interval (points)", kind="number"),
        ),
        rows=tuple(_breakdown_row(row) for row in by_drop[:MOST_GROUPS]),
        note=f"The {MOST_GROUPS} with the largest drop; {hidden:,} more stand in verdict.json."
        if hidden > 0
        else "Largest drop first; a negative drop is a gain.",
    )


def _breakdown_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        as_text(row.get("group")) or ABSENT,
        show_count(as_number(row.get("n"))),
        show_percent(as_number(row.get("baseline_accuracy"))),
        show_percent(as_number(row.get("candidate_accuracy"))),
        show_number(as_number(row.get("drop_points"))),
        show_range(as_pair(row.get("interval"))) or ABSENT,
    )
