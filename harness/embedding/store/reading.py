"""Read access to a finished store: rows by id and contiguous slices, mapped from the shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import digest_file
from harness.embedding.joining import collect, locate
from harness.embedding.store.dtypes import DTYPES, widen
from harness.embedding.store.layout import INDEX, Manifest
from harness.errors import ArtifactError

__all__ = ["EmbeddingStore"]

_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header


class EmbeddingStore:
    """Read access to one finished store; the rows stay on disk until they are asked for.

    Parameters
    ----------
    folder : Path
        What ``write_store`` filled.
    check_digests : bool
        Compare every file with the digest in the manifest, which reads them all. Without it only
        their sizes are looked at: enough where something else has just compared them.

    Attributes
    ----------
    dim : int
        Width of the rows.
    dtype : str
        What the values are stored as; they are read as float32.
    ids : Index of str
        Record ids, in the order of the rows.

    Raises
    ------
    ArtifactError
        If the manifest, the index or a shard is damaged or lacking; the file is named.
    """

    def __init__(self, folder: Path, *, check_digests: bool = True) -> None:
        self.folder = folder
        self._manifest = Manifest.read(folder)
        self._plan = self._manifest.plan
        self.dim, self.dtype = self._plan.dim, self._plan.dtype
        if check_digests:
            self._check_digests()
        self._offsets = [self._offset(number) for number in range(self._plan.n_shards)]
        self.ids: pd.Index[str] = self._read_ids()

    def __len__(self) -> int:
        return self._plan.n_rows

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return the embeddings of some records, float32 (n_ids, dim), in the order asked for.

        Raises
        ------
        DataError
            If a record is not in the store; some are named.
        """
        remedy = "Embed the records that you ask for"
        positions = locate(self.ids, ids, what="embedding", folder=self.folder, remedy=remedy)
        numbers, rows = np.divmod(positions, self._plan.rows_per_shard)
        return collect(
            numbers,
            rows,
            dim=self.dim,
            read=lambda number, places: widen(self._map(number)[places], self.dtype),
        )

    def slice(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return the rows from ``start`` to before ``stop``, float32 (stop - start, dim).

        Raises
        ------
        ValueError
            If these are no rows of the store.
        """
        if not 0 <= start <= stop <= len(self):
            raise ValueError(f"expected 0 <= start <= stop <= {len(self)}, got {start}, {stop}")
        result = np.empty((stop - start, self.dim), dtype=np.float32)
        step = self._plan.rows_per_shard
        for number in range(start // step, -(-stop // step)):
            rows = self._plan.rows(number)
            first, last = max(start, rows.start), min(stop, rows.stop)
            part = self._map(number)[first - rows.start : last - rows.start]
            result[first - start : last - start] = widen(part, self.dtype)
        return result

    def _check_digests(self) -> None:
        for name, expected in self._manifest.files(self.folder).items():
            path = self.folder / name
            if not path.is_file():
                raise ArtifactError(f"{path}: is not there. Run again: only this file is made")
            if digest_file(path) != expected:
                raise ArtifactError(f"{path}: is damaged, {_remedy(path)}")

    def _offset(self, number: int) -> int:
        """Return where the values of a shard begin, after the header, if its size is right."""
        path, shape = self._plan.path(self.folder, number), self._plan.shape(number)
        try:
            with path.open("rb") as file:
                offset = _LENGTH_BYTES + int.from_bytes(file.read(_LENGTH_BYTES), "little")
            n_bytes = path.stat().st_size
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error}), {_remedy(path)}") from error
        expected = offset + shape[0] * shape[1] * DTYPES[self.dtype].itemsize
        if n_bytes != expected:
            raise ArtifactError(
                f"{path}: expected {expected} bytes, found {n_bytes}, {_remedy(path)}"
            )
        return offset

    def _map(self, number: int) -> npt.NDArray[Any]:
        path = self._plan.path(self.folder, number)
        try:
            return np.memmap(
                path,
                dtype=DTYPES[self.dtype],
                mode="r",
                offset=self._offsets[number],
                shape=self._plan.shape(number),
            )
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}), {_remedy(path)}") from error

    def _read_ids(self) -> pd.Index[str]:
        path = self.folder / INDEX
        try:
            ids: pd.Index[str] = pd.Index(pd.read_parquet(path, columns=["id"])["id"])
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{path}: not a readable index ({error}), {_remedy(path)}"
            ) from error
        if len(ids) != len(self):
            raise ArtifactError(
                f"{path}: has {len(ids)} ids, expected {len(self)}, {_remedy(path)}"
            )
        return ids


def _remedy(path: Path) -> str:
    return f"delete this file and run again: only {path.name} is made anew"
