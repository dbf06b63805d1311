"""Who was right where, genome by genome, and how much the genomes of a test set weaken it.

Labels and predictions are checked here, once, and counted. Windows of one genome are not
independent, so rows count for less than their number: by how much is measured for any number that
each row carries. What a bound makes of it is bounds.py's work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "Binary",
    "GenomeEffect",
    "Genomes",
    "PairedOutcomes",
    "PairedUnits",
    "as_binary",
    "as_share",
    "bell_mccaffrey_degrees",
    "count_paired",
    "genome_effect",
    "genomes_of",
]


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


Counts = NDArray[np.int64]
Binary = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Genomes:
    """The genome of each row.

    Attributes
    ----------
    names : tuple of str or None
        Of the genomes; None where every row counts as its own.
    codes : array of shape (n_rows,), int
        Position of each row's genome in ``names``.
    sizes : array of shape (n_genomes,), int
        Rows of each genome.
    """

    names: tuple[str, ...] | None
    codes: NDArray[np.intp]
    sizes: Counts

    def count(self, is_counted: NDArray[np.bool_]) -> Counts:
        """Return how many rows of each genome are marked; shape (n_genomes,)."""
        return np.bincount(self.codes[is_counted], minlength=len(self.sizes))

    def share_effect(self, is_right: NDArray[np.bool_]) -> GenomeEffect:
        """Return what the genomes do to the share of marked rows."""
        right = int(is_right.sum())
        return genome_effect(
            self.sizes,
            self.count(is_right),
            sum_of_squares=right,
            n_informative=min(right, len(is_right) - right),
        )

    def largest(self) -> dict[str, Any]:
        """Return name (None for single rows) and share of the genome with the most rows."""
        first = int(self.sizes.argmax())
        name = None if self.names is None else self.names[first]
        return {"name": name, "share": float(self.sizes[first] / len(self.codes))}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedUnits:
    """How two sets of predictions compare in each unit: in each genome, or in each lineage.

    Attributes
    ----------
    units : Genomes
        The unit of each row.
    class_sizes : array of shape (n_units, 2), int
        Rows of each unit in class 0 and in class 1.
    lost, gained : array of shape (n_units,), int
        Rows that only the baseline, and rows that only the candidate has right.
    """

    units: Genomes
    class_sizes: Counts
    lost: Counts
    gained: Counts

    def effect(self) -> GenomeEffect:
        """Return what the units do to the paired difference."""
        discordant = int(self.lost.sum() + self.gained.sum())
        return genome_effect(
            self.units.sizes,
            self.lost - self.gained,
            sum_of_squares=discordant,
            n_informative=discordant,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedOutcomes:
    """How two sets of predictions of the same rows compare.

    Attributes
    ----------
    n_rows, both_right, lost, gained : int
        Rows; those that both, only the baseline, or only the candidate has right.
    by_genome : PairedUnits
        The same for each genome.
    by_lineage : PairedUnits or None
        The same for each lineage, and for each genome without one; None where none is known.
    by_class : dict of str to dict of str to int
        n, baseline_right, lost and gained among the ``viral`` and the ``nonviral`` rows.
    """

    n_rows: int
    both_right: int
    lost: int
    gained: int
    by_genome: PairedUnits
    by_lineage: PairedUnits | None
    by_class: dict[str, dict[str, int]]

    @property
    def both_wrong(self) -> int:
        """Rows that neither has right."""
        return self.n_rows - self.both_right - self.lost - self.gained

    @property
    def baseline_right(self) -> int:
        """Rows that the baseline has right."""
        return self.both_right + self.lost

    @property
    def class_drops(self) -> dict[str, Fraction]:
        """The drop in each class that has rows, exact, in percentage points."""
        return {
            name: Fraction(100 * (count["lost"] - count["gained"]), count["n"])
            for name, count in self.by_class.items()
            if count["n"]
        }

    @property
    def by_unit(self) -> dict[str, PairedUnits]:
        """The kinds of units that are known, by name."""
        lineages = {} if self.by_lineage is None else {"lineage": self.by_lineage}
        return {"genome": self.by_genome} | lineages


def count_paired(
    y_true: ArrayLike,
    baseline_pred: ArrayLike,
    candidate_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    lineages: ArrayLike | None = None,
) -> PairedOutcomes:
    """Count who is right where.

    Parameters
    ----------
    y_true, baseline_pred, candidate_pred : array_like of shape (n_rows,)
        Labels, 0 or 1, in the same row order.
    groups : array_like of shape (n_rows,), optional
        The genome of each row; without it every row is its own genome.
    lineages : array_like of shape (n_rows,), optional
        The lineage of each row, empty or missing where it is unknown.

    Raises
    ------
    ValueError
        If lengths differ, or a value is neither 0 nor 1, or a row has no genome.
    """
    labels = as_binary(y_true, "y_true")
    baseline_right = as_binary(baseline_pred, "baseline_pred", n_rows=len(labels)) == labels
    candidate_right = as_binary(candidate_pred, "candidate_pred", n_rows=len(labels)) == labels
    genomes = genomes_of(groups, len(labels))
    of_lineages = lineages_of(lineages, genomes)
    is_lost, is_gained = baseline_right & ~candidate_right, candidate_right & ~baseline_right
    classes = {"viral": labels == 1, "nonviral": labels == 0}

    def count(units: Genomes) -> PairedUnits:
        sizes = np.stack([units.count(labels == label) for label in (0, 1)], axis=1)
        lost, gained = units.count(is_lost), units.count(is_gained)
        return PairedUnits(units=units, class_sizes=sizes, lost=lost, gained=gained)

    return PairedOutcomes(
        n_rows=len(labels),
        both_right=int((baseline_right & candidate_right).sum()),
        lost=int(is_lost.sum()),
        gained=int(is_gained.sum()),
        by_genome=count(genomes),
        by_lineage=None if of_lineages is None else count(of_lineages),
        by_class={
            name: {
                "n": int(is_member.sum()),
                "baseline_right": int((baseline_right & is_member).sum()),
                "lost": int((is_lost & is_member).sum()),
                "gained": int((is_gained & is_member).sum()),
            }
            for name, is_member in classes.items()
        },
    )


def as_binary(values: ArrayLike, name: str, *, n_rows: int | None = None) -> Binary:
    """Return labels as an int8 array of zeros and ones.

    Parameters
    ----------
    values : array_like of shape (n_rows,)
        Of any numeric type or bool.
    name : str
        The argument's name, for messages.
    n_rows : int, optional
        Expected length.

    Raises
    ------
    ValueError
        If it has another shape or length, or a value is neither 0 nor 1.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {array.shape}")
    if n_rows is not None and len(array) != n_rows:
        raise ValueError(f"{name}: expected {n_rows} rows as in y_true, got {len(array)}")
    is_bad = ~((array == 0) | (array == 1))
    if is_bad.any():
        first = int(is_bad.argmax())
        raise ValueError(f"{name}[{first}] is {array.tolist()[first]!r}; expected a label, 0 or 1")
    return array.astype(np.int8)


