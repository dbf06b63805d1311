"""The criterion accuracy-drop: from a run's predictions to a judged requirement, and its faults.

Observed values are compared exactly; bounds are floats. The rule itself stands in ``drop``, the
bounds in ``bounds`` and ``calibration``, the counting in ``units``, the words in ``advice``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from harness.config import DEPLOYMENT_CLASS_DROP_POINTS, DEPLOYMENT_DROP_POINTS
from harness.criteria.advice import (
    blind_spot_reservations,
    describe_drop,
    genome_steps,
    learning_steps,
    lineage_reservations,
    lineage_steps,
    loss_steps,
    pairing_step,
    read_curve,
    relative_warning,
)
from harness.criteria.bounds import (
    drop_upper_bound,
    exact_points,
    lacking_genomes,
    nothing_judged,
    settling_size,
    unpaired_interval,
    unpaired_settling_size,
)
from harness.criteria.calibration import PairedBounds, bound_paired
from harness.criteria.criterion import (
    DOES_NOT_FAIL,
    DOES_NOT_PASS,
    ERRS,
    FAILS,
    PASSES,
    Bench,
    Fault,
    Run,
    Stand,
)
from harness.criteria.drop import DropFinding, SeedDrop
from harness.criteria.metrics import (
    break_down,
    evaluate,
    large_moves,
    precision_at,
    predict_labels,
)
from harness.criteria.result import CriterionResult, State
from harness.criteria.units import (
    Binary,
    PairedOutcomes,
    as_binary,
    as_share,
    count_paired,
    genomes_of,
)

__all__ = [
    "FAULTS",
    "explain_drop",
    "judge",
    "judge_accuracy",
    "judge_accuracy_unpaired",
]


CRITERION = "accuracy-drop"
# The shares of viruses for which the precision is reported: what a user sees depends on them.
PREVALENCES = (0.01, 0.05, 0.5)


def judge(run: Run) -> CriterionResult:
    """Judge the candidate's accuracy against the baseline's, on the same test rows.

    Where only the baseline's metrics are known, the comparison is unpaired, and says so.
    """
    limits, shipped = run.config.thresholds, run.config.seed
    limit = limits.max_accuracy_drop_points
    if reported := run.reported_accuracy():
        rows = run.candidate_scores()
        by_seed = _by_seed(rows, "score", shipped)
        result = judge_accuracy_unpaired(
            *reported,
            rows["label"],
            by_seed.pop(shipped),
            groups=run.genomes(rows["id"]),
            limit_points=limit,
            requires_groups=True,
            seed=shipped,
            other_seeds=by_seed,
        )
        return explain_drop(result, run)
    rows = run.predictions()
    sides = [_by_seed(rows, f"{side}_score", shipped) for side in ("baseline", "candidate")]
    first = [side[shipped] for side in sides]
    others = sorted({seed for side in sides for seed in side} - {shipped})
    result = judge_accuracy(
        rows["label"],
        *first,
        groups=run.genomes(rows["id"]),
        lineages=rows["lineage"],
        limit_points=limit,
        class_limit_points=limits.max_class_drop_points,
        requires_groups=True,
        seed=shipped,
        # a side that brings its scores has those of one seed only, for all of the other's
        other_seeds={
            seed: (sides[0].get(seed, first[0]), sides[1].get(seed, first[1])) for seed in others
        },
    )
    scores = [rows[f"{side}_score"] for side in ("baseline", "candidate")]
    before, after = (evaluate(rows["label"], side).values for side in scores)
    moves = large_moves(before, after, limit_points=limit)
    return explain_drop(
        replace(result, warnings=(*result.warnings, *moves)),
        run,
        lineages=break_down(rows.dropna(subset="lineage"), "lineage"),
    )


def _by_seed(rows: pd.DataFrame, name: str, shipped: int) -> dict[int, Binary]:
    """Return the predicted labels of each seed's head: columns ``score``, ``score_43``, ..."""
    others = (str(c) for c in rows if str(c).startswith(f"{name}_"))
    columns = {int(c.removeprefix(f"{name}_")): c for c in others}
    return {seed: predict_labels(rows[c]) for seed, c in ({shipped: name} | columns).items()}


