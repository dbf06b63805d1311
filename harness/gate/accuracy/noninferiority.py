"""Bounds on how much accuracy a candidate loses.

Paired: Tango's score bound, widened by what the genomes take away. Unpaired, and for one share
alone: Wilson's. Nothing here decides; drop.py does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.gate.accuracy.design_effect import GenomeEffect

__all__ = [
    "drop_interval",
    "drop_upper_bound",
    "restricted_variance",
    "unpaired_interval",
    "wilson_interval",
]

Z_ONE_SIDED = float(stats.norm.ppf(0.95))
_HALVINGS = 60  # of an interval no longer than 2, so to the last bit

Numbers = NDArray[np.float64]


def drop_upper_bound(
    lost: ArrayLike,
    gained: ArrayLike,
    n_rows: ArrayLike,
    *,
    quantile: ArrayLike = Z_ONE_SIDED,
    design_effect: ArrayLike = 1.0,
) -> Numbers:
    """Return the upper bound of Tango's score interval for the drop of paired shares.

    Parameters
    ----------
    lost, gained : array_like of int
        Rows that only the baseline has right, and rows that only the candidate has right.
    n_rows : array_like of int
        All rows, at least 1.
    quantile : array_like of float
        Of the reference distribution; the default is the normal's for a one-sided 95% bound.
    design_effect : array_like of float
        Factor by which the variance is inflated.

    Returns
    -------
    array of float, in [-1, 1], of the arguments' common shape
        The drop (lost - gained) / n_rows is at most this, as a share.

    Notes
    -----
    The bound is the value Delta above the observed drop at which
    (lost - gained - n Delta) / sqrt(deff n (2 q + Delta (1 - Delta))) = -quantile, q being the
    estimate of the gained share under that Delta (Tango, Statistics in Medicine 17:891, 1998).

    Examples
    --------
    >>> float(drop_upper_bound(0, 0, 52).round(4))
    0.0495
    """
    b, c, n, critical, inflation = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (lost, gained, n_rows, quantile, design_effect))
    )
    low, high = (b - c) / n, np.ones_like(n)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        spread = np.sqrt(inflation * n * restricted_variance(b, c, n, middle))
        is_outside = n * middle - (b - c) >= critical * spread
        low, high = np.where(is_outside, low, middle), np.where(is_outside, middle, high)
    return high


def drop_interval(
    lost: int, gained: int, effect: GenomeEffect, *, level: float = 0.95
) -> tuple[float, float]:
    """Return the lower and the upper one-sided bound of the drop on genomes like these.

    Parameters
    ----------
    lost, gained : int
        Rows that only the baseline has right, and rows that only the candidate has right.
    effect : GenomeEffect
        Of the paired differences.
    level : float
        Confidence of each bound; 0.975 gives the two-sided 95% interval.

    Returns
    -------
    (float, float)
        As shares; (-1, 1) for a single genome, which tells nothing about others.
    """
    if effect.n_genomes == 1:
        return -1.0, 1.0
    upper, minus_lower = drop_upper_bound(
        [lost, gained],
        [gained, lost],
        effect.n_rows,
        quantile=effect.quantile(level),
        design_effect=effect.design_effect,
    )
    return -float(minus_lower), float(upper)


def wilson_interval(
    share: float, n_rows: int, effect: GenomeEffect, *, level: float = 0.95
) -> tuple[float, float]:
    """Return the lower and the upper one-sided Wilson bound of one share.

    Parameters
    ----------
    share : float
        Observed, in [0, 1].
    n_rows : int
        Rows it was observed on, at least 1.
    effect : GenomeEffect
        Its design effect divides the rows, its degrees of freedom give the quantile.
    level : float
        Confidence of each bound.

    Notes
    -----
    Wilson (JASA 22:209, 1927), with rows / design effect in the place of rows, as Korn and
    Graubard (Survey Methodology 24:193, 1998) do for survey data.
    """
    if effect.n_genomes == 1:
        return 0.0, 1.0
    surplus = effect.quantile(level) ** 2 * effect.design_effect / n_rows
    centre = (share + surplus / 2) / (1 + surplus)
    half = math.sqrt(surplus * share * (1 - share) + surplus**2 / 4) / (1 + surplus)
    return centre - half, centre + half


def unpaired_interval(
    baseline: tuple[float, int], candidate: tuple[float, int], effect: GenomeEffect
) -> tuple[float, float]:
    """Return the one-sided 95% bounds of the drop between shares seen on different rows.

    Parameters
    ----------
    baseline, candidate : (float, int)
        Share right and number of rows.
    effect : GenomeEffect
        Of the candidate's rows; the baseline's are taken to be alike.

    Notes
    -----
    Newcombe's hybrid of two Wilson intervals (Statistics in Medicine 17:873, 1998, method 10): the
    distances from each share to its bound are added in squares. Zou and Donner (Statistics in
    Medicine 27:1693, 2008) show that any bounds may be put in, hence the clustered ones.
    """
    baseline_low, baseline_high = wilson_interval(*baseline, effect)
    candidate_low, candidate_high = wilson_interval(*candidate, effect)
    drop = baseline[0] - candidate[0]
    down = math.hypot(baseline[0] - baseline_low, candidate_high - candidate[0])
    up = math.hypot(baseline_high - baseline[0], candidate[0] - candidate_low)
    return drop - down, drop + up


def restricted_variance(b: Numbers, c: Numbers, n: Numbers, drop: Numbers) -> Numbers:
    """Return the variance of one row's paired difference under Tango's restricted estimate.

    Parameters
    ----------
    b, c, n : array of float
        Rows lost, rows gained and all rows.
    drop : array of float
        The mean that the difference is assumed to have, as a share.
    """
    linear = -b - c + (2 * n - b + c) * drop
    discriminant = linear**2 + 8 * n * c * drop * (1 - drop)
    root = np.sqrt(np.maximum(discriminant, 0.0))  # rounding may take it below zero
    gained_share = (root - linear) / (4 * n)
    variance: Numbers = 2 * gained_share + drop * (1 - drop)
    return variance
