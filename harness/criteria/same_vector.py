"""The same vector? The arithmetic of both questions that are asked of embeddings.

*Is it the right function of the weights?* A row and its reference, both in float32, are compared by
relative L2. *Is it the right row?* In any dtype a row is compared with the stored ones, each
dimension in units of its spread over the store, so that the few huge ones that real vectors have
cannot hide the others. Which rows are compared, and what follows, is decided by the callers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = [
    "LARGEST_COLUMN",
    "LARGEST_RELATIVE_L2",
    "LARGEST_SHARE",
    "Comparison",
    "compare_rows",
    "relative_l2",
    "take_yardstick",
]

# Float32 through 36 layers, summed in another order: transformers is at 2.3e-6 of float64 with real
# 8M weights. Pooled BOS and EOS, a missing layer, and weights off by .1% lie over 1e-4.
LARGEST_RELATIVE_L2 = 5e-5
# Of the median distance between two rows, which is 1.35 with real 8M weights: bfloat16 moves a row
# by .076 at most there, and the nearest other protein of 300 is at .243.
LARGEST_SHARE = 0.1

# Of one dimension, over all rows compared: a label that is written into it moves it by more.
# Bfloat16 moves the worst dimension of the worst of 300 rows by .35, most by a tenth of that.
LARGEST_COLUMN = 0.25

PAIRED_ROWS = 500  # all their pairs: about 125,000
ROWS_AT_A_TIME = 1_000
# Rows of a store this near each other, in units of what embedding again moves the median row by,
# are no two rows to this measure: proteins that differ in one residue of a thousand, say.
INDISTINCT = 4
# A dimension that all rows share has no spread to measure by. Rounded to half precision it still
# differs by this much of its mean, or, where that is 0, by as little of the others' spread.
LEAST_SPREAD = 2.0**-8

Rows: TypeAlias = npt.NDArray[np.float32]
Floats: TypeAlias = npt.NDArray[np.float64]


def relative_l2(found: Rows, expected: Rows) -> Floats:
    """Return how far each row is from its reference: norm of the difference over the norm.

    Parameters
    ----------
    found, expected : float32 array, (n_rows, dim)

    Returns
    -------
    float64 array, (n_rows,)
        NaN where a row is not finite or the reference is 0.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if found.shape != expected.shape:
        raise ValueError(f"expected rows of one shape, got {found.shape} and {expected.shape}")
    reference = np.asarray(expected, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.linalg.norm(found - reference, axis=1)
        return np.asarray(differences / np.linalg.norm(reference, axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What is near in a store, by its own rows.

    Attributes
    ----------
    centre, spread : float64 array, (dim,)
        Mean and standard deviation of each dimension over the rows.
    median_distance : float
        Of two different rows: the root mean square, over dimensions, of their difference in units
        of the spread. NaN where no two rows differ.
    """

    centre: Floats
    spread: Floats
    median_distance: float

    def distances(self, some: Rows | Floats, others: Rows | Floats) -> Floats:
        """Return how far each row is from the other of the same number, float64 (n_rows,)."""
        difference = (some.astype(np.float64) - others) / self.spread
        return np.asarray(np.sqrt(np.mean(difference**2, axis=1)), dtype=np.float64)

    def scaled(self, rows: Rows) -> Floats:
        """Return rows whose Euclidean distances are those of :meth:`distances`."""
        scaled = (rows.astype(np.float64) - self.centre) / self.spread
        return np.asarray(scaled / np.sqrt(rows.shape[1]), dtype=np.float64)


def take_yardstick(rows: Rows) -> Yardstick:
    """Return the yardstick of a store, from its rows or a sample of them.

    Parameters
    ----------
    rows : float32 array, (n_rows, dim)
        Rows that are not finite are left out; identical ones count once.
    """
    finite = np.unique(rows[np.isfinite(rows).all(axis=1)], axis=0).astype(np.float64)
    if not len(finite):
        nothing = np.full(rows.shape[1], np.nan)
        return Yardstick(centre=nothing, spread=nothing, median_distance=np.nan)
    centre, spread = finite.mean(axis=0), finite.std(axis=0)
    least = LEAST_SPREAD * np.maximum(np.abs(centre), np.median(spread))
    spread = np.maximum(spread, np.maximum(least, np.finfo(np.float32).tiny))
    positions = np.linspace(0, len(finite) - 1, min(PAIRED_ROWS, len(finite))).astype(int)
    paired = finite[positions]
    measured = Yardstick(centre=centre, spread=spread, median_distance=np.nan)
    pairs = [measured.distances(paired[:-n], paired[n:]) for n in range(1, len(paired))]
    median = float(np.median(np.concatenate(pairs))) if pairs else np.nan
    return Yardstick(centre=centre, spread=spread, median_distance=median)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Rows embedded again, against the stored ones.

    Attributes
    ----------
    shares : float64 array, (n_rows,)
        How far each is from its own stored row, over the median distance of two rows.
    is_mistaken : bool array, (n_rows,)
        Whether another compared row is nearer than its own.
    largest_column : float
        Root mean square, over the rows, of the dimension that moved most, in units of its spread.
    """

    shares: Floats
    is_mistaken: npt.NDArray[np.bool_]
    largest_column: float

    @property
    def largest_share(self) -> float:
        """The largest of the shares; NaN if one is no number."""
        return float(self.shares.max(initial=0.0))

    @property
    def is_same(self) -> bool:
        """Whether every row is its own: near enough, and none is nearer."""
        return bool((self.shares <= LARGEST_SHARE).all() and not self.is_mistaken.any())


def compare_rows(
    again: Rows,
    stored: Rows,
    yardstick: Yardstick,
    *,
    keys: Sequence[Hashable] | None = None,
) -> Comparison:
    """Compare rows embedded again with the stored ones.

    Parameters
    ----------
    again, stored : float32 array, (n_rows, dim)
        Row by row of the same records.
    yardstick : Yardstick
        Of the store.
    keys : sequence, (n_rows,), optional
        What was embedded: rows of equal keys count once. Default: each row is of its own.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if again.shape != stored.shape:
        raise ValueError(f"expected rows of one shape, got {again.shape} and {stored.shape}")
    again = np.where(np.isfinite(again), again, np.float32(np.nan))  # infinities subtract to it
    numbers = np.arange(len(again)) if keys is None else pd.factorize(pd.Series(list(keys)))[0]
    own = yardstick.distances(again, stored)
    nearest = _nearest_others(again, stored, numbers, yardstick, own)
    moved = ((again.astype(np.float64) - stored) / yardstick.spread) ** 2
    return Comparison(
        shares=own / yardstick.median_distance,
        is_mistaken=yardstick.distances(again, stored[nearest]) < own,
        largest_column=float(np.sqrt(moved.mean(axis=0)).max(initial=0.0)),
    )


def _nearest_others(
    again: Rows,
    stored: Rows,
    numbers: npt.NDArray[np.integer],
    yardstick: Yardstick,
    own: Floats,
) -> npt.NDArray[np.intp]:
    """Return the place of the stored row nearest to each, but for those that are one with its own.

    Where there is no other row it is its own.
    """
    targets = yardstick.scaled(stored)
    indistinct = (INDISTINCT * np.median(own)) ** 2 if len(own) else 0.0
    nearest = np.arange(len(again))
    for start in range(0, len(again), ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        is_one = numbers[part, None] == numbers
        is_one |= ~(_squares(targets[part], targets) > indistinct)
        squares = np.where(is_one, np.inf, _squares(yardstick.scaled(again[part]), targets))
        has_other = np.isfinite(squares).any(axis=1)
        nearest[part] = np.where(has_other, squares.argmin(axis=1), nearest[part])
    return nearest


def _squares(some: Floats, others: Floats) -> Floats:
    """Return the squared distances of all pairs, (n_some, n_others), but for rounding."""
    own = np.sum(some**2, axis=1)[:, None] + np.sum(others**2, axis=1)
    return np.asarray(own - 2 * some @ others.T, dtype=np.float64)