def explain_drop(
    result: CriterionResult, run: Run, *, lineages: Sequence[Mapping[str, Any]] = ()
) -> CriterionResult:
    """Add where both heads come from and, where the candidate lost, in which way it did.

    Parameters
    ----------
    result : CriterionResult
        The judged drop.
    run : Run
        What it was judged of.
    lineages : sequence of mappings
        The drop by lineage, as ``break_down`` returns it.
    """
    steps = result.next_steps
    if result.state is State.INCONCLUSIVE:
        steps += run.taxonomy_steps()
    if result.state is not State.PASS and result.value and result.value > 0:
        curves = {side: read_curve(facts) for side, facts in run.trainings().items()}
        learned = learning_steps(curves.get("candidate"), curves.get("baseline"))
        steps += (*lineage_steps(lineages), *learned)
    notes = run.caveats("baseline", "candidate")
    return replace(result, warnings=(*result.warnings, *notes), next_steps=steps)


def judge_accuracy(
    y_true: ArrayLike,
    baseline_pred: ArrayLike,
    candidate_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    lineages: ArrayLike | None = None,
    limit_points: str | int | Fraction = DEPLOYMENT_DROP_POINTS,
    class_limit_points: str | int | Fraction = DEPLOYMENT_CLASS_DROP_POINTS,
    requires_groups: bool = False,
    seed: int | None = None,
    other_seeds: Mapping[int, tuple[ArrayLike, ArrayLike]] | None = None,
) -> CriterionResult:
    """Judge whether the candidate's accuracy is less than ``limit_points`` below the baseline's.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,)
        Labels: 1 viral, 0 not.
    baseline_pred, candidate_pred : array_like of shape (n_rows,)
        Predicted labels of the same rows, 0 or 1, by the heads that ship.
    groups : array_like of shape (n_rows,), optional
        The genome (assembly, not accession) of each row. Without it every row is its own genome.
    lineages : array_like of shape (n_rows,), optional
        The lineage of each row, empty or missing where it is unknown: its genome stands for it.
    limit_points, class_limit_points : str, int or Fraction
        The drop, in percentage points, that is too much, and the one that a class must not exceed;
        a float is refused, being inexact.
    requires_groups : bool
        Whether missing ``groups`` rule out a PASS, as in production.
    seed : int, optional
        Of the heads that ship, for the evidence.
    other_seeds : mapping of int to two array_like of shape (n_rows,), optional
        What the heads of other seeds predict: baseline, candidate.

    Returns
    -------
    CriterionResult
        ``value`` is the exact drop in points; ``interval`` its lower and upper one-sided 95% bound
        on genomes and lineages like these, so the upper end is what was gated. FAIL: the observed
        drop reaches the limit, or a class exceeds its own. PASS: the upper bound is below the
        limit, for every seed. INCONCLUSIVE: neither, or no rows. ``reservations`` name lineages
        that lost, and classes in which more than the limit could be lost unseen.

    Raises
    ------
    ValueError
        If lengths differ, a value is neither 0 nor 1, or a row has no genome.
    TypeError
        If a limit is a float.

    Notes
    -----
    With b rows lost and c gained of n the drop is 100 (b - c) / n. The bound is Tango's for paired
    proportions (Statistics in Medicine 17:891, 1998), widened by the design effect of the genomes
    or lineages (CR2 variance, Bell-McCaffrey degrees of freedom), with a quantile that is
    calibrated on their sizes.

    Examples
    --------
    >>> result = judge_accuracy([1] * 400, [1] * 400, [1] * 395 + [0] * 5)
    >>> result.state.value, result.value
    ('PASS', Fraction(5, 4))
    """
    limit, class_limit = exact_points(limit_points), exact_points(class_limit_points)
    outcomes = count_paired(y_true, baseline_pred, candidate_pred, groups=groups, lineages=lineages)
    if outcomes.n_rows == 0:
        return nothing_judged(CRITERION, limit)
    limit_drop = float(limit / 100)
    bounds = bound_paired(outcomes, limit_drop=limit_drop)
    seeds = [_seed_drop(outcomes, bounds, seed)]
    for other, (baseline, candidate) in (other_seeds or {}).items():
        pair = count_paired(y_true, baseline, candidate, groups=groups, lineages=lineages)
        found = bound_paired(pair, limit_drop=limit_drop, like=outcomes)
        seeds.append(_seed_drop(pair, found, other))
    lacks_groups = requires_groups and groups is None
    finding = _paired_finding(
        outcomes, bounds, tuple(seeds), limits=(limit, class_limit), lacks_groups=lacks_groups
    )
    b, c, n = outcomes.lost, outcomes.gained, outcomes.n_rows
    tango_points = 100 * float(drop_upper_bound(b, c, n))
    evidence = {
        "paired": True,
        "n": n,
        "b": b,
        "c": c,
        "both_right": outcomes.both_right,
        "both_wrong": outcomes.both_wrong,
        "tango_upper_points": tango_points,
        "mcnemar_p": float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0,
        "max_class_drop_points": float(class_limit),
        "by_class": _by_class(outcomes),
        "precision_at_prevalence": _precisions(outcomes),
    }
    result = _drop_result(
        finding,
        detail=describe_drop(
            finding, f"{b:,} rows lost, {c:,} gained of {n:,}", on_these_points=tango_points
        ),
        next_steps=genome_steps(finding) + loss_steps(finding, outcomes),
        evidence=evidence,
    )
    reservations = lineage_reservations(outcomes, class_limit) + blind_spot_reservations(finding)
    return replace(result, reservations=reservations)


