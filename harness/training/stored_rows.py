"""Features that stay on disk: single rows of embeddings, side by side, read when needed.

For features larger than memory. Rows of an embedding store are read at their place in the shard,
several at once, so that what is held is what was asked for; embeddings that were brought from
elsewhere are asked for by id. How a store comes to be is not known here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from harness.embedding.joining import Rows, locate
from harness.embedding.store import EmbeddingStore
from harness.embedding.store.dtypes import DTYPES, widen
from harness.errors import ArtifactError

__all__ = ["StoredRows"]

READERS = 8  # reads under way at once: disks answer random reads faster when several wait

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # as safetensors calls them

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


class StoredRows:
    """The features of some records: the rows of one or more stores, joined end to end.

    Parameters
    ----------
    stores : sequence of Rows
        Such as the nucleotide store, then the protein store. Rows of an ``EmbeddingStore``, of any
        dtype, are read quickest.
    ids : sequence of str, (n_rows,)
        The records, in the order of the rows.

    Raises
    ------
    DataError
        If a record is not in a store.
    ArtifactError
        If a shard cannot be read.
    """

    def __init__(self, stores: Sequence[Rows], ids: Sequence[str] | pd.Series[str]) -> None:
        self._parts: list[tuple[slice, _Source]] = []
        start = 0
        for store in stores:
            stop = start + store.dim
            self._parts.append((slice(start, stop), _source(store, pd.Index(ids))))
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
        DataError
            If a record is not in a store.
        ArtifactError
            If a shard cannot be read.
        """
        rows = torch.empty((len(positions), self.shape[1])) if into is None else into
        target, wanted = rows.numpy(), positions.numpy()
        with ThreadPoolExecutor(READERS) as readers:
            reads = [
                readers.submit(read)
                for columns, source in self._parts
                for read in source.reads(target[:, columns], wanted)
            ]
        for done in reads:
            done.result()
        return rows


class _Source(Protocol):
    """One store's rows of the records."""

    def reads(self, target: Floats, positions: Numbers) -> Iterator[Callable[[], None]]:
        """Yield calls that together fill the target, in any order, with the rows asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ById:
    """Rows that their store finds."""

    store: Rows
    ids: pd.Index[str]

    def reads(self, target: Floats, positions: Numbers) -> Iterator[Callable[[], None]]:
        yield partial(self._read, target, positions)

    def _read(self, target: Floats, positions: Numbers) -> None:
        target[:] = self.store.rows(self.ids.take(positions).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """Where the rows of one shard lie."""

    path: Path
    n_rows: int
    dim: int
    dtype: str
    offset_bytes: int

    def read(self, target: Floats, places: Numbers, numbers: Numbers) -> None:
        """Read the rows ``numbers`` of the shard into the rows ``places`` of the target."""
        stored = np.empty((len(numbers), self.dim), dtype=DTYPES[self.dtype])
        n_bytes = stored.strides[0]
        try:
            with self.path.open("rb", buffering=0) as file:
                for row, number in zip(stored, numbers.tolist(), strict=True):
                    offset = self.offset_bytes + number * n_bytes
                    if os.preadv(file.fileno(), [row], offset) != n_bytes:
                        raise ArtifactError(f"{self.path}: ends within a row. {_remedy(self.path)}")
        except OSError as error:
            raise ArtifactError(
                f"{self.path}: cannot be read ({error}). {_remedy(self.path)}"
            ) from error
        target[places] = widen(stored, self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shards:
    """Rows that are read at their place."""

    shards: tuple[_Shard, ...]
    first_rows: Numbers  # of each shard, within the store
    rows: Numbers  # of each record, within the store

    def reads(self, target: Floats, positions: Numbers) -> Iterator[Callable[[], None]]:
        rows = self.rows[positions]
        shard_numbers = np.searchsorted(self.first_rows, rows, side="right") - 1
        for number in np.unique(shard_numbers):
            places = np.flatnonzero(shard_numbers == number)
            within = rows[places] - self.first_rows[number]
            ascending = np.argsort(within, kind="stable")
            yield partial(self.shards[number].read, target, places[ascending], within[ascending])


def _source(store: Rows, ids: pd.Index[str]) -> _Source:
    if not isinstance(store, EmbeddingStore):
        return _ById(store=store, ids=ids)
    remedy = "Embed the records that you ask for"
    rows = locate(store.ids, ids.to_series(), what="embedding", folder=store.folder, remedy=remedy)
    shards = tuple(map(_read_header, sorted(store.folder.glob("shard-*.safetensors"))))
    first_rows = np.cumsum([0, *(shard.n_rows for shard in shards)])[:-1]
    return _Shards(shards=shards, first_rows=first_rows, rows=rows)


def _read_header(path: Path) -> _Shard:
    """Safetensors: eight bytes of length, a JSON header, then the raw values."""
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(header_bytes))["embeddings"]
        (n_rows, dim), (begin, _) = entry["shape"], entry["data_offsets"]
        dtype = _DTYPES[entry["dtype"]]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path}: not a readable shard ({error}). {_remedy(path)}") from error
    offset_bytes = 8 + header_bytes + begin
    return _Shard(path=path, n_rows=n_rows, dim=dim, dtype=dtype, offset_bytes=offset_bytes)


def _remedy(path: Path) -> str:
    return f"Delete {path.parent} and embed again"
