"""How much the genomes of a test set weaken it: design effect and degrees of freedom.

Windows of one genome are not independent, so rows count for less than their number. This module
measures by how much, for any number that each row carries (a paired difference, being right). What
a bound makes of it is noninferiority.py's work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["GenomeEffect", "bell_mccaffrey_degrees", "genome_effect"]

# With fewer informative rows than this the design effect cannot be estimated, and the correlation
# within genomes is assumed instead. Both numbers were chosen by simulation.
MIN_INFORMATIVE_ROWS = 10
ASSUMED_CORRELATION = 0.1

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenomeEffect:
    """What the rows of a test set are worth, given the genomes they come from.

    Attributes
    ----------
    n_rows, n_genomes : int
        Rows, and genomes among them.
    effective_genomes : float
        1 / sum of squared shares: ``n_genomes`` if all are equally large, less otherwise.
    design_effect : float
        Factor by which the variance exceeds that of independent rows, at least 1; infinite for a
        single genome.
    degrees_of_freedom : float
        Of the variance between genomes. Infinite where every genome is one row (nothing is
        estimated then), 0 for a single genome.
    """

    n_rows: int
    n_genomes: int
    effective_genomes: float
    design_effect: float
    degrees_of_freedom: float

    def quantile(self, level: float = 0.95) -> float:
        """Return Student's quantile at ``level``; infinite for a single genome."""
        if self.degrees_of_freedom == 0:
            return math.inf
        return float(stats.t.ppf(level, self.degrees_of_freedom))

    @property
    def correlation(self) -> float:
        """The correlation within genomes that the design effect amounts to; 0 for single rows."""
        surplus = self.n_rows / self.effective_genomes - 1
        return (self.design_effect - 1) / surplus if surplus > 0 else 0.0


def genome_effect(
    sizes: NDArray[np.int64],
    sums: NDArray[np.int64],
    *,
    sum_of_squares: int,
    n_informative: int,
) -> GenomeEffect:
    """Measure how much the genomes inflate the variance of a mean over rows.

    Parameters
    ----------
    sizes : array of shape (n_genomes,), int
        Rows of each genome, each at least 1.
    sums : array of shape (n_genomes,), int
        Sum over each genome's rows of the number that each row carries (-1, 0 or 1).
    sum_of_squares : int
        Sum of its square over all rows.
    n_informative : int
        Rows that tell anything about the spread: the discordant ones, or the rarer outcome's.
        Below 10 a correlation within genomes of 0.1 is assumed.

    Returns
    -------
    GenomeEffect

    Notes
    -----
    With shares w_g, mean D and residuals S_g = T_g - n_g D the variance between genomes is the CR2
    estimate n^-2 sum S_g^2 / (1 - w_g) (Bell and McCaffrey, Survey Methodology 28:169, 2002); the
    design effect is its ratio to the variance of independent rows, and never below 1.
    """
    n_rows, n_genomes = int(sizes.sum()), len(sizes)
    effective = n_rows**2 / float(np.sum(sizes.astype(np.float64) ** 2))
    if n_genomes == n_rows:
        ratio, degrees = 1.0, math.inf
    elif n_genomes == 1:
        ratio, degrees = math.inf, 0.0
    else:
        ratio = _variance_ratio(sizes, sums, sum_of_squares)
        correlation = _anova_correlation(sizes, sums, sum_of_squares)
        if n_informative < MIN_INFORMATIVE_ROWS:
            correlation = ASSUMED_CORRELATION
            ratio = max(ratio, 1 + correlation * (n_rows / effective - 1))
        degrees = bell_mccaffrey_degrees(sizes, correlation)
    return GenomeEffect(
        n_rows=n_rows,
        n_genomes=n_genomes,
        effective_genomes=effective,
        design_effect=max(1.0, ratio),
        degrees_of_freedom=degrees,
    )


def bell_mccaffrey_degrees(sizes: NDArray[np.int64], correlation: float) -> float:
    """Return the Bell-McCaffrey degrees of freedom of the CR2 variance of a mean.

    Parameters
    ----------
    sizes : array of shape (n_genomes,), int
        Rows of each genome; at least two genomes.
    correlation : float
        Working correlation within genomes, in [0, 1].

    Returns
    -------
    float
        tr(AM)^2 / tr((AM)^2), between 1 and ``n_genomes - 1``.

    Notes
    -----
    A = diag(1 / (1 - w_g)); M = (I - w 1') diag(v) (I - 1 w') is the covariance of the residuals
    under the working variances v_g = n_g (1 + (n_g - 1) correlation) of the genomes' sums. M is
    diag(v) plus a matrix of rank two, so both traces are sums over genomes.
    """
    rows = sizes.astype(np.float64)
    shares = rows / rows.sum()
    weights = 1 / (1 - shares)
    variances = rows * (1 + (rows - 1) * correlation)
    total = float(variances.sum())
    low_rank = shares * (shares * total - 2 * variances)  # the diagonal of M - diag(v)
    trace = float(weights @ (variances + low_rank))
    ww = float(weights @ shares**2)
    wv = float(weights @ (shares * variances))
    vv = float(weights @ variances**2)
    square = 2 * ww * vv + 2 * wv**2 - 4 * total * ww * wv + (total * ww) ** 2
    square += float(weights**2 @ (variances * (variances + 2 * low_rank)))
    return trace**2 / square


def _variance_ratio(
    sizes: NDArray[np.int64], sums: NDArray[np.int64], sum_of_squares: int
) -> float:
    n_rows, total = int(sizes.sum()), int(sums.sum())
    spread = n_rows * sum_of_squares - total**2  # n^3 times the variance of the mean, exact
    if spread == 0:
        return 1.0
    residuals = sums - sizes * (total / n_rows)
    between = float(np.sum(residuals**2 / (1 - sizes / n_rows)))  # n^2 times the CR2 variance
    return between * n_rows / spread


def _anova_correlation(
    sizes: NDArray[np.int64], sums: NDArray[np.int64], sum_of_squares: int
) -> float:
    """Return the analysis of variance's intraclass correlation, kept within [0, 1]."""
    n_rows, n_genomes = int(sizes.sum()), len(sizes)
    explained = float(np.sum(sums.astype(np.float64) ** 2 / sizes))
    mean_between = (explained - int(sums.sum()) ** 2 / n_rows) / (n_genomes - 1)
    mean_within = (sum_of_squares - explained) / (n_rows - n_genomes)
    mean_size = (n_rows - float(np.sum(sizes.astype(np.float64) ** 2)) / n_rows) / (n_genomes - 1)
    spread = mean_between + (mean_size - 1) * mean_within
    return min(1.0, max(0.0, (mean_between - mean_within) / spread)) if spread > 0 else 0.0
