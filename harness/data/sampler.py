"""The sampler: which whole units of records make up a random part of each class's exact size.

It draws the test set, the validation part, and every redraw that the tests of representativeness
compare them with. What a unit is, ``groups`` decides.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.groups import Codes, sampling_units

__all__ = ["Sampler", "exact_fraction"]

N_CLASSES = 2

Mask = npt.NDArray[np.bool_]


class Sampler:
    """Draws a part of each class at random, in whole units.

    The units are walked in random order; each is taken if it still fits in the number of rows
    that its class, or each of its classes, may have. Where no unit fits into what is left,
    one more is taken if that comes nearer to the numbers, or if a class would be absent otherwise.

    Parameters
    ----------
    records : DataFrame
        A record table.
    test_fraction : str, float or Fraction
        The share of each class to draw, strictly between 0 and 1. ``round(fraction * n)`` rows of
        a class of n are aimed at, ties to even, in exact arithmetic; a float counts as the
        decimal number that it prints as.
    sampling_unit : {"record", "window", "genome"}
        What is drawn as a whole; see ``sampling_units``.
    units : int array, (n_rows,), optional
        Other units to draw, numbered from 0 on, in place of those of ``sampling_unit``. Numbers
        that do not occur do no harm.

    Attributes
    ----------
    units : int array, (n_rows,)
        Each row's unit.
    unit_rows : int array, (n_classes, n_units)
        How many rows of each class a unit has.
    targets : int array, (n_classes,)
        How many rows of each class are aimed at.

    Raises
    ------
    ValueError
        For a fraction outside (0, 1), or an unknown sampling unit.
    DataError
        If genomes are drawn and a row's genome is unknown.

    Examples
    --------
    >>> sampler = Sampler(records, "0.10", "window")  # doctest: +SKIP
    >>> is_test = sampler.draw(np.random.default_rng(42))  # doctest: +SKIP
    """

    def __init__(
        self,
        records: pd.DataFrame,
        test_fraction: str | float | Fraction = "0.10",
        sampling_unit: str = "record",
        *,
        units: Codes | None = None,
    ) -> None:
        fraction = exact_fraction(test_fraction)
        label = records["label"].to_numpy()
        self.units = sampling_units(records, sampling_unit) if units is None else units
        self.unit_rows = _count_rows(self.units, label)
        n_rows = self.unit_rows.sum(axis=1)
        self.targets = np.array([round(fraction * int(n)) for n in n_rows], dtype=np.int64)

    def draw(self, rng: np.random.Generator) -> Mask:
        """Draw once: (n_rows,), True for the rows drawn."""
        return self.draw_units(rng)[self.units]

    def draw_units(self, rng: np.random.Generator) -> Mask:
        """Draw once: (n_units,), True for the units drawn. Cheaper than ``draw``."""
        order = rng.permutation(self.unit_rows.shape[1])
        rows = self.unit_rows[:, order]
        is_taken = _walk(rows, self.targets)
        _come_nearer(rows, self.targets, is_taken)
        drawn = np.empty_like(is_taken)
        drawn[order] = is_taken
        return drawn


def exact_fraction(value: str | float | Fraction) -> Fraction:
    """Return a fraction between 0 and 1 exactly; a float counts as the decimal that it prints as.

    Examples
    --------
    >>> exact_fraction(0.1), exact_fraction("0.10"), exact_fraction("1/3")
    (Fraction(1, 10), Fraction(1, 10), Fraction(1, 3))

    Raises
    ------
    ValueError
        If it is no number, or does not lie strictly between 0 and 1.
    """
    fraction = Fraction(str(value))
    if not 0 < fraction < 1:
        raise ValueError(f"a fraction must lie between 0 and 1, got {value}")
    return fraction


def _count_rows(units: Codes, label: npt.NDArray[np.int8]) -> Codes:
    n_units = int(units.max(initial=-1)) + 1
    counts = [np.bincount(units[label == c], minlength=n_units) for c in range(N_CLASSES)]
    return np.stack(counts).astype(np.int64)


def _walk(rows: Codes, targets: Codes) -> Mask:
    """Take the units that still fit, in order; a few passes, each over what may still fit."""
    is_taken = np.zeros(rows.shape[1], dtype=bool)
    left = targets.copy()
    waiting = _fitting(rows, left, np.arange(rows.shape[1]))
    while waiting.size:
        filled = rows[:, waiting].cumsum(axis=1)
        n_taken = min(
            int(np.searchsorted(filled[c], left[c], side="right")) for c in range(N_CLASSES)
        )
        is_taken[waiting[:n_taken]] = True
        left -= filled[:, n_taken - 1]
        waiting = _fitting(rows, left, waiting[n_taken:])
    return is_taken


def _fitting(rows: Codes, left: Codes, waiting: Codes) -> Codes:
    fits = np.logical_and.reduce([rows[c, waiting] <= left[c] for c in range(N_CLASSES)])
    return waiting[fits]


def _come_nearer(rows: Codes, targets: Codes, is_taken: Mask) -> None:
    """Take a unit that is too large to fit where that helps; leave some rows of each class."""
    for c in range(N_CLASSES):
        taken = rows[:, is_taken].sum(axis=1)
        left = targets - taken
        if left[c] <= 0:
            continue
        remaining = (rows.sum(axis=1) - taken)[:, np.newaxis]
        leaves_some = ((rows < remaining) | (rows == 0)).all(axis=0)
        waiting = np.flatnonzero(~is_taken & leaves_some & (rows[c] > 0))
        if not waiting.size:
            continue
        rows_off = np.abs(left[:, np.newaxis] - rows[:, waiting]).sum(axis=0)
        nearest = int(np.argmin(rows_off))
        is_taken[waiting[nearest]] = taken[c] == 0 or rows_off[nearest] < np.abs(left).sum()
