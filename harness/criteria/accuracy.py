"""The criterion accuracy-drop: from a run's predictions to a judged requirement, and its faults.

Observed values are compared exactly; bounds are floats. The rule itself and the bounds stand in
``bounds``, the counting in ``units``, the words in ``advice``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.config import DEPLOYMENT_DROP_POINTS
from harness.criteria.advice import (
    describe_drop,
    genome_steps,
    learning_steps,
    lineage_steps,
    loss_steps,
    pairing_step,
    read_curve,
    relative_warning,
)
from harness.criteria.bounds import (
    DropFinding,
    drop_interval,
    drop_upper_bound,
    exact_points,
    nothing_judged,
    settling_size,
    unpaired_interval,
    unpaired_settling_size,
)
from harness.criteria.criterion import (
    DOES_NOT_FAIL,
    ERRS,
    FAILS,
    PASSES,
    Bench,
    Fault,
    Run,
)
from harness.criteria.metrics import break_down, evaluate, large_moves, predict_labels
from harness.criteria.result import CriterionResult, State
from harness.criteria.units import (
    GenomeEffect,
    Genomes,
    PairedOutcomes,
    as_binary,
    as_share,
    count_paired,
    genomes_of,
)
from harness.criteria.windows import describe_windows, join_levels

__all__ = [
    "FAULTS",
    "explain_drop",
    "judge",
    "judge_accuracy",
    "judge_accuracy_unpaired",
]


CRITERION = "accuracy-drop"


def judge(run: Run) -> CriterionResult:
    """Judge the candidate's accuracy against the baseline's, on the same test rows.

    Where only the baseline's metrics are known, the comparison is unpaired, and says so.
    """
    limit = run.config.thresholds.max_accuracy_drop_points
    if reported := run.reported_accuracy():
        rows = run.candidate_scores()
        result = judge_accuracy_unpaired(
            *reported,
            rows["label"],
            predict_labels(rows["score"]),
            groups=run.genomes(rows["id"]),
            limit_points=limit,
            requires_groups=True,
        )
        return explain_drop(result, run)
    rows = run.predictions()
    baseline, candidate = (rows[f"{side}_score"] for side in ("baseline", "candidate"))
    result = judge_accuracy(
        rows["label"],
        predict_labels(baseline),
        predict_labels(candidate),
        groups=run.genomes(rows["id"]),
        limit_points=limit,
        requires_groups=True,
    )
    result = _judge_windows(result, run, limit)
    before, after = (evaluate(rows["label"], scores).values for scores in (baseline, candidate))
    moves = large_moves(before, after, limit_points=limit)
    return explain_drop(
        replace(result, warnings=(*result.warnings, *moves)),
        run,
        lineages=break_down(rows.dropna(subset="lineage"), "lineage"),
    )


def _judge_windows(result: CriterionResult, run: Run, limit: Fraction) -> CriterionResult:
    """Judge the decisions that users read by the same rule, where they are at hand."""
    windows = run.windows()
    if windows is None:
        return result
    judged = judge_accuracy(
        windows["label"],
        windows["baseline_score"],
        windows["candidate_score"],
        groups=windows.get("genome"),
        limit_points=limit,
        requires_groups=True,
    )
    joined = join_levels(result, judged)
    return replace(joined, evidence=joined.evidence | describe_windows(windows))


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
    limit_points: str | int | Fraction = DEPLOYMENT_DROP_POINTS,
    requires_groups: bool = False,
) -> CriterionResult:
    """Judge whether the candidate's accuracy is less than ``limit_points`` below the baseline's.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,)
        Labels: 1 viral, 0 not.
    baseline_pred, candidate_pred : array_like of shape (n_rows,)
        Predicted labels of the same rows, 0 or 1.
    groups : array_like of shape (n_rows,), optional
        The genome (assembly, not accession) of each row. Without it every row is its own genome.
    limit_points : str, int or Fraction
        The drop, in percentage points, that is too much; a float is refused, being inexact.
    requires_groups : bool
        Whether missing ``groups`` rule out a PASS, as in production.

    Returns
    -------
    CriterionResult
        ``value`` is the exact drop in points; ``interval`` its lower and upper one-sided 95% bound
        on genomes like these, so the upper end is what was gated. FAIL: the observed drop reaches
        the limit. PASS: the upper bound is below the limit, with at least 10 effective genomes and
        4 degrees of freedom. INCONCLUSIVE: neither, or no rows.

    Raises
    ------
    ValueError
        If lengths differ, a value is neither 0 nor 1, or a row has no genome.
    TypeError
        If ``limit_points`` is a float.

    Notes
    -----
    With b rows lost and c gained of n the drop is 100 (b - c) / n. The bound is Tango's for paired
    proportions (Statistics in Medicine 17:891, 1998), widened by the design effect of the genomes
    (CR2 variance, Bell-McCaffrey degrees of freedom).

    Examples
    --------
    >>> result = judge_accuracy([1] * 400, [1] * 400, [1] * 395 + [0] * 5)
    >>> result.state.value, result.value
    ('PASS', Fraction(5, 4))
    """
    limit = exact_points(limit_points)
    outcomes = count_paired(y_true, baseline_pred, candidate_pred, groups=groups)
    if outcomes.n_rows == 0:
        return nothing_judged(CRITERION, limit)
    finding = _paired_finding(outcomes, limit, lacks_groups=requires_groups and groups is None)
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
        "by_class": outcomes.by_class,
    }
    return _drop_result(
        finding,
        detail=describe_drop(
            finding, f"{b:,} rows lost, {c:,} gained of {n:,}", on_these_points=tango_points
        ),
        next_steps=genome_steps(finding) + loss_steps(finding, outcomes),
        evidence=evidence,
    )


def judge_accuracy_unpaired(
    baseline_accuracy: str | Fraction,
    baseline_n: int,
    y_true: ArrayLike,
    candidate_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    limit_points: str | int | Fraction,
    requires_groups: bool = False,
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
    groups, limit_points, requires_groups
        As for ``judge_accuracy``.

    Returns
    -------
    CriterionResult
        As of ``judge_accuracy``, with ``paired`` false in the evidence: rows that are hard for both
        sides do not cancel, so the interval is wider.

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
    is_right = as_binary(candidate_pred, "candidate_pred", n_rows=len(labels)) == labels
    if len(labels) == 0:
        return nothing_judged(CRITERION, limit)
    genomes = genomes_of(groups, len(labels))
    right = int(is_right.sum())
    finding = _unpaired_finding(
        (accuracy, baseline_n),
        (Fraction(right, len(labels)), len(labels)),
        genomes,
        genomes.share_effect(is_right),
        limit=limit,
        lacks_groups=requires_groups and groups is None,
    )
    counts = f"unpaired: reported on {baseline_n:,} rows, against {len(labels):,} rows here"
    return _drop_result(
        finding,
        detail=describe_drop(finding, counts, on_these_points=None),
        next_steps=(pairing_step(baseline_n), *genome_steps(finding)),
        evidence={
            "paired": False,
            "n": len(labels),
            "n_right": right,
            "n_baseline": baseline_n,
        },
    )


def _paired_finding(
    outcomes: PairedOutcomes, limit: Fraction, *, lacks_groups: bool
) -> DropFinding:
    b, c, n = outcomes.lost, outcomes.gained, outcomes.n_rows
    effect = outcomes.effect()
    lower, upper = drop_interval(b, c, effect)
    drop = Fraction(100 * (b - c), n)
    is_open = drop < limit <= 100 * upper and effect.n_genomes > 1
    return DropFinding(
        drop_points=drop,
        limit_points=limit,
        baseline_accuracy=Fraction(outcomes.both_right + b, n),
        candidate_accuracy=Fraction(outcomes.both_right + c, n),
        interval_points=(100 * lower, 100 * upper),
        effect=effect,
        genomes=outcomes.genomes,
        lacks_groups=lacks_groups,
        settling=settling_size(b, c, effect, limit_drop=float(limit / 100)) if is_open else None,
    )


def _unpaired_finding(
    baseline: tuple[Fraction, int],
    candidate: tuple[Fraction, int],
    genomes: Genomes,
    effect: GenomeEffect,
    *,
    limit: Fraction,
    lacks_groups: bool,
) -> DropFinding:
    drop = 100 * (baseline[0] - candidate[0])
    shares = (float(baseline[0]), baseline[1]), (float(candidate[0]), candidate[1])
    lower, upper = unpaired_interval(*shares, effect)
    is_open = drop < limit <= 100 * upper and effect.n_genomes > 1
    return DropFinding(
        drop_points=drop,
        limit_points=limit,
        baseline_accuracy=baseline[0],
        candidate_accuracy=candidate[0],
        interval_points=(100 * lower, 100 * upper),
        effect=effect,
        genomes=genomes,
        lacks_groups=lacks_groups,
        settling=unpaired_settling_size(*shares, effect, limit_drop=float(limit / 100))
        if is_open
        else None,
    )


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
)
