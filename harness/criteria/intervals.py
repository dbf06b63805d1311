"""Intervals of the metrics of both sides and of their paired differences.

Two-sided 95%, for reading: nothing is gated on them. Metrics of the confusion matrix are
bootstrapped over rows or whole genomes, reduced to tables of counts; the others have a variance
from each row's influence on them, whose products over both sides add up to the covariance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.criteria.metrics import (
    COUNT_METRICS,
    METRIC_NAMES,
    SCORE_METRICS,
    as_scores,
    evaluate,
    predict_labels,
)
from harness.criteria.result import ratios_of
from harness.criteria.units import Binary, Genomes, as_binary, genomes_of

__all__ = [
    "Estimate",
    "MetricComparison",
    "average_precision_influence",
    "brier_influence",
    "compare_metrics",
    "resample_tables",
    "roc_auc_influence",
]


# Resampled weights held in memory at a time: 16 MB.
_CHUNK_ENTRIES = 2_000_000
# A binomial draw takes as long as about so many uniform integers.
_MULTINOMIAL_COST = 6


Counts = NDArray[np.intp]


def resample_tables(
    labels: Binary, predicted: Sequence[Binary], genomes: Genomes, n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return resampled tables of truth and both predictions.

    Parameters
    ----------
    labels : array of shape (n_rows,)
        Truth, 0 or 1.
    predicted : two arrays of shape (n_rows,)
        The baseline's and the candidate's predicted labels.
    genomes : Genomes
        What is drawn, whole; rows, if they have no names.
    n_resamples : int
        At least 1.
    seed : int
        Same seed, same tables.

    Returns
    -------
    array of shape (n_resamples, 2, 2, 2), float64
        Rows with that truth, baseline prediction and candidate prediction.
    """
    cells = labels.astype(np.intp) * 4 + predicted[0] * 2 + predicted[1]
    if genomes.names is None:
        tables, multiplicity = np.eye(8, dtype=np.intp), np.bincount(cells, minlength=8)
    else:
        counts = np.bincount(genomes.codes * 8 + cells, minlength=8 * len(genomes.sizes))
        tables, multiplicity = _distinct_tables(counts.reshape(-1, 8))
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_ENTRIES // len(tables))
    sizes = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
    rows = tables.astype(np.float64)
    flat = np.concatenate([_draw_weights(multiplicity, size, rng) @ rows for size in sizes])
    resampled: NDArray[np.float64] = flat.reshape(n_resamples, 2, 2, 2)
    return resampled


def _distinct_tables(tables: Counts) -> tuple[Counts, Counts]:
    """Merge equal tables where that makes drawing cheaper; return them and their numbers."""
    distinct, multiplicity = np.unique(tables, axis=0, return_counts=True)
    if len(distinct) * _MULTINOMIAL_COST < len(tables):
        return distinct, multiplicity
    return tables, np.ones(len(tables), dtype=np.intp)


def _draw_weights(multiplicity: Counts, size: int, rng: np.random.Generator) -> Counts:
    """Draw as many units as there are, with replacement, ``size`` times: (resample, table)."""
    n_units, n_tables = int(multiplicity.sum()), len(multiplicity)
    if (multiplicity != 1).any():
        return rng.multinomial(n_units, multiplicity / n_units, size=size)
    drawn = rng.integers(0, n_tables, size=(size, n_tables), dtype=np.intp)
    drawn += np.arange(size)[:, None] * n_tables
    return np.bincount(drawn.ravel(), minlength=size * n_tables).reshape(size, n_tables)