def judge_accuracy_unpaired(
    baseline_accuracy: str | Fraction,
    baseline_n: int,
    y_true: ArrayLike,
    candidate_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    limit_points: str | int | Fraction,
    requires_groups: bool = False,
    seed: int | None = None,
    other_seeds: Mapping[int, ArrayLike] | None = None,
) -> CriterionResult:
    """Judge the drop where only the baseline's accuracy is known, not its predictions.

    Parameters
    ----------
    baseline_accuracy : str or Fraction
        Share right, between 0 and 1, as it was reported.
    baseline_n : int
        Rows that it was measured on.
    y_true, candidate_pred : array_like of shape (n_rows,)
        Labels and the candidate's predictions, 0 or 1.
    groups, limit_points, requires_groups, seed
        As for ``judge_accuracy``.
    other_seeds : mapping of int to array_like of shape (n_rows,), optional
        What the candidate's heads of other seeds predict.

    Returns
    -------
    CriterionResult
        As of ``judge_accuracy``, with ``paired`` false in the evidence: rows that are hard for both
        sides do not cancel, so the interval is wider. It is not calibrated, so a PASS takes at
        least 10 effective genomes and 4 degrees of freedom; the baseline's classes are not known.

    Raises
    ------
    ValueError
        If the baseline's accuracy is no share or was measured on no rows; else as
        ``judge_accuracy``.

    Notes
    -----
    The bounds are Newcombe's hybrid of two Wilson intervals, each widened by the design effect
    that the candidate shows; the baseline's rows are taken to be correlated as the candidate's.
    """
    limit, accuracy = exact_points(limit_points), as_share(baseline_accuracy, baseline_n)
    labels = as_binary(y_true, "y_true")
    if len(labels) == 0:
        return nothing_judged(CRITERION, limit)
    genomes, n = genomes_of(groups, len(labels)), len(labels)
    predictions = {seed: candidate_pred} | dict(other_seeds or {})
    rights = {
        name: as_binary(values, "candidate_pred", n_rows=n) == labels
        for name, values in predictions.items()
    }
    right, effect = int(rights[seed].sum()), genomes.share_effect(rights[seed])
    seeds = []
    for name, is_right in rights.items():
        share = Fraction(int(is_right.sum()), n)
        ends = unpaired_interval(
            (float(accuracy), baseline_n), (float(share), n), genomes.share_effect(is_right)
        )
        seeds.append(
            SeedDrop(
                seed=name,
                drop_points=100 * (accuracy - share),
                interval_points=(100 * ends[0], 100 * ends[1]),
            )
        )
    is_open = seeds[0].drop_points < limit <= seeds[0].interval_points[1] and effect.n_genomes > 1
    finding = DropFinding(
        limit_points=limit,
        class_limit_points=DEPLOYMENT_CLASS_DROP_POINTS,
        baseline_accuracy=accuracy,
        candidate_accuracy=Fraction(right, n),
        class_drops={},
        seeds=tuple(seeds),
        effect=effect,
        genomes=genomes,
        lacks_groups=requires_groups and groups is None,
        lacking=lacking_genomes(effect),
        settling=unpaired_settling_size(
            (float(accuracy), baseline_n), (right / n, n), effect, limit_drop=float(limit / 100)
        )
        if is_open
        else None,
    )
    counts = f"unpaired: reported on {baseline_n:,} rows, against {n:,} rows here"
    return _drop_result(
        finding,
        detail=describe_drop(finding, counts, on_these_points=None),
        next_steps=(pairing_step(baseline_n), *genome_steps(finding)),
        evidence={"paired": False, "n": n, "n_right": right, "n_baseline": baseline_n},
    )


