"""What train and test are compared by: traits of records, statistics on counts, and their results.

Text becomes numbers once, without knowing which records are in the test set. Each statistic takes
counts over the distinct values of one trait, those of the test rows and those of all rows; beside
it stands the smallest value of it that a level of significance catches. What the values mean is
decided in ``representativeness``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

__all__ = [
    "Categories",
    "Check",
    "Histogram",
    "LineageRow",
    "Outcome",
    "Representativeness",
    "SampledClass",
    "Traits",
    "cohen_w",
    "dinucleotide_shares",
    "effective_units",
    "gc_shares",
    "ks_distance",
    "ks_p",
    "measure_traits",
    "share_p",
    "smallest_cohen_w",
    "smallest_ks_distance",
    "smallest_share_ratio",
]


SampledClass = int | Literal["both"]


class Outcome(StrEnum):
    """How one check came out."""

    PASS = "PASS"  # noqa: S105 - a state, not a password
    WARN = "WARN"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_RUN = "NOT_RUN"
    REPORTED = "REPORTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One trait of train and test, compared within one class.

    Attributes
    ----------
    label : int or "both"
        The class; both together are only reported.
    what : str
        The trait: ``class count``, ``lineage``, ``lineage share``, ``source kind``, ``frame``,
        ``length``, ``GC`` or ``classifier``.
    statistic : str
        Name of the statistic.
    value : float or None
        The statistic. For ``class count``, how many rows the test set is off its number; for
        ``lineage share``, test share over train share of the lineage with the smallest p,
        infinite if it is in the test set alone.
    warn_floor, fail_floor : float or None
        The effects from which on it may warn and fail.
    p : float or None
        How likely the honest sampler is to give an effect as large; None where the effect is
        below its floors.
    alpha : float or None
        The check fails only if ``p`` is at most this.
    smallest_caught : float or None
        The smallest effect that would have failed with this many units; None where none would.
    state : Outcome
        How it came out.
    detail : str
        What a reader needs beside the numbers: the lineage, or what is missing to judge.
    """

    label: SampledClass
    what: str
    statistic: str
    state: Outcome
    value: float | None = None
    warn_floor: float | None = None
    fail_floor: float | None = None
    p: float | None = None
    alpha: float | None = None
    smallest_caught: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageRow:
    """One lineage of one class in train and test, counted in sampling units.

    Attributes
    ----------
    label : int or "both"
        The class.
    lineage : str
        Its name; "" for the records without one.
    n_train, n_test : int
        Sampling units.
    expected_test : float
        Sampling units that the test set would hold in proportion.
    ratio : float
        Test share over train share; infinite for a lineage that is in the test set alone.
    p : float
        Two-sided hypergeometric.
    alpha : float
        The lineage fails only if ``p`` is at most this.
    smallest_caught : float or None
        The smallest ratio above 1 that would have failed; None where none would.
    state : Outcome
        PASS, FAIL or INCONCLUSIVE.
    """

    label: SampledClass
    lineage: str
    n_train: int
    n_test: int
    expected_test: float
    ratio: float
    p: float
    alpha: float
    smallest_caught: float | None
    state: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """One trait of one class in train and test, for a figure.

    Attributes
    ----------
    label : int or "both"
        The class.
    what : str
        ``length`` (residues) or ``GC`` (share, 0 to 1).
    edges : tuple of float, (n_bins + 1,)
        Ends of the bins.
    train, test : tuple of float, (n_bins,)
        Shares of the rows of each part, which sum to 1; all 0 for an empty part.
    """

    label: SampledClass
    what: str
    edges: tuple[float, ...]
    train: tuple[float, ...]
    test: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Representativeness:
    """Train against test.

    Attributes
    ----------
    sampling_unit : str
        What was drawn as a whole: ``record``, ``window`` or ``genome``.
    test_fraction : str
        The share of each class that was to be drawn.
    seed : int
        Of the redraws and of the classifier's halves.
    n_redraws : int
        The most redraws that a p-value rests on.
    n_checks : int
        Checks that share the family-wise error rate.
    checks : tuple of Check
        Class 1, class 0, then both.
    lineages : tuple of LineageRow
        Every lineage of class 1, then of class 0; by p, the least likely first.
    histograms : tuple of Histogram
        Length and GC of each class.
    """

    sampling_unit: str
    test_fraction: str
    seed: int
    n_redraws: int
    n_checks: int
    checks: tuple[Check, ...]
    lineages: tuple[LineageRow, ...]
    histograms: tuple[Histogram, ...]


