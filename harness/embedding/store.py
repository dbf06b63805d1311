"""The files of an embedding store: what a shard holds, the manifest, and reading rows by id.

A shard is a safetensors file whose metadata hold a digest of its values and of what they were
computed from, so that a shard of an interrupted extraction proves by itself that it is whole and
belongs there. Vectors are float32 in memory; halving the bytes on disk is a choice of whoever
writes. How a store is filled is ``extraction``'s business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from harness.artifacts import digest_file, digest_json, write_atomically
from harness.data.inputs import read_parquet
from harness.documents import read_json
from harness.embedding.embedder import collect, locate
from harness.errors import ArtifactError, DataError, HarnessError

__all__ = [
    "DTYPES",
    "INDEX",
    "LAYOUT",
    "MANIFEST",
    "EmbeddingStore",
    "Manifest",
    "StorePlan",
    "choose_rows_per_shard",
    "narrow",
    "widen",
]


# As numpy sees the values of a file; safetensors is little-endian.
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
}
_BFLOAT16_BITS = 16


def narrow(vectors: npt.NDArray[np.float32], dtype: str) -> torch.Tensor:
    """Return vectors as they are stored, rounded to the nearest value of the format.

    Raises
    ------
    DataError
        If a finite value is too large for the format; the row is given.
    """
    exact = torch.from_numpy(np.ascontiguousarray(vectors))
    stored = exact.to(getattr(torch, dtype))
    is_lost = (exact.isfinite() & ~stored.isfinite()).any(dim=1)
    if is_lost.any():
        row = int(is_lost.nonzero()[0])
        raise DataError(
            f"row {row} of the shard (counted from 0) holds {np.abs(vectors[row]).max():g}, too "
            f"large for {dtype}. Store the embeddings as float32"
        )
    return stored


def widen(stored: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """Return stored values as float32, which holds each of them exactly."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << _BFLOAT16_BITS).view(np.float32)
    return np.asarray(stored, dtype=np.float32)


MOST_ROWS = 1 << 40
LAYOUT = 2  # part of what a cached store is found by; 1 had no manifest
INDEX = "index.parquet"
MANIFEST = "embeddings.json"
TENSOR = "embeddings"

# Enough shards that ranks end together and little is lost with one; enough rows in each to keep a
# GPU busy. Nothing here may depend on the number of processes, or the files would.
SHARDS_WANTED = 256
MIN_ROWS_PER_SHARD, MAX_ROWS_PER_SHARD = 2_048, 16_384