def _by_class(outcomes: PairedOutcomes) -> dict[str, dict[str, Any]]:
    """Return the counts of each class, with its drop where it has rows."""
    drops = outcomes.class_drops
    return {
        name: {**counts, "drop_points": float(drops[name]) if name in drops else None}
        for name, counts in outcomes.by_class.items()
    }


def _precisions(outcomes: PairedOutcomes) -> list[dict[str, Any]]:
    """Return both sides' precision where viruses are as rare as users may meet them."""
    classes = [outcomes.by_class[name] for name in ("viral", "nonviral")]
    if not all(counts["n"] for counts in classes):
        return []
    right = {
        "baseline": [counts["baseline_right"] for counts in classes],
        "candidate": [x["baseline_right"] - x["lost"] + x["gained"] for x in classes],
    }
    recalls, specificities = (
        {side: counts[i] / classes[i]["n"] for side, counts in right.items()} for i in (0, 1)
    )
    return [
        {"prevalence": prevalence}
        | {
            side: precision_at(prevalence, recall=recalls[side], specificity=specificities[side])
            for side in right
        }
        for prevalence in PREVALENCES
    ]


def _paired_finding(
    outcomes: PairedOutcomes,
    bounds: PairedBounds,
    seeds: tuple[SeedDrop, ...],
    *,
    limits: tuple[Fraction, Fraction],
    lacks_groups: bool,
) -> DropFinding:
    b, c, n = outcomes.lost, outcomes.gained, outcomes.n_rows
    (limit, class_limit), decisive = limits, bounds.widest
    multiplier = bounds.strictest.calibration.upper
    is_open = seeds[0].drop_points < limit <= seeds[0].interval_points[1]
    settling = None
    if is_open and math.isfinite(multiplier):
        settling = settling_size(
            b, c, decisive.effect, limit_drop=float(limit / 100), multiplier=multiplier
        )
    return DropFinding(
        limit_points=limit,
        class_limit_points=class_limit,
        baseline_accuracy=Fraction(outcomes.both_right + b, n),
        candidate_accuracy=Fraction(outcomes.both_right + c, n),
        class_drops=outcomes.class_drops,
        seeds=seeds,
        effect=outcomes.by_genome.effect(),
        genomes=outcomes.by_genome.units,
        bounds=bounds,
        lacks_groups=lacks_groups,
        settling=settling,
    )


def _seed_drop(outcomes: PairedOutcomes, bounds: PairedBounds, seed: int | None) -> SeedDrop:
    lower, upper = bounds.interval
    drop = Fraction(100 * (outcomes.lost - outcomes.gained), outcomes.n_rows)
    return SeedDrop(seed=seed, drop_points=drop, interval_points=(100 * lower, 100 * upper))