_BASES = "ACGT"
_OTHER = len(_BASES)
_BASE_CODES = bytes(_BASES.find(chr(byte)) % (_OTHER + 1) for byte in range(256))
_IS_GC = bytes(chr(byte) in "GC" for byte in range(256))
# Sequences looked at together: about 5 MB of 500 bp windows.
_SEQUENCES_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Categories:
    """A text column as whole numbers.

    Attributes
    ----------
    codes : int array, (n_rows,)
        Each row's category.
    names : tuple of str
        The categories, sorted; "" where the text is unknown.
    """

    codes: IntArray
    names: tuple[str, ...]

    @property
    def is_known(self) -> bool:
        """Whether any row's category is known."""
        return any(self.names)

    def take(self, rows: IntArray) -> Categories:
        """Return the given rows, with the categories that occur among them."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        return Categories(codes=codes, names=tuple(self.names[code] for code in present))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The traits of each record.

    Attributes
    ----------
    label : int array, (n_rows,)
        1 viral, 0 not.
    lineage, source_kind, frame : Categories
        From the columns of the same names.
    length_residues : int array, (n_rows,)
        Length of the protein; 0 where it is unknown.
    gc : float array, (n_rows,)
        Share of G and C among the nucleotides, 0 to 1; NaN where they are unknown.
    composition : callable
        Row positions in, more numbers for each of those rows out: float, (n_positions, n_numbers).
        A function, since only a sample of the rows needs them.
    """

    label: npt.NDArray[np.int8]
    lineage: Categories
    source_kind: Categories
    frame: Categories
    length_residues: IntArray
    gc: FloatArray
    composition: Callable[[IntArray], FloatArray]

    def take(self, rows: IntArray) -> Traits:
        """Return the traits of the given rows alone."""
        return Traits(
            label=self.label[rows],
            lineage=self.lineage.take(rows),
            source_kind=self.source_kind.take(rows),
            frame=self.frame.take(rows),
            length_residues=self.length_residues[rows],
            gc=self.gc[rows],
            composition=lambda positions: self.composition(rows[positions]),
        )


def measure_traits(records: pd.DataFrame) -> Traits:
    """Measure the traits of a record table.

    Parameters
    ----------
    records : DataFrame
        A record table (see ``harness.data.records``).

    Returns
    -------
    Traits
        In the order of the table; the dinucleotide shares stand for its composition.
    """
    nucleotides = records["nucleotides"]
    return Traits(
        label=records["label"].to_numpy(),
        lineage=_categories(records["lineage"]),
        source_kind=_categories(records["source_kind"]),
        frame=_categories(records["frame"]),
        length_residues=_lengths(records["protein"]),
        gc=gc_shares(nucleotides),
        composition=lambda positions: dinucleotide_shares(nucleotides.iloc[positions]),
    )


def gc_shares(sequences: pd.Series) -> FloatArray:
    """Return the share of G and C: (n_sequences,), 0 to 1, NaN for an empty sequence."""
    parts = [
        np.add.reduceat(_translate(text, _IS_GC), starts, dtype=np.uint32)
        / np.where(n_bases > 0, n_bases, np.nan)
        for text, starts, n_bases in _pieces(sequences)
    ]
    return np.concatenate([np.empty(0), *parts])


def dinucleotide_shares(sequences: pd.Series) -> FloatArray:
    """Return how often each of AA, AC, ..., TT occurs, overlaps counted.

    Returns
    -------
    float array, (n_sequences, 16)
        Shares of all dinucleotides of A, C, G and T, 0 to 1; all 0 where there is none.
    """
    width = _OTHER + 1
    parts = []
    for text, starts, n_bases in _pieces(sequences):
        bases = _translate(text, _BASE_CODES)
        first_cell = np.arange(len(starts), dtype=np.int32) * width**2
        cell = np.repeat(first_cell, n_bases + 1)[:-1]
        cell += bases[:-1] * np.uint8(width) + bases[1:]
        counts = np.bincount(cell, minlength=len(starts) * width**2)
        known = counts.reshape(-1, width, width)[:, :_OTHER, :_OTHER].reshape(-1, _OTHER**2)
        parts.append(known / np.maximum(known.sum(axis=1, keepdims=True), 1))
    return np.concatenate([np.empty((0, _OTHER**2)), *parts])


def _categories(column: pd.Series) -> Categories:
    codes, names = pd.factorize(column, sort=True)
    return Categories(codes=codes.astype(np.int64), names=tuple(str(name) for name in names))


def _lengths(sequences: pd.Series) -> IntArray:
    return sequences.str.len().to_numpy().astype(np.int64)


def _pieces(sequences: pd.Series) -> Iterator[tuple[bytes, IntArray, IntArray]]:
    """Yield joined sequences, where each starts, and how long it is, some at a time.

    A separator ends each sequence, so that none is empty and no pair of bases spans two of them.
    """
    for first in range(0, len(sequences), _SEQUENCES_AT_ONCE):
        piece = sequences.iloc[first : first + _SEQUENCES_AT_ONCE]
        n_bases = _lengths(piece)
        starts = np.concatenate([[0], np.cumsum(n_bases[:-1] + 1)])
        yield ("\n".join(piece) + "\n").encode("ascii"), starts, n_bases


def _translate(text: bytes, table: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.translate(table), dtype=np.uint8)


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