def choose_rows_per_shard(n_rows: int) -> int:
    """Return a power of two that divides the rows into about 256 shards, within bounds.

    Examples
    --------
    >>> [choose_rows_per_shard(n) for n in (5_000, 1_000_000, 200_000_000)]
    [2048, 4096, 16384]
    """
    wanted = 1 << max(0, (n_rows // SHARDS_WANTED).bit_length())
    return min(MAX_ROWS_PER_SHARD, max(MIN_ROWS_PER_SHARD, wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlan:
    """What a store is to hold: all that decides its bytes, but the vectors themselves.

    Attributes
    ----------
    embedder : str
        Name of what computes the vectors, for people.
    embedder_sha256 : str
        Digest of everything that decides the vectors.
    records_sha256 : str
        Digest of the ids and sequences, in order.
    n_rows, dim : int
        Shape of the whole.
    dtype : str
        Format of the stored values: float32, float16 or bfloat16.
    rows_per_shard : int
        Of every shard but the last.
    """

    embedder: str
    embedder_sha256: str
    records_sha256: str
    n_rows: int
    dim: int
    dtype: str
    rows_per_shard: int

    @property
    def n_shards(self) -> int:
        """How many shards the rows take."""
        return -(-self.n_rows // self.rows_per_shard)

    @property
    def sha256(self) -> str:
        """Digest of the plan."""
        return digest_json(asdict(self))

    def rows(self, number: int) -> range:
        """Return the rows of a shard."""
        start = number * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, self.n_rows))

    def shape(self, number: int) -> tuple[int, int]:
        """Return the shape of a shard: (row, dim)."""
        return len(self.rows(number)), self.dim

    def path(self, folder: Path, number: int) -> Path:
        """Return where a shard lies."""
        return folder / f"shard-{number:06d}.safetensors"

    def encode(self, number: int, stored: torch.Tensor) -> bytes:
        """Return a shard's file, given its values as they are stored."""
        digest = hashlib.sha256(f"{self.sha256} {number} ".encode())
        digest.update(stored.contiguous().view(torch.uint8).numpy().data)
        return save({TENSOR: stored}, {"sha256": digest.hexdigest()})

    def is_sound(self, number: int, content: bytes) -> bool:
        """Whether a file is what ``encode`` would write again, given the values in it."""
        try:
            stored = load(content)[TENSOR]
        except (SafetensorError, KeyError):
            return False
        has_shape = (tuple(stored.shape), stored.dtype) == (
            self.shape(number),
            getattr(torch, self.dtype),
        )
        return has_shape and self.encode(number, stored) == content


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a finished store holds.

    Attributes
    ----------
    plan : StorePlan
        What was computed.
    index_sha256 : str
        Digest of the index.
    shards_sha256 : tuple of str
        Digest of each shard's file.
    """

    plan: StorePlan
    index_sha256: str
    shards_sha256: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write the manifest; a store is finished once it is there."""
        table = {
            "layout": LAYOUT,
            "settings": asdict(self.plan),
            "files": self.files(folder),
        }
        write_atomically(folder / MANIFEST, json.dumps(table, indent=1, sort_keys=True))

    def files(self, folder: Path) -> dict[str, str]:
        """Return the sha256 of each file, by its name."""
        shards = {self.plan.path(folder, n).name: s for n, s in enumerate(self.shards_sha256)}
        return {INDEX: self.index_sha256} | shards

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a finished store; ArtifactError if it is none."""
        path = folder / MANIFEST
        try:
            return _parse(read_json(path), folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path}: not a readable manifest of embeddings ({error}). Delete {folder} and "
                "run again"
            ) from error


def _parse(table: Mapping[str, Any], folder: Path) -> Manifest:
    if table["layout"] != LAYOUT:
        raise ValueError(f"expected layout {LAYOUT}, found {table['layout']}")
    plan, files = StorePlan(**table["settings"]), table["files"]
    sizes = (plan.n_rows, plan.dim, plan.rows_per_shard)
    if not all(type(size) is int and 0 < size < MOST_ROWS for size in sizes):
        raise ValueError(f"expected numbers of rows and columns, found {sizes}")
    if plan.n_shards >= len(files):
        raise ValueError(f"{plan.n_shards} shards, and {len(files)} files with the index")
    if plan.dtype not in DTYPES:
        raise ValueError(f"expected a dtype of {', '.join(DTYPES)}, found {plan.dtype!r}")
    names = [plan.path(folder, number).name for number in range(plan.n_shards)]
    return Manifest(
        plan=plan,
        index_sha256=files[INDEX],
        shards_sha256=tuple(files[name] for name in names),
    )


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
        self.plan = self._manifest.plan
        self.dim, self.dtype = self.plan.dim, self.plan.dtype
        if check_digests:
            self._check_digests()
        for number in range(self.plan.n_shards):
            self._open(number)
        self.ids: pd.Index[str] = self._read_ids()

    def __len__(self) -> int:
        return self.plan.n_rows

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return the embeddings of some records, float32 (n_ids, dim), in the order asked for.

        Raises
        ------
        DataError
            If a record is not in the store; some are named.
        """
        remedy = "Embed the records that you ask for"
        positions = locate(self.ids, ids, what="embedding", folder=self.folder, remedy=remedy)
        numbers, rows = np.divmod(positions, self.plan.rows_per_shard)
        return collect(
            numbers,
            rows,
            dim=self.dim,
            read=lambda number, places: self._open(number)[places].float().numpy(),
        )

    def offsets_bytes(self) -> tuple[int, ...]:
        """Return where each shard's values begin in its file, which they end.

        Raises
        ------
        ArtifactError
            If a shard is damaged or lacking.
        """
        sizes_bytes = [self._open(number).nbytes for number in range(self.plan.n_shards)]
        paths = (self.plan.path(self.folder, number) for number in range(self.plan.n_shards))
        return tuple(p.stat().st_size - n for p, n in zip(paths, sizes_bytes, strict=True))

    def _check_digests(self) -> None:
        for name, expected in self._manifest.files(self.folder).items():
            path = self.folder / name
            if not path.is_file():
                raise ArtifactError(f"{path}: is not there. Run again: only this file is made")
            if digest_file(path) != expected:
                raise ArtifactError(f"{path}: is damaged, {_remedy(path)}")

    def _open(self, number: int) -> torch.Tensor:
        """Return a shard's values, which stay in the file until they are used."""
        path, shape = self.plan.path(self.folder, number), self.plan.shape(number)
        try:
            with safe_open(path, framework="pt") as file:
                stored: torch.Tensor = file.get_tensor(TENSOR)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}), {_remedy(path)}") from error
        if tuple(stored.shape) != shape:
            raise ArtifactError(
                f"{path}: expected shape {shape}, found {tuple(stored.shape)}, {_remedy(path)}"
            )
        return stored

    def _read_ids(self) -> pd.Index[str]:
        path = self.folder / INDEX
        try:
            ids: pd.Index[str] = pd.Index(read_parquet(path, ["id"])["id"].to_pandas())
        except HarnessError as error:
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
