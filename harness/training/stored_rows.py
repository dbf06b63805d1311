"""Features that stay on disk: single rows of embedding stores, side by side, read when needed.

For features larger than memory. Rows are read at their place in the shard, so that what is held is
what was asked for. How a store comes to be is not known here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from harness.embedding.store import EmbeddingStore
from harness.errors import ArtifactError, DataError

__all__ = ["StoredRows"]

READERS = 8  # reads under way at once: disks answer random reads faster when several wait


class StoredRows:
    """The features of some records: the rows of one or more stores, joined end to end.

    Parameters
    ----------
    stores : sequence of EmbeddingStore
        Such as the nucleotide store, then the protein store.
    ids : sequence of str, (n_rows,)
        The records, in the order of the rows.

    Raises
    ------
    DataError
        If a record is not in a store.
    ArtifactError
        If a shard cannot be read.
    """

    def __init__(self, stores: Sequence[EmbeddingStore], ids: Sequence[str] | pd.Series) -> None:
        self._columns: list[_Columns] = []
        start = 0
        for store in stores:
            stop = start + store.dim
            self._columns.append(_columns(store, pd.Index(ids), slice(start, stop)))
            start = stop
        self.shape = (len(ids), start)

    def read(self, positions: torch.Tensor, *, into: torch.Tensor | None = None) -> torch.Tensor:
        """Return some rows in the order asked for, float32 (n_positions, n_features).

        Parameters
        ----------
        positions : int64 tensor, (n_positions,)
            Row numbers.
        into : float32 tensor, (n_positions, n_features), optional
            Is overwritten and returned; in the host's memory.

        Raises
        ------
        ArtifactError
            If a shard cannot be read.
        """
        rows = torch.empty((len(positions), self.shape[1])) if into is None else into
        target, wanted = rows.numpy(), positions.numpy()
        with ThreadPoolExecutor(READERS) as readers:
            parts = [
                readers.submit(shard.read_into, target[:, part.columns], places, numbers)
                for part in self._columns
                for shard, places, numbers in part.by_shard(wanted)
            ]
        for done in parts:
            done.result()
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """Where the rows of one shard lie."""

    path: Path
    n_rows: int
    row_bytes: int
    offset_bytes: int

    def read_into(
        self,
        target: npt.NDArray[np.float32],
        places: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
    ) -> None:
        """Read the rows ``numbers`` of the shard into the rows ``places`` of the target."""
        try:
            with self.path.open("rb", buffering=0) as file:
                for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
                    offset = self.offset_bytes + number * self.row_bytes
                    if os.preadv(file.fileno(), [target[place]], offset) != self.row_bytes:
                        raise ArtifactError(f"{self.path}: ends within a row. {_remedy(self.path)}")
        except OSError as error:
            raise ArtifactError(
                f"{self.path}: cannot be read ({error}). {_remedy(self.path)}"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """One store's share of the features."""

    columns: slice
    shards: tuple[_Shard, ...]
    first_rows: npt.NDArray[np.int64]  # of each shard, within the store
    rows: npt.NDArray[np.int64]  # of each record, within the store

    def by_shard(
        self, positions: npt.NDArray[np.int64]
    ) -> list[tuple[_Shard, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Return, for each shard that is needed, places in the result and rows in the shard."""
        rows = self.rows[positions]
        shard_numbers = np.searchsorted(self.first_rows, rows, side="right") - 1
        found = []
        for number in np.unique(shard_numbers):
            places = np.flatnonzero(shard_numbers == number)
            within = rows[places] - self.first_rows[number]
            ascending = np.argsort(within, kind="stable")
            found.append((self.shards[number], places[ascending], within[ascending]))
        return found


def _columns(store: EmbeddingStore, ids: pd.Index, columns: slice) -> _Columns:
    rows = store.ids.get_indexer(ids)
    if (rows < 0).any():
        absent = ids[rows < 0]
        raise DataError(
            f"{store.folder}: {len(absent)} records are not in this store, such as {absent[0]!r}"
        )
    shards = tuple(map(_read_header, sorted(store.folder.glob("shard-*.safetensors"))))
    first_rows = np.cumsum([0, *(shard.n_rows for shard in shards)])[:-1]
    return _Columns(columns=columns, shards=shards, first_rows=first_rows, rows=rows)


def _read_header(path: Path) -> _Shard:
    """Safetensors: eight bytes of length, a JSON header, then the raw values."""
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(header_bytes))["embeddings"]
        (n_rows, dim), (begin, _) = entry["shape"], entry["data_offsets"]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path}: not a readable shard ({error}). {_remedy(path)}") from error
    if entry["dtype"] != "F32":
        raise ArtifactError(f"{path}: expected float32 values, found {entry['dtype']}")
    return _Shard(
        path=path, n_rows=n_rows, row_bytes=4 * dim, offset_bytes=8 + header_bytes + begin
    )


def _remedy(path: Path) -> str:
    return f"Delete {path.parent} and embed again"
