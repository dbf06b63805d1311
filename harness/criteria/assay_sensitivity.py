"""The criterion assay-sensitivity: whether the test set could show the loss of the embedder.

Where nucleotides alone decide a test set, any protein embedder passes on it, noise too. So a third
head, the placebo, is trained on the nucleotides alone, and what the baseline has over it must
exceed the drop that is allowed (ICH E10: a test of non-inferiority must be able to fail).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.criteria.bounds import exact_points, nothing_judged
from harness.criteria.calibration import bound_paired
from harness.criteria.criterion import Bench, Fault, Run
from harness.criteria.metrics import predict_labels
from harness.criteria.result import CriterionResult, State
from harness.criteria.units import Binary, Genomes, as_binary, count_paired

__all__ = ["FAULTS", "judge", "judge_assay", "share_kept_interval"]

CRITERION = "assay-sensitivity"
# Of the interval of the share kept, which is shown and never judged.
RESAMPLES, RESAMPLES_AT_ONCE = 10_000, 100


def judge(run: Run) -> CriterionResult:
    """Judge whether the protein embedder contributes more than may be lost."""
    placebo = run.placebo_scores().set_index("id")
    rows = run.predictions()
    placebo = placebo.reindex(rows["id"])
    others = {
        name.removeprefix("score_"): (rows[f"baseline_{name}"], placebo[name])
        for name in map(str, placebo)
        if name != "score" and f"baseline_{name}" in rows
    }
    return judge_assay(
        rows["label"],
        predict_labels(rows["baseline_score"]),
        predict_labels(rows["candidate_score"]),
        predict_labels(placebo["score"]),
        groups=run.genomes(rows["id"]),
        lineages=rows["lineage"],
        limit_points=run.config.thresholds.max_accuracy_drop_points,
        other_seeds={s: (predict_labels(b), predict_labels(p)) for s, (b, p) in others.items()},
        warnings=run.caveats("baseline"),
    )


def judge_assay(
    y_true: ArrayLike,
    baseline_pred: ArrayLike,
    candidate_pred: ArrayLike,
    placebo_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    lineages: ArrayLike | None = None,
    limit_points: str | int | Fraction,
    other_seeds: Mapping[str, tuple[Binary, Binary]] | None = None,
    warnings: tuple[str, ...] = (),
) -> CriterionResult:
    """Judge whether the baseline's proteins add more than the drop that is allowed.

    Parameters
    ----------
    y_true, baseline_pred, candidate_pred, placebo_pred : array_like of shape (n_rows,)
        Labels, and what the three heads predict of the same rows, 0 or 1.
    groups, lineages : array_like of shape (n_rows,), optional
        As for ``judge_accuracy``.
    limit_points : str, int or Fraction
        The accuracy drop that is too much, in percentage points.
    other_seeds : mapping of str to (baseline, placebo), optional
        What the heads of other seeds predict, for the evidence.
    warnings : tuple of str
        What must be known of the baseline.

    Returns
    -------
    CriterionResult
        ``value`` is the exact contribution of the protein in points, ``interval`` its one-sided 95%
        bounds. PASS: the lower bound exceeds the limit. Otherwise INCONCLUSIVE.

    Raises
    ------
    ValueError
        If lengths differ, a value is neither 0 nor 1, or a row has no genome.

    Notes
    -----
    The contribution is the accuracy of the baseline less that of the placebo, paired, with the
    bounds of accuracy-drop.
    """
    limit, labels = exact_points(limit_points), as_binary(y_true, "y_true")
    outcomes = count_paired(y_true, baseline_pred, placebo_pred, groups=groups, lineages=lineages)
    if (n := outcomes.n_rows) == 0:
        return nothing_judged(CRITERION, limit)
    lower, upper = (100 * x for x in bound_paired(outcomes, limit_drop=float(limit / 100)).interval)
    contribution = Fraction(100 * (outcomes.lost - outcomes.gained), n)
    heads = {"baseline": baseline_pred, "candidate": candidate_pred, "placebo": placebo_pred}
    right = {
        name: as_binary(values, f"{name}_pred", n_rows=n) == labels
        for name, values in heads.items()
    }
    accuracies = {name: 100 * float(is_right.mean()) for name, is_right in right.items()}
    state = State.PASS if lower > limit else State.INCONCLUSIVE
    verdict = "Its loss would have shown." if state is State.PASS else _not_shown(limit)
    return CriterionResult(
        id=CRITERION,
        state=state,
        value=contribution,
        limit=limit,
        unit="points",
        interval=(lower, upper),
        detail=f"The nucleotides alone are right on {accuracies['placebo']:.2f}% of {n:,} rows, "
        f"the baseline on {accuracies['baseline']:.2f}%: its proteins contribute "
        f"{float(contribution):.2f} points, with 95% confidence at least {lower:.2f}. {verdict}",
        warnings=warnings,
        next_steps=() if state is State.PASS else _next_steps(lower),
        evidence={
            "n_test_rows": n,
            "accuracy_percent": accuracies,
            "contribution_points": float(contribution),
            "lower_bound_points": lower,
            "n_only_baseline_right": outcomes.lost,
            "n_only_placebo_right": outcomes.gained,
            **_share_kept(right, outcomes.by_genome.units),
            "other_seeds": _of_other_seeds(other_seeds or {}, labels),
        },
    )


def _not_shown(limit: Fraction) -> str:
    return (
        "This test set could not have shown the loss of the whole protein embedder: "
        f"more than {float(limit):g} points are required."
    )


def _of_other_seeds(
    seeds: Mapping[str, tuple[Binary, Binary]], labels: Binary
) -> list[dict[str, Any]]:
    """Return what the other seeds' placebos reach, and their baselines beyond that."""
    found = []
    for seed, pair in seeds.items():
        baseline, placebo = (100 * float(np.mean(predicted == labels)) for predicted in pair)
        points = baseline - placebo
        found.append({"seed": seed, "placebo_percent": placebo, "contribution_points": points})
    return found


