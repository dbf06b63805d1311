"""What the comparison of train and test looks at: a few numbers for each record.

Text becomes numbers here, once. Nothing here knows which records are in the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Categories", "Traits", "dinucleotide_shares", "gc_shares", "measure_traits"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

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