def _drop_result(
    finding: DropFinding, *, detail: str, next_steps: tuple[str, ...], evidence: dict[str, Any]
) -> CriterionResult:
    return CriterionResult(
        id=CRITERION,
        state=finding.state,
        value=finding.drop_points,
        limit=finding.limit_points,
        unit="points",
        interval=finding.interval_points,
        detail=detail,
        warnings=relative_warning(finding),
        next_steps=() if finding.state is State.PASS else next_steps,
        evidence=evidence | finding.to_evidence(),
    )


# Rows cut off a predictions file: few enough for an error to name them all.
CUT_ROWS = 3
# Well over the limit and well under it, in percent of the rows.
TOO_MANY, FEW = DEPLOYMENT_DROP_POINTS * Fraction(8, 5), DEPLOYMENT_DROP_POINTS * Fraction(4, 5)


def _flipped(percent: Fraction) -> Callable[[Bench], Run]:
    """Return a candidate that has that share of rows wrong where the baseline is right."""

    def plant(bench: Bench) -> Run:
        rows = bench.run.predictions()
        predicted = predict_labels(rows["baseline_score"])
        right = np.flatnonzero(predicted == rows["label"].to_numpy())
        chosen = bench.rng().choice(right, _n_flipped(bench, percent), replace=False)
        scores = rows["baseline_score"].to_numpy(copy=True)
        scores[chosen] = 1.0 - predicted[chosen]
        return bench.with_scores(candidate=scores, baseline=rows["baseline_score"])

    return plant


def _drops_by(percent: Fraction) -> Callable[[Bench, CriterionResult], bool]:
    """Return whether the drop is that share of the rows, exactly."""

    def confirm(bench: Bench, result: CriterionResult) -> bool:
        n_rows = len(bench.run.predictions())
        return result.value == Fraction(100 * _n_flipped(bench, percent), n_rows)

    return confirm


def _n_flipped(bench: Bench, percent: Fraction) -> int:
    return round(percent * len(bench.run.predictions()) / 100)


def _same_predictions(bench: Bench) -> Run:
    scores = bench.run.predictions()["baseline_score"]
    return bench.with_scores(baseline=scores, candidate=scores)


def _truncated_file(bench: Bench) -> Run:
    rows = bench.run.predictions()
    return bench.with_scores(
        baseline=rows["baseline_score"].head(-CUT_ROWS), candidate=rows["candidate_score"]
    )


def _names_missing_ids(bench: Bench, result: CriterionResult) -> bool:
    missing = bench.run.predictions()["id"].tail(CUT_ROWS)
    return "DataError" in result.detail and all(name in result.detail for name in missing)


def _vectors_of(kind: Stand) -> Fault:
    return Fault(
        name=f"the candidate's vectors: {kind}",
        expected=DOES_NOT_PASS,
        plant=lambda bench: bench.with_candidate_vectors(kind),
    )


FAULTS = (
    Fault(
        name="candidate = baseline: predictions",
        expected=PASSES,
        plant=_same_predictions,
        confirm=_drops_by(Fraction(0)),
    ),
    Fault(
        name="the candidate's rows shuffled",
        expected=FAILS,
        plant=lambda bench: bench.with_shuffled_features(),
    ),
    Fault(
        name=f"{float(TOO_MANY):g}% of the rows flipped",
        expected=FAILS,
        plant=_flipped(TOO_MANY),
        confirm=_drops_by(TOO_MANY),
    ),
    Fault(
        name=f"{float(FEW):g}% of the rows flipped",
        expected=DOES_NOT_FAIL,
        plant=_flipped(FEW),
        confirm=_drops_by(FEW),
    ),
    Fault(
        name="truncated predictions",
        expected=ERRS,
        plant=_truncated_file,
        confirm=_names_missing_ids,
    ),
    _vectors_of("noise"),
    _vectors_of("zeros"),
    _vectors_of("other proteins"),
)
