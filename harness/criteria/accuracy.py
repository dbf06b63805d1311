"""The criterion accuracy-drop: from predictions to a judged requirement.

Observed values are compared exactly; bounds are floats. The rule itself stands in drop.py, the
counting in outcomes.py, the bounds in noninferiority.py, the words in accuracy_advice.py.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from numpy.typing import ArrayLike
from scipy import stats

from harness.criteria.advice import (
    describe_drop,
    genome_steps,
    loss_steps,
    pairing_step,
    relative_warning,
)
from harness.criteria.bounds import (
    LIMIT_POINTS,
    DropFinding,
    drop_interval,
    drop_upper_bound,
    exact_points,
    nothing_judged,
    settling_size,
    unpaired_interval,
    unpaired_settling_size,
)
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

__all__ = [
    "judge_accuracy",
    "judge_accuracy_unpaired",
]


CRITERION = "accuracy-drop"


def judge_accuracy(
    y_true: ArrayLike,
    baseline_pred: ArrayLike,
    candidate_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    limit_points: str | int | Fraction = LIMIT_POINTS,
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
    limit_points: str | int | Fraction = LIMIT_POINTS,
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
