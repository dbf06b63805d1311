"""How much each row moves a metric: the parts that its variance is made of.

The covariance of the metric on two sides is the sum over rows (or genomes) of products of these
influences. Metrics of the confusion matrix are bootstrapped instead, in intervals.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.gate.proof.outcomes import Binary

__all__ = ["INFLUENCES", "average_precision_influence", "brier_influence", "roc_auc_influence"]

Numbers = NDArray[np.float64]


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
