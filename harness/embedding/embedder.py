"""The one seam for embedders: what every one of them offers.

A further embedder is one new file with a class of this shape, and one entry in a config.

Vectors by record id: what every kind of store offers, how rows are found and read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.errors import DataError

__all__ = [
    "Embedder",
    "Rows",
    "collect",
    "locate",
]


class Rows(Protocol):
    """Vectors by record id, wherever they lie: computed here, or brought.

    Attributes
    ----------
    dim : int
        Width of the rows.
    """

    dim: int

    @property
    def ids(self) -> pd.Index[str]:
        """Record ids, in the order of the rows."""

    def __len__(self) -> int:
        """Return how many rows there are."""

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of some records, float32 (n_ids, dim), in the order asked for."""


def locate(
    index: pd.Index[str],
    ids: Sequence[str] | pd.Series[str],
    *,
    what: str,
    folder: Path,
    remedy: str,
) -> npt.NDArray[np.int64]:
    """Return where each record stands in an index, in the order asked for.

    Parameters
    ----------
    index : Index of str
        Ids of all rows, no two alike.
    ids : sequence of str, (n_ids,)
        The records.
    what, folder, remedy : str, Path, str
        For the error: what the rows are, where they lie, and what to do.

    Raises
    ------
    DataError
        If a record has no row; some are named.
    """
    wanted = pd.Index(ids)
    positions = index.get_indexer(wanted)
    if (positions < 0).any():
        absent = wanted[positions < 0]
        raise DataError(
            f"{folder}: {len(absent)} of {len(positions)} records have no {what}, "
            f"such as {', '.join(map(repr, absent[:3]))}. {remedy}"
        )
    return np.asarray(positions, dtype=np.int64)


def collect(
    numbers: npt.NDArray[np.integer],
    rows: npt.NDArray[np.integer],
    *,
    dim: int,
    read: Callable[[int, npt.NDArray[np.integer]], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Return rows that lie in several files, float32 (n_rows, dim), in the order asked for.

    Parameters
    ----------
    numbers, rows : int array, (n_rows,)
        The file of each row, and its place there.
    dim : int
        Width of the rows.
    read : callable
        From a file's number and places, ascending, to the rows there; called once a file.
    """
    result = np.empty((len(rows), dim), dtype=np.float32)
    order = np.lexsort((rows, numbers))
    for wanted in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        if len(wanted):
            result[wanted] = read(int(numbers[wanted[0]]), rows[wanted])
    return result


class Embedder(Protocol):
    """Turns sequences into vectors.

    Attributes
    ----------
    name : str
        For people.
    dim : int
        Width of its vectors.
    digest : str
        sha256 (hex) of everything that decides the vectors: weights, dtype, pooling.
    """

    name: str
    dim: int
    digest: str

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return float32 vectors (n_sequences, dim), row by row those of ``sequences``.

        ``on_progress`` is told how many more sequences are done. A sequence that cannot be
        embedded raises DataError with its position.
        """
