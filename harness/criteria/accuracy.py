"""The criterion accuracy-drop: from a run's predictions to a judged requirement, and its faults.

Observed values are compared exactly; bounds are floats. The rule itself stands in ``drop``, the
bounds in ``bounds`` and ``calibration``, the counting in ``units``, the words in ``advice``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from harness.config import DEPLOYMENT_CLASS_DROP_POINTS, DEPLOYMENT_DROP_POINTS, GateConfig
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
from harness.criteria.calibration import bound_paired
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
from harness.criteria.drop import DropFinding, SeedDrop, paired_evidence
from harness.criteria.metrics import (
    break_down,
    evaluate,
    large_moves,
    predict_labels,
)
from harness.criteria.result import CriterionResult, State
from harness.criteria.units import (
    Binary,
    Genomes,
    PairedOutcomes,
    as_binary,
    as_share,
    count_paired,
    genomes_of,
)
from harness.criteria.windows import join_levels

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
    limit, shipped = run.config.thresholds.max_accuracy_drop_points, run.config.seed
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
    result = _judge_table(rows, run.genomes(rows["id"]), run.config)
    if (windows := run.windows()) is not None:
        judged = _judge_table(windows, windows.get("genome"), run.config)
        result = join_levels(result, judged, windows)
    scores = [rows[f"{side}_score"] for side in ("baseline", "candidate")]
    before, after = (evaluate(rows["label"], side).values for side in scores)
    moves = large_moves(before, after, limit_points=limit)
    return explain_drop(
        replace(result, warnings=(*result.warnings, *moves)),
        run,
        lineages=break_down(rows.dropna(subset="lineage"), "lineage"),
    )


def _judge_table(
    rows: pd.DataFrame, groups: pd.Series[str] | None, config: GateConfig
) -> CriterionResult:
    """Judge test rows, or test windows, by the heads of every seed."""
    limits, shipped = config.thresholds, config.seed
    sides = [_by_seed(rows, f"{side}_score", shipped) for side in ("baseline", "candidate")]
    first = [side[shipped] for side in sides]
    others = sorted({seed for side in sides for seed in side} - {shipped})
    return judge_accuracy(
        rows["label"],
        *first,
        groups=groups,
        lineages=rows["lineage"],
        limit_points=limits.max_accuracy_drop_points,
        class_limit_points=limits.max_class_drop_points,
        requires_groups=True,
        seed=shipped,
        # a side that brings its scores has those of one seed only, for all of the other's
        other_seeds={
            seed: (sides[0].get(seed, first[0]), sides[1].get(seed, first[1])) for seed in others
        },
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
        Labels that the heads that ship predict.
    groups : array_like of shape (n_rows,), optional
        The genome (assembly, not accession) of each row. Without it every row is its own genome.
    lineages : array_like of shape (n_rows,), optional
        The lineage of each row; where it is empty or missing, its genome stands for it.
    limit_points, class_limit_points : str, int or Fraction
        The drop in points that is too much, and the one that a class must not exceed.
    requires_groups : bool
        Whether missing ``groups`` rule out a PASS, as in production.
    seed, other_seeds : int, mapping of int to (array_like, array_like), optional
        That of the heads that ship; what those of others predict: baseline, candidate.

    Returns
    -------
    CriterionResult
        ``value`` is the exact drop in points; ``interval`` its one-sided 95% bounds on genomes and
        lineages like these: the upper end was gated. FAIL: the observed drop reaches the limit, or
        a class exceeds its own. PASS: every seed's upper bound is below the limit. INCONCLUSIVE:
        neither, or no rows. ``reservations`` say what was lost, or could be, in a part of them.

    Raises
    ------
    ValueError
        If lengths differ, a value is neither 0 nor 1, or a row has no genome.
    TypeError
        If a limit is a float, which is not exact.

    Notes
    -----
    The drop is 100 (b - c) / n. The bound is Tango's for paired proportions (Statistics in Medicine
    17:891, 1998), widened by the design effect of genomes or lineages (CR2 variance, Bell-McCaffrey
    degrees of freedom), with a quantile that is calibrated on their sizes.

    Examples
    --------
    >>> result = judge_accuracy([1] * 400, [1] * 400, [1] * 395 + [0] * 5)
    >>> result.state.value, result.value
    ('PASS', Fraction(5, 4))
    """
    limits = exact_points(limit_points), exact_points(class_limit_points)
    count = partial(count_paired, y_true, groups=groups, lineages=lineages)
    counted = {seed: count(baseline_pred, candidate_pred)}
    counted |= {other: count(*pair) for other, pair in (other_seeds or {}).items()}
    outcomes = counted[seed]
    if outcomes.n_rows == 0:
        return nothing_judged(CRITERION, limits[0])
    finding = _paired_finding(counted, limits, lacks_groups=requires_groups and groups is None)
    b, c, n = outcomes.lost, outcomes.gained, outcomes.n_rows
    tango_points = 100 * float(drop_upper_bound(b, c, n))
    counts = f"{b:,} rows lost, {c:,} gained of {n:,}"
    result = _drop_result(
        finding,
        detail=describe_drop(finding, counts, on_these_points=tango_points),
        next_steps=genome_steps(finding) + loss_steps(finding, outcomes),
        evidence=paired_evidence(outcomes)
        | {"tango_upper_points": tango_points, "max_class_drop_points": float(limits[1])},
    )
    lost = lineage_reservations(outcomes, limits[1])
    return replace(result, reservations=lost + blind_spot_reservations(finding))


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
    baseline_accuracy, baseline_n : str or Fraction, int
        Share right, between 0 and 1, as it was reported, and the rows that it was measured on.
    y_true, candidate_pred, groups, limit_points, requires_groups, seed, other_seeds
        As for ``judge_accuracy``; of other seeds only the candidate's predictions.

    Returns
    -------
    CriterionResult
        As of ``judge_accuracy``, but wider, since rows that are hard for both do not cancel. It is
        not calibrated: a PASS takes 10 effective genomes and 4 degrees of freedom. Classes are not
        judged: the baseline's are not known.

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
    seeds = tuple(
        _unpaired_drop(name, (accuracy, baseline_n), is_right, genomes)
        for name, is_right in rights.items()
    )
    is_open = seeds[0].drop_points < limit <= seeds[0].interval_points[1] and effect.n_genomes > 1
    shares = (float(accuracy), baseline_n), (right / n, n)
    finding = DropFinding(
        limit_points=limit,
        class_limit_points=DEPLOYMENT_CLASS_DROP_POINTS,
        baseline_accuracy=accuracy,
        candidate_accuracy=Fraction(right, n),
        class_drops={},
        seeds=seeds,
        effect=effect,
        genomes=genomes,
        lacks_groups=requires_groups and groups is None,
        lacking=lacking_genomes(effect),
        settling=unpaired_settling_size(*shares, effect, limit_drop=float(limit / 100))
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


def _unpaired_drop(
    seed: int | None, baseline: tuple[Fraction, int], is_right: NDArray[np.bool_], genomes: Genomes
) -> SeedDrop:
    """Bound the drop from a reported accuracy to the share of rows that are right here."""
    n, share = len(is_right), Fraction(int(is_right.sum()), len(is_right))
    reported = (float(baseline[0]), baseline[1])
    ends = unpaired_interval(reported, (float(share), n), genomes.share_effect(is_right))
    points = (100 * ends[0], 100 * ends[1])
    return SeedDrop(seed=seed, drop_points=100 * (baseline[0] - share), interval_points=points)


def _paired_finding(
    counted: Mapping[int | None, PairedOutcomes],
    limits: tuple[Fraction, Fraction],
    *,
    lacks_groups: bool,
) -> DropFinding:
    """Bound the drop of each seed, as the first one's design and gains ask for."""
    limit, limit_drop = limits[0], float(limits[0] / 100)
    first, *_ = counted.values()
    n, bounds = first.n_rows, bound_paired(first, limit_drop=limit_drop)
    seeds = []
    for seed, pair in counted.items():
        found = bounds if pair is first else bound_paired(pair, limit_drop=limit_drop, like=first)
        drop, (lower, upper) = Fraction(100 * (pair.lost - pair.gained), n), found.interval
        ends = (100 * lower, 100 * upper)
        seeds.append(SeedDrop(seed=seed, drop_points=drop, interval_points=ends))
    multiplier, settling = bounds.strictest.calibration.upper, None
    if seeds[0].drop_points < limit <= seeds[0].interval_points[1] and math.isfinite(multiplier):
        effect = bounds.widest.effect
        settling = settling_size(
            first.lost, first.gained, effect, limit_drop=limit_drop, multiplier=multiplier
        )
    return DropFinding(
        limit_points=limit,
        class_limit_points=limits[1],
        baseline_accuracy=Fraction(first.baseline_right, n),
        candidate_accuracy=Fraction(first.both_right + first.gained, n),
        class_drops=first.class_drops,
        seeds=tuple(seeds),
        effect=first.by_genome.effect(),
        genomes=first.by_genome.units,
        bounds=bounds,
        lacks_groups=lacks_groups,
        settling=settling,
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
