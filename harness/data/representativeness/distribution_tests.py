"""The statistics that compare train with test, on counts; what they mean is decided elsewhere.

Each takes counts over the distinct values of one trait: those of the test rows and those of all
rows. Beside each statistic stands the smallest value of it that a level of significance catches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = [
    "cohen_w",
    "effective_units",
    "ks_distance",
    "ks_p",
    "share_p",
    "smallest_cohen_w",
    "smallest_ks_distance",
    "smallest_share_ratio",
]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def cohen_w(test: IntArray, total: IntArray) -> float:
    """Return the bias-corrected Cohen's w between the categories of test and train.

    Parameters
    ----------
    test, total : int array, (n_categories,)
        Rows of each category in the test set, and in all.

    Returns
    -------
    float
        0 for equal shares. Without the correction it is the root of the sum of
        ``(test share - train share)**2 / pooled share``.

    Notes
    -----
    ``w = V / sqrt(f (1 - f))`` with the test fraction f and Cramer's V corrected for bias
    (Bergsma, Journal of the Korean Statistical Society 42:323, 2013). The correction keeps many
    small lineages from adding up to an effect that is not there.
    """
    is_present = total > 0
    test, total = test[is_present], total[is_present]
    n_rows = int(total.sum())
    fraction = test.sum() / n_rows
    chi2 = np.sum((test - fraction * total) ** 2 / total) / (fraction * (1 - fraction))
    return _w_from_chi2(float(chi2), n_rows=n_rows, n_categories=len(total), fraction=fraction)


def smallest_cohen_w(alpha: float, test: IntArray, total: IntArray, *, n_effective: float) -> float:
    """Return the w whose p is ``alpha``, from the chi-squared distribution of independent units.

    Parameters
    ----------
    alpha : float
        Level, 0 to 1.
    test, total : int array, (n_categories,)
        As for ``cohen_w``.
    n_effective : float
        Independent units among the rows (see ``effective_units``).
    """
    n_rows, n_categories = int(total.sum()), int(np.count_nonzero(total))
    if n_categories < 2:
        return 0.0
    chi2 = stats.chi2.isf(alpha, n_categories - 1) * n_rows / n_effective
    return _w_from_chi2(
        float(chi2), n_rows=n_rows, n_categories=n_categories, fraction=test.sum() / n_rows
    )


def ks_distance(test: IntArray, total: IntArray) -> float:
    """Return the two-sample Kolmogorov-Smirnov D: the largest gap between cumulative shares.

    Parameters
    ----------
    test, total : int array, (n_values,)
        Rows of each value in the test set, and in all; the values in ascending order.
    """
    test_below, total_below = np.cumsum(test), np.cumsum(total)
    train_below = total_below - test_below
    return float(np.abs(test_below / test_below[-1] - train_below / train_below[-1]).max())


def ks_p(distance: float, n_test: float, n_train: float) -> float:
    """Return P(D >= distance) for independent rows; with ties it errs on the high side.

    Notes
    -----
    The one-sample distribution at ``n_test n_train / (n_test + n_train)`` rows, as SciPy's
    ``ks_2samp`` has it for large samples.
    """
    return float(stats.kstwo.sf(distance, _ks_rows(n_test, n_train)))


def smallest_ks_distance(alpha: float, n_test: float, n_train: float) -> float:
    """Return the D whose p is ``alpha`` for so many independent units on either side."""
    return float(stats.kstwo.isf(alpha, _ks_rows(n_test, n_train)))


def share_p(test: IntArray, total: IntArray) -> FloatArray:
    """Return how likely each category is to be so over- or under-represented among units drawn.

    Parameters
    ----------
    test, total : int array, (n_categories,)
        Sampling units of each category in the test set, and in all.

    Returns
    -------
    float array, (n_categories,)
        Exact two-sided hypergeometric p: twice the smaller tail, at most 1.
    """
    tails = _hypergeometric(test, total)
    p: FloatArray = np.minimum(1.0, 2 * np.minimum(tails.cdf(test), tails.sf(test - 1)))
    return p


def smallest_share_ratio(
    alpha: float, test: IntArray, total: IntArray, *, above: float
) -> FloatArray:
    """Return, for each category, the smallest over-representation with a p of at most ``alpha``.

    Parameters
    ----------
    alpha : float
        Level of ``share_p``, 0 to 1.
    test, total : int array, (n_categories,)
        As for ``share_p``.
    above : float
        Only ratios above this count.

    Returns
    -------
    float array, (n_categories,)
        Test share over train share, infinite where only a category without a train unit is
        caught; NaN where it is too small to be caught at all.
    """
    n_test = int(test.sum())
    n_train = int(total.sum()) - n_test
    by_chance = _hypergeometric(test, total).isf(alpha / 2).astype(np.int64)
    by_size = np.floor(above * total * n_test / (n_train + above * n_test)).astype(np.int64)
    needed = np.maximum(by_chance, by_size) + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = needed * n_train / ((total - needed) * n_test)
    return np.where(needed <= total, ratio, np.nan)


def effective_units(rows: IntArray) -> float:
    """Return how many units of equal size tell as much as these (Kish, Survey Sampling, 1965).

    Parameters
    ----------
    rows : int array, (n_units,)
        Rows of each unit, at least one unit.
    """
    return float(rows.sum()) ** 2 / float((rows.astype(np.float64) ** 2).sum())


def _w_from_chi2(chi2: float, *, n_rows: int, n_categories: int, fraction: float) -> float:
    spread = n_categories - 1
    excess = max(0.0, chi2 / n_rows - spread / (n_rows - 1))
    spare_categories = spread - spread**2 / (n_rows - 1)
    spare_parts = 1 - 1 / (n_rows - 1)
    smaller = min(spare_categories, spare_parts)
    if excess == 0 or smaller <= 0:
        return 0.0
    cramers_v = min(1.0, float(np.sqrt(excess / smaller)))
    return cramers_v / float(np.sqrt(fraction * (1 - fraction)))


def _ks_rows(n_test: float, n_train: float) -> int:
    return max(1, round(n_test * n_train / (n_test + n_train)))


def _hypergeometric(test: IntArray, total: IntArray) -> Any:
    """Return the frozen distributions of ``test``; SciPy's types for them name no public class."""
    return stats.hypergeom(int(total.sum()), total, int(test.sum()))
