"""What is said about accuracy: both models' metrics, and where the candidate lost and gained."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config import DEPLOYMENT_DROP_POINTS
from harness.report.document import (
    ABSENT,
    Block,
    Note,
    Table,
    columns,
    label,
    show_fixed,
    show_number,
    show_percent,
    show_range,
    side_heads,
)
from harness.report.evidence import evidence_blocks, facts_table, show_value
from harness.verdict.contents import SIDES, Group, Json, SideOutcome, Verdict

__all__ = ["accuracy_blocks", "breakdown_blocks", "metric_rows"]

CLASSES = ("not viral", "viral")

# Metrics that are shares, shown in percent and their differences in points; the others have a
# range of their own, which stands in the name.
PERCENT_METRICS = {
    "accuracy": "Accuracy",
    "precision": "Precision (viral)",
    "recall": "Recall (viral)",
    "f1": "F1 (viral)",
}
METRICS = PERCENT_METRICS | {
    "roc_auc": "ROC-AUC (0 to 1)",
    "average_precision": "Average precision (0 to 1)",
    "mcc": "MCC (\N{MINUS SIGN}1 to 1)",
    "brier": "Brier score (0 to 1, lower is better)",
}

# Groups shown of each breakdown.
MOST_GROUPS = 25

# What the groups of a breakdown are, where the name does not say it.
_GROUPS = {"length": "Length (nucleotides)", "identity": "Identity of the best hit in train (%)"}

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


# What has a table of its own.
_TABLES = ("units", "seeds", "precision_at_prevalence")
# Where the losses lie that set the multiplier.
_PLACES = {"everywhere": "everywhere", "viral": "viral rows", "nonviral": "not viral rows"}


def accuracy_blocks(verdict: Verdict, pictures: list[Block]) -> list[Block]:
    """Return both models' metrics, their difference, and the evidence of the accuracy criteria."""
    blocks: list[Block] = [*_metrics_table(verdict), *_moved_notes(verdict), *_confusion(verdict)]
    blocks += pictures
    evidence = verdict.evidence("accuracy-drop")
    facts = {text: show_value(evidence[key]) for key, text in _PAIRED.items() if key in evidence}
    blocks += [facts_table(facts, title="The comparison of the two heads")] if facts else []
    blocks += [*_seeds_table(evidence), *_units_table(evidence), *_precision_table(verdict)]
    blocks += evidence_blocks(evidence, title="Accuracy drop", skip=(*_PAIRED, *_TABLES))
    sanity = verdict.evidence("baseline-sanity")
    return blocks + evidence_blocks(sanity, title="The baseline against a constant answer")


def breakdown_blocks(verdict: Verdict, pictures: list[Block]) -> list[Block]:
    """Return the accuracy drop by lineage, length, genome and identity."""
    found = verdict.breakdowns.items()
    return pictures + [_breakdown(verdict, key, groups) for key, groups in found if groups]


def metric_rows(verdict: Verdict) -> list[tuple[str, ...]]:
    """Return (metric, baseline, candidate, candidate minus baseline), with intervals and units."""
    sides = verdict.sides.values()
    known = {name for side in sides for name in side.metrics}
    return [
        (_metric_name(name), *(_metric(side, name) for side in sides), _change(verdict, name))
        for name in [*METRICS, *sorted(known - METRICS.keys())]
        if name in known
    ]


def _metrics_table(verdict: Verdict) -> Iterator[Table]:
    if rows := metric_rows(verdict):
        heads = columns("Metric", *side_heads(verdict), "#Candidate minus baseline")
        yield Table(
            title="Metrics on the test set",
            columns=heads,
            rows=tuple(rows),
            note="In brackets: 95% intervals, where they were computed.",
        )


def _moved_notes(verdict: Verdict) -> Iterator[Note]:
    """Call out every metric that moved by more than accuracy may fall.

    Accuracy once stayed equal while recall moved by 7 points.
    """
    row = verdict.rows.get("accuracy-drop")
    limit = float(row.limit) if row and row.limit else float(DEPLOYMENT_DROP_POINTS)
    for name, difference in verdict.differences.items():
        if abs(difference.value or 0) > limit / 100:
            most = f"{limit:g} points" if name in PERCENT_METRICS else f"{limit / 100:g}"
            moved = f"{_metric_name(name)} moved by {_change(verdict, name)}"
            yield Note(text=f"{moved}: more than {most}.")


def _confusion(verdict: Verdict) -> Iterator[Table]:
    """Yield both confusion matrices side by side, if there is one."""
    matrices = [side.confusion_matrix for side in verdict.sides.values()]
    heads = [f"#{side.capitalize()} says {says}" for side in SIDES for says in CLASSES]
    rows = [
        (truth, *(show_number(n) for m in matrices for n in (m[index] if m else (None, None))))
        for index, truth in enumerate(CLASSES)
    ]
    if any(matrices):
        title = "Confusion matrices (rows of the test set)"
        yield Table(title=title, columns=columns("Truth", *heads), rows=tuple(rows))