def share_kept_interval(
    kept: np.ndarray[Any, Any], whole: np.ndarray[Any, Any]
) -> tuple[float, float] | None:
    """Return the 95% percentile interval of a ratio of sums over resampled units, in percent.

    Parameters
    ----------
    kept, whole : array of shape (n_units,), int
        What each unit adds to the numerator and to the denominator.

    Returns
    -------
    (float, float) or None
        None where the denominator is not above 0 in more than 5% of the resamples.

    Examples
    --------
    >>> share_kept_interval(np.array([1, 1]), np.array([2, 2]))
    (50.0, 50.0)
    """
    rng, n_units = np.random.default_rng(0), len(kept)
    distinct, times = np.unique(np.stack([kept, whole], axis=1), axis=0, return_counts=True)
    sums = np.concatenate(
        [
            rng.multinomial(n_units, times / n_units, size=RESAMPLES_AT_ONCE) @ distinct
            for _ in range(RESAMPLES // RESAMPLES_AT_ONCE)
        ]
    )
    defined = sums[sums[:, 1] > 0]
    if len(defined) < 0.95 * len(sums):
        return None
    low, high = np.quantile(100 * defined[:, 0] / defined[:, 1], [0.025, 0.975])
    return float(low), float(high)


def _share_kept(right: Mapping[str, Any], units: Genomes) -> dict[str, Any]:
    """Return (candidate - placebo) / (baseline - placebo), where the placebo is behind."""
    counts = {name: units.count(is_right) for name, is_right in right.items()}
    kept, whole = (counts[side] - counts["placebo"] for side in ("candidate", "baseline"))
    if whole.sum() <= 0:
        return {}
    interval = share_kept_interval(kept, whole)
    return {
        "contribution_kept_percent": float(100 * kept.sum() / whole.sum()),
        "contribution_kept_interval_percent": list(interval) if interval else None,
    }


def _next_steps(lower_points: float) -> tuple[str, ...]:
    """Say what would make the test set able to fail."""
    largest = math.floor(5 * lower_points) / 10  # half of it, rounded down to a tenth
    harder = (
        "Bring a harder test set, such as genomes of lineages that are not in training, so that "
        "the nucleotides alone decide less of it."
    )
    if largest <= 0:
        return (harder,)
    return (
        f"Set `max_accuracy_drop_points` in [thresholds] to at most {largest:g}: the largest limit "
        "at which this test set could show the loss.",
        harder,
    )


def _deciding_nucleotides(bench: Bench) -> Run:
    """Return a run whose nucleotides alone give what the baseline gives."""
    rows = bench.run.predictions()
    scores = rows[["id", "baseline_score"]].set_axis(["id", "score"], axis=1)
    return bench.with_answers(placebo_scores=scores)


FAULTS = (
    Fault(
        name="nucleotides that decide alone",
        expected=frozenset({State.INCONCLUSIVE}),
        plant=_deciding_nucleotides,
    ),
)
