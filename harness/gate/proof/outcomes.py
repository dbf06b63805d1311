"""From labels and predictions to counts: who was right where, row by row and genome by genome.

Arguments are checked here, once. What the counts mean is accuracy.py's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from harness.gate.accuracy.design_effect import GenomeEffect, genome_effect

__all__ = [
    "Binary",
    "Genomes",
    "PairedOutcomes",
    "as_binary",
    "as_share",
    "count_paired",
    "genomes_of",
]

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
class PairedOutcomes:
    """How two sets of predictions of the same rows compare.

    Attributes
    ----------
    n_rows, both_right, lost, gained : int
        Rows; those that both, only the baseline, or only the candidate has right.
    genomes : Genomes
        The genome of each row.
    lost_by_genome, gained_by_genome : array of shape (n_genomes,), int
        The same for each genome.
    by_class : dict of str to dict of str to int
        n, baseline_right, lost and gained among the ``viral`` and the ``nonviral`` rows.
    """

    n_rows: int
    both_right: int
    lost: int
    gained: int
    genomes: Genomes
    lost_by_genome: Counts
    gained_by_genome: Counts
    by_class: dict[str, dict[str, int]]

    @property
    def both_wrong(self) -> int:
        """Rows that neither has right."""
        return self.n_rows - self.both_right - self.lost - self.gained

    @property
    def baseline_right(self) -> int:
        """Rows that the baseline has right."""
        return self.both_right + self.lost

    def effect(self) -> GenomeEffect:
        """Return what the genomes do to the paired difference."""
        discordant = self.lost + self.gained
        return genome_effect(
            self.genomes.sizes,
            self.lost_by_genome - self.gained_by_genome,
            sum_of_squares=discordant,
            n_informative=discordant,
        )


def count_paired(
    y_true: ArrayLike,
    baseline_pred: ArrayLike,
    candidate_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
) -> PairedOutcomes:
    """Count who is right where.

    Parameters
    ----------
    y_true, baseline_pred, candidate_pred : array_like of shape (n_rows,)
        Labels, 0 or 1, in the same row order.
    groups : array_like of shape (n_rows,), optional
        The genome of each row; without it every row is its own genome.

    Raises
    ------
    ValueError
        If lengths differ, or a value is neither 0 nor 1, or a row has no genome.
    """
    labels = as_binary(y_true, "y_true")
    baseline_right = as_binary(baseline_pred, "baseline_pred", n_rows=len(labels)) == labels
    candidate_right = as_binary(candidate_pred, "candidate_pred", n_rows=len(labels)) == labels
    genomes = genomes_of(groups, len(labels))
    is_lost, is_gained = baseline_right & ~candidate_right, candidate_right & ~baseline_right
    classes = {"viral": labels == 1, "nonviral": labels == 0}
    return PairedOutcomes(
        n_rows=len(labels),
        both_right=int((baseline_right & candidate_right).sum()),
        lost=int(is_lost.sum()),
        gained=int(is_gained.sum()),
        genomes=genomes,
        lost_by_genome=genomes.count(is_lost),
        gained_by_genome=genomes.count(is_gained),
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
