"""Intervals of the metrics of both sides and of their paired differences.

Two-sided 95%, for reading: nothing is gated on them. Metrics of the confusion matrix are
bootstrapped; the others have a variance from each row's influence on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.gate.metrics.bootstrap import resample_tables
from harness.gate.metrics.influence import INFLUENCES
from harness.gate.metrics.scores import (
    COUNT_METRICS,
    METRIC_NAMES,
    SCORE_METRICS,
    as_scores,
    evaluate,
    predict_labels,
)
from harness.gate.proof.outcomes import Binary, Genomes, as_binary, genomes_of

__all__ = ["Estimate", "MetricComparison", "compare_metrics"]

_TAIL = 0.025  # on each side
_NORMAL_QUANTILE = float(stats.norm.ppf(1 - _TAIL))
# A metric that is undefined in more resamples than this has no interval.
MAX_UNDEFINED_SHARE = 0.05
Numbers = NDArray[np.float64]
Interval = tuple[float, float] | None
Intervals = tuple[Interval, Interval, Interval]  # of the baseline, the candidate, the difference
_NO_INTERVALS: Intervals = (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number and its two-sided 95% interval; None where it is undefined."""

    value: float | None
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        interval = None if self.interval is None else list(self.interval)
        return {"value": self.value, "interval": interval}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """The metrics of both sides with their intervals.

    Attributes
    ----------
    baseline, candidate : dict of str to Estimate
        Each side, by metric.
    difference : dict of str to Estimate
        Candidate minus baseline, on the same resamples.
    accounts_for_genomes : bool
        Whether whole genomes were resampled, so that the intervals speak of genomes like these;
        if not, they take rows as independent and are too narrow where windows share genomes.
    method : str
        How the intervals were made, for the report.
    """

    baseline: dict[str, Estimate]
    candidate: dict[str, Estimate]
    difference: dict[str, Estimate]
    accounts_for_genomes: bool
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: intervals by side, and differences as the verdict has them."""
        sides = {"baseline": self.baseline, "candidate": self.candidate}
        return {
            "intervals": {
                side: {name: x.to_dict()["interval"] for name, x in estimates.items()}
                for side, estimates in sides.items()
            },
            "differences": {name: x.to_dict() for name, x in self.difference.items()},
            "accounts_for_genomes": self.accounts_for_genomes,
            "method": self.method,
        }


def compare_metrics(
    y_true: ArrayLike,
    baseline_score: ArrayLike,
    candidate_score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
    threshold: float = 0.5,
) -> MetricComparison:
    """Compare all metrics of the two sides, with paired intervals.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,)
        Labels: 1 viral, 0 not.
    baseline_score, candidate_score : array_like of shape (n_rows,)
        The viral class's probability for the same rows, from 0 to 1.
    groups : array_like of shape (n_rows,), optional
        The genome of each row. With it, genomes are resampled instead of rows.
    n_resamples : int
        Of the bootstrap.
    seed : int
        Of the bootstrap.
    threshold : float
        Of the predicted labels.

    Raises
    ------
    ValueError
        If lengths differ, or a label, score or genome is unusable.

    Notes
    -----
    Accuracy, precision, recall, F1, MCC: percentile bootstrap of the table of truth and both
    predictions, whole genomes at a time (Field and Welsh, JRSS B 69:369, 2007). Equal tables of
    different genomes are drawn together, so rows of their own are one multinomial of eight cells.
    ROC-AUC: normal, with the covariance of DeLong et al. (Biometrics 44:837, 1988), summed within
    genomes as Obuchowski does (Biometrics 53:567, 1997). Brier score and average precision:
    normal, from each row's influence (the infinitesimal jackknife; for a mean this is the usual
    variance), summed within genomes alike. With a single genome there are no intervals.
    """
    labels = as_binary(y_true, "y_true")
    scores = np.stack(
        [
            as_scores(baseline_score, "baseline_score", n_rows=len(labels)),
            as_scores(candidate_score, "candidate_score", n_rows=len(labels)),
        ]
    )  # (side, row)
    genomes = genomes_of(groups, len(labels))
    points = [evaluate(labels, x, threshold=threshold).values for x in scores]
    intervals: dict[str, Intervals] = {}
    if len(genomes.sizes) > 1:
        predicted = [predict_labels(x, threshold=threshold) for x in scores]
        tables = resample_tables(labels, predicted, genomes, n_resamples, seed)
        intervals = _percentile_intervals(tables) | _normal_intervals(
            labels, scores, points, genomes
        )
    estimates = {
        name: _estimates(points[0][name], points[1][name], intervals.get(name, _NO_INTERVALS))
        for name in METRIC_NAMES
    }
    return MetricComparison(
        baseline={name: three[0] for name, three in estimates.items()},
        candidate={name: three[1] for name, three in estimates.items()},
        difference={name: three[2] for name, three in estimates.items()},
        accounts_for_genomes=groups is not None,
        method=_method(n_resamples, len(genomes.sizes), resamples_genomes=groups is not None),
    )


def _percentile_intervals(tables: Numbers) -> dict[str, Intervals]:
    baseline = _count_metrics(tables.sum(axis=3))
    candidate = _count_metrics(tables.sum(axis=2))
    return {
        name: (
            _percentiles(baseline[name]),
            _percentiles(candidate[name]),
            _percentiles(candidate[name] - baseline[name]),
        )
        for name in COUNT_METRICS
    }


def _count_metrics(confusion: Numbers) -> dict[str, Numbers]:
    """Return metrics of matrices (resample, truth, prediction), NaN where undefined."""
    tn, fp, fn, tp = confusion.reshape(-1, 4).T
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN, as wanted
        return {
            "accuracy": (tp + tn) / (tp + tn + fp + fn),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "mcc": (tp * tn - fp * fn) / np.sqrt(spread),
        }


def _percentiles(resampled: Numbers) -> Interval:
    defined = resampled[~np.isnan(resampled)]
    if len(defined) < (1 - MAX_UNDEFINED_SHARE) * len(resampled):
        return None
    low, high = np.quantile(defined, [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def _normal_intervals(
    labels: Binary, scores: Numbers, points: list[dict[str, float | None]], genomes: Genomes
) -> dict[str, Intervals]:
    return {
        name: _around(
            [point[name] for point in points],
            np.stack([INFLUENCES[name](labels, x) for x in scores]),
            genomes,
        )
        for name in SCORE_METRICS
        if points[0][name] is not None
    }


def _around(values: Sequence[float | None], influence: Numbers, genomes: Genomes) -> Intervals:
    """Return normal intervals of both sides and their difference; influence is (side, row)."""
    n_rows, n_genomes = len(genomes.codes), len(genomes.sizes)
    if genomes.names is not None:
        sums = [np.bincount(genomes.codes, weights=x, minlength=n_genomes) for x in influence]
        # The influences carry rows' n / (n - 1); put that of genomes in its place.
        influence = np.stack(sums) * np.sqrt(n_genomes * (n_rows - 1) / ((n_genomes - 1) * n_rows))
    candidate_minus_baseline = influence[1] - influence[0]
    half = [
        _NORMAL_QUANTILE * float(np.sqrt(x @ x))
        for x in (influence[0], influence[1], candidate_minus_baseline)
    ]
    baseline, candidate = (float(x or 0.0) for x in values)
    difference = candidate - baseline
    return (
        (max(0.0, baseline - half[0]), min(1.0, baseline + half[0])),
        (max(0.0, candidate - half[1]), min(1.0, candidate + half[1])),
        (max(-1.0, difference - half[2]), min(1.0, difference + half[2])),
    )


def _estimates(
    baseline: float | None, candidate: float | None, intervals: Intervals
) -> tuple[Estimate, Estimate, Estimate]:
    difference = None if baseline is None or candidate is None else candidate - baseline
    values = (baseline, candidate, difference)
    first, second, third = (
        Estimate(value=value, interval=None if value is None else interval)
        for value, interval in zip(values, intervals, strict=True)
    )
    return first, second, third


def _method(n_resamples: int, n_units: int, *, resamples_genomes: bool) -> str:
    unit = "genomes" if resamples_genomes else "rows, taken as independent"
    return (
        f"95% intervals over {n_units:,} {unit}: percentile bootstrap of {n_resamples:,} resamples "
        "for the metrics of the confusion matrix; normal theory for ROC-AUC (DeLong), average "
        "precision and Brier score (influence of each row)"
    )
