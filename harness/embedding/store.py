"""Embeddings on disk: sharded safetensors with a Parquet index, written once, read in slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from harness.artifacts import write_atomically
from harness.embedding.embedder import Embedder
from harness.errors import ArtifactError, DataError
from harness.progress import Task

__all__ = ["EmbeddingStore", "write_store"]

ROWS_PER_SHARD = 16_384
_INDEX = "index.parquet"
_TENSOR = "embeddings"


class EmbeddingStore:
    """Read access to one finished store.

    Parameters
    ----------
    folder : Path
        What ``write_store`` filled.

    Raises
    ------
    ArtifactError
        If the index or a shard cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            index = pd.read_parquet(folder / _INDEX)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder / _INDEX}: not a readable index: {error}") from error
        self._rows: pd.Index[str] = pd.Index(index["id"])
        self._shards = [_shard(folder, n) for n in range(_n_shards(len(index)))]
        self.dim = _shape(self._shards[0])[1]

    @property
    def ids(self) -> pd.Index[str]:
        """Record ids, in the order of the rows."""
        return self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return the embeddings of some records, float32 (n_ids, dim), in the order asked for.

        Raises
        ------
        DataError
            If a record is not in the store; some are named.
        """
        positions = self._rows.get_indexer(pd.Index(ids))
        if (positions < 0).any():
            absent = pd.Index(ids)[positions < 0]
            raise DataError(
                f"{self.folder}: {len(absent)} records are not in this store, such as "
                f"{', '.join(map(repr, absent[:3]))}"
            )
        result = np.empty((len(positions), self.dim), dtype=np.float32)
        for number in np.unique(positions // ROWS_PER_SHARD):
            wanted = np.flatnonzero(positions // ROWS_PER_SHARD == number)
            shard = _read_shard(self._shards[number])
            result[wanted] = shard[positions[wanted] % ROWS_PER_SHARD]
        return result


def write_store(
    folder: Path,
    ids: Sequence[str] | pd.Series[str],
    sequences: Sequence[str] | pd.Series[str],
    embedder: Embedder,
    *,
    task: Task | None = None,
) -> None:
    """Embed records and write them; shards that are already there are not computed again.

    Parameters
    ----------
    folder : Path
        An existing folder; what an interrupted call left in it is continued.
    ids, sequences : sequence of str, (n_records,)
        The records; ids are unique.
    embedder : Embedder
        Computes the vectors.
    task : Task, optional
        Is told how many sequences are done.

    Raises
    ------
    DataError
        If ids and sequences differ in number, or there are none.
    """
    if len(ids) != len(sequences) or not len(ids):
        raise DataError(f"expected as many ids as sequences, got {len(ids)} and {len(sequences)}")
    texts = list(sequences)
    for number in range(_n_shards(len(texts))):
        path = _shard(folder, number)
        part = texts[number * ROWS_PER_SHARD : (number + 1) * ROWS_PER_SHARD]
        if path.exists():  # renamed into place when it was whole
            if task is not None:
                task.advance(len(part))
            continue
        vectors = embedder.embed(part, on_progress=task.advance if task else None)
        write_atomically(path, save({_TENSOR: vectors}))
    pd.DataFrame({"id": pd.Series(list(ids), dtype="str")}).to_parquet(folder / _INDEX)


def _n_shards(n_rows: int) -> int:
    return -(-n_rows // ROWS_PER_SHARD)


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def _shape(path: Path) -> tuple[int, int]:
    with _opened(path) as file:
        n_rows, dim = file.get_slice(_TENSOR).get_shape()
    return n_rows, dim


def _read_shard(path: Path) -> npt.NDArray[np.float32]:
    with _opened(path) as file:
        array: npt.NDArray[np.float32] = file.get_tensor(_TENSOR)
    return array


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="np")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: not a readable shard ({error}). Delete {path.parent} and embed again"
        ) from error