def _seeds_table(evidence: Json) -> Iterator[Table]:
    """Yield the drop between the two heads of each seed, where there are several."""
    seeds = evidence.get("seeds", ())
    rows = tuple(
        (
            str(one["seed"]) + (" (ships)" if one is seeds[0] else ""),
            show_fixed(one["drop_points"]),
            show_range((one["lower_bound_points"], one["upper_bound_points"])),
        )
        for one in seeds
    )
    if len(rows) > 1:
        yield Table(
            title="The drop by seed, on the test rows",
            columns=columns("Seed", "#Drop (points)", "#One-sided 95% bounds (points)"),
            rows=rows,
            note="All upper bounds must be below the limit; the first seed was declared to ship.",
        )


def _units_table(evidence: Json) -> Iterator[Table]:
    """Yield what the bound was calibrated on: sizes, multiplier, what set it, blind spots."""
    heads = ("Unit", "#Number", "#Effective", "#Rows of one", "#Multiplier", "Set by losses")
    spots = ("#Blind spot, viral (%)", "#Blind spot, not viral (%)")
    if rows := tuple(map(_unit, evidence.get("units", ()))):
        yield Table(
            title="What the bound was calibrated on",
            columns=columns(*heads, "#Upper bound (points)", *spots),
            rows=rows,
            note="Rows of one: smallest, median, largest. The multiplier is that of Student's "
            "quantile which lets a drop of exactly the limit pass 5% of the time at most; the "
            "larger one counts, and the larger bound. Blind spot: a kind of unit that makes up "
            "less can be lost whole without being met.",
        )


def _unit(found: Json) -> tuple[str, ...]:
    place, spots = _PLACES.get(found["set_by_losses"], ABSENT), found["blind_spot_percent"]
    sizes = (found[f"rows_{which}"] for which in ("smallest", "median", "largest"))
    return (
        found["unit"],
        show_number(found["n_units"]),
        show_fixed(found["effective_units"], 1),
        " / ".join(map(show_number, sizes)),
        show_fixed(found["multiplier"]),
        f"{place}, correlation {found['set_by_correlation']:g}",
        show_fixed(found["upper_bound_points"]),
        *(show_fixed(spots.get(name), 1) for name in ("viral", "nonviral")),
    )


def _precision_table(verdict: Verdict) -> Iterator[Table]:
    """Yield both sides' precision where viruses are rare, and where they are not."""
    evidence = verdict.evidence("accuracy-drop")
    if found := evidence.get("precision_at_prevalence"):
        yield Table(
            title="Precision by share of viruses",
            columns=columns("Viral rows (%)", *side_heads(verdict)),
            rows=tuple(
                (show_number(100 * one["prevalence"]), *(show_percent(one[side]) for side in SIDES))
                for one in found
            ),
            note="From recall and specificity on the test rows.",
        )


def _metric_name(name: str) -> str:
    return METRICS.get(name) or label(name)


def _metric(side: SideOutcome, name: str) -> str:
    number = side.metrics.get(name)
    if number is None:
        return f"undefined: {side.undefined[name]}" if name in side.undefined else ABSENT
    ends = side.intervals.get(name)
    if name in PERCENT_METRICS:
        return _with_range(show_percent(number), show_range(ends, scale=100, unit="%"))
    return _with_range(show_fixed(number, 4), show_range(ends, digits=4))


def _change(verdict: Verdict, name: str) -> str:
    found = verdict.differences.get(name)
    if found is None or found.value is None:
        return ABSENT
    scale, digits, unit = (100, 2, " points") if name in PERCENT_METRICS else (1, 4, "")
    change = show_fixed(scale * found.value, digits, is_change=True)
    return _with_range(f"{change}{unit}", show_range(found.interval, scale=scale, digits=digits))


def _with_range(number: str, ends: str) -> str:
    return f"{number} ({ends})" if ends else number


def _breakdown(verdict: Verdict, key: str, groups: tuple[Group, ...]) -> Table:
    hidden = len(groups) - MOST_GROUPS
    rest = f" The first {MOST_GROUPS}; {hidden:,} more stand in verdict.json." if hidden > 0 else ""
    return Table(
        title=f"Accuracy by {label(key).lower()}",
        columns=columns(
            *(_GROUPS.get(key) or label(key), "#Test rows", "#Genomes", *side_heads(verdict)),
            *("#Drop (points)", "#95% interval (points)"),
        ),
        rows=tuple(map(_group, groups[:MOST_GROUPS])),
        note=f"A negative drop is a gain. Among many groups some drop by chance.{rest}",
    )


def _group(group: Group) -> tuple[str, ...]:
    return (
        group.group or ABSENT,
        *map(show_number, (group.n, group.n_genomes)),
        *map(show_percent, (group.baseline_accuracy, group.candidate_accuracy)),
        show_fixed(group.drop_points),
        show_range(group.interval) or ABSENT,
    )