def roc_auc_influence(labels: Binary, scores: Numbers) -> Numbers:
    """Return the influence of each row on ROC-AUC; its sum of squares is DeLong's variance.

    Parameters
    ----------
    labels : array of shape (n_rows,)
        0 or 1, with both classes present.
    scores : array of shape (n_rows,)
        Any numbers without NaN; equal ones count half.

    Returns
    -------
    array of shape (n_rows,), float64

    Notes
    -----
    Sun and Xu's midranks (IEEE Signal Processing Letters 21:1389, 2014) give DeLong's structural
    components in O(n log n): a viral row's is the share of non-viral rows that it outranks, a
    non-viral row's the share of viral rows that outrank it. A class of one row contributes
    nothing, where DeLong's divisor would be zero.
    """
    is_viral = labels == 1
    n_viral, n_rest = int(is_viral.sum()), int((~is_viral).sum())
    ranks = stats.rankdata(scores)
    components = np.empty(len(labels))
    components[is_viral] = (ranks[is_viral] - stats.rankdata(scores[is_viral])) / n_rest
    components[~is_viral] = 1 - (ranks[~is_viral] - stats.rankdata(scores[~is_viral])) / n_viral
    area = components[is_viral].mean()
    divisor = np.where(is_viral, n_viral * (n_viral - 1), n_rest * (n_rest - 1))
    influence: Numbers = (components - area) / np.sqrt(np.maximum(divisor, 1))
    return influence


def average_precision_influence(labels: Binary, scores: Numbers) -> Numbers:
    """Return the influence of each row on average precision (the infinitesimal jackknife).

    Parameters
    ----------
    labels : array of shape (n_rows,)
        0 or 1, with at least one 1.
    scores : array of shape (n_rows,)
        Any numbers without NaN; equal ones share a threshold.

    Returns
    -------
    array of shape (n_rows,), float64
        Sums to zero.

    Notes
    -----
    The derivative of AP = sum over thresholds of (recall step) x precision by each row's weight
    (Efron, JRSS B 54:83, 1992). A row moves the precision at its own threshold and at all lower
    ones, so cumulative sums over thresholds suffice.
    """
    _, level = np.unique(-scores, return_inverse=True)  # 0 is the highest threshold
    found = np.bincount(level, weights=labels)
    true_positives, n_above = np.cumsum(found), np.cumsum(np.bincount(level))
    n_viral = true_positives[-1]
    precision = true_positives / n_above
    steps = found / n_viral
    area = float(steps @ precision)
    gain = np.cumsum((steps / n_above)[::-1])[::-1]  # over this threshold and all lower ones
    cost = np.cumsum((steps * precision / n_above)[::-1])[::-1]
    influence: Numbers = labels * ((precision[level] - area) / n_viral + gain[level]) - cost[level]
    return influence


def brier_influence(labels: Binary, scores: Numbers) -> Numbers:
    """Return the influence of each row on the Brier score: its centred squared error.

    Parameters
    ----------
    labels, scores : array of shape (n_rows,)
        Labels and probabilities of at least two rows.

    Returns
    -------
    array of shape (n_rows,), float64
        Its sum of squares is the usual variance of a mean.
    """
    errors = (scores - labels) ** 2
    n = len(errors)
    influence: Numbers = (errors - errors.mean()) / np.sqrt(n * (n - 1))
    return influence


INFLUENCES: Mapping[str, Callable[[Binary, Numbers], Numbers]] = {
    "roc_auc": roc_auc_influence,
    "average_precision": average_precision_influence,
    "brier": brier_influence,
}


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
    """

    baseline: dict[str, Estimate]
    candidate: dict[str, Estimate]
    difference: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: intervals by side, and differences as the verdict has them."""
        sides = {"baseline": self.baseline, "candidate": self.candidate}
        return {
            "intervals": {
                side: {name: x.to_dict()["interval"] for name, x in estimates.items()}
                for side, estimates in sides.items()
            },
            "differences": {name: x.to_dict() for name, x in self.difference.items()},
        }


def compare_metrics(
    y_true: ArrayLike,
    baseline_score: ArrayLike,
    candidate_score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
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
    points = [evaluate(labels, x).values for x in scores]
    intervals: dict[str, Intervals] = {}
    if len(genomes.sizes) > 1:
        predicted = [predict_labels(x) for x in scores]
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
    """Return each metric of confusion matrices, (n, 2, 2); NaN where undefined."""
    tn, fp, fn, tp = confusion.reshape(-1, 4).T
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN, as wanted
        found = {n: part / whole for n, (part, whole) in ratios_of(tn, fp, fn, tp).items()}
        return found | {"mcc": (tp * tn - fp * fn) / np.sqrt(spread)}


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