def as_share(accuracy: str | int | Fraction, n_rows: int) -> Fraction:
    """Return a reported accuracy as an exact share.

    Raises
    ------
    ValueError
        If it lies outside 0 to 1, or was measured on no rows.
    TypeError
        If it is a float, which is not the number that was reported.
    """
    if isinstance(accuracy, float):
        raise TypeError(f'expected the accuracy as text, such as "{accuracy}", so that it is exact')
    share = Fraction(accuracy)
    if not 0 <= share <= 1:
        raise ValueError(f"accuracy: expected a share between 0 and 1, got {accuracy}")
    if n_rows < 1:
        raise ValueError(f"an accuracy needs at least one row, got {n_rows}")
    return share


def genomes_of(groups: ArrayLike | None, n_rows: int) -> Genomes:
    """Return the genome of each row; without ``groups`` every row is its own.

    Raises
    ------
    ValueError
        If there is not one genome for each row, or a name is empty or missing.
    """
    if groups is None:
        own = np.arange(n_rows, dtype=np.intp)
        return Genomes(names=None, codes=own, sizes=np.ones(n_rows, dtype=np.int64))
    series = pd.Series(groups)
    if len(series) != n_rows:
        raise ValueError(f"groups: expected {n_rows} rows as in y_true, got {len(series)}")
    codes, unique = pd.factorize(series)
    is_missing = (codes < 0) | (series == "").to_numpy(dtype=bool, na_value=True)
    if is_missing.any():
        first = int(is_missing.argmax())
        raise ValueError(f"groups[{first}] is empty; expected the name of the row's genome")
    sizes = np.bincount(codes, minlength=len(unique))
    return Genomes(names=tuple(str(name) for name in unique), codes=codes, sizes=sizes)


def lineages_of(lineages: ArrayLike | None, genomes: Genomes) -> Genomes | None:
    """Return the lineage of each row, or its genome where it has none; None if none is known.

    Raises
    ------
    ValueError
        If there is not one entry for each row.
    """
    if lineages is None:
        return None
    series = pd.Series(lineages, dtype="object")
    if len(series) != len(genomes.codes):
        raise ValueError(f"lineages: expected {len(genomes.codes)} rows, got {len(series)}")
    codes, unique = pd.factorize(series.where(series != "", None))
    is_unknown = codes < 0
    if is_unknown.all():
        return None
    own = np.where(is_unknown, len(unique) + genomes.codes, codes)
    codes, kept = pd.factorize(own)
    names = [*map(str, unique), *(genomes.names or [f"row {i}" for i in genomes.codes])]
    sizes = np.bincount(codes, minlength=len(kept))
    return Genomes(names=tuple(names[i] for i in kept), codes=codes, sizes=sizes)
