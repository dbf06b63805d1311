"""The files of an embedding store: which rows a shard holds, its bytes, and the manifest.

A shard's header carries a digest of its values and of what they were computed from, so a shard of
an interrupted extraction proves by itself that it is whole and belongs there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.artifacts import digest_json, write_atomically
from harness.embedding.store.dtypes import DTYPES, to_safetensors
from harness.errors import ArtifactError

__all__ = ["INDEX", "LAYOUT", "MANIFEST", "Manifest", "StorePlan", "choose_rows_per_shard"]

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

    def encode(self, number: int, stored: npt.NDArray[Any]) -> bytes:
        """Return a shard's file, given its values as they are stored."""
        digest = hashlib.sha256(f"{self.sha256} {number} ".encode())
        digest.update(np.ascontiguousarray(stored).data)
        return to_safetensors(TENSOR, stored, self.dtype, {"sha256": digest.hexdigest()})

    def is_sound(self, number: int, content: bytes) -> bool:
        """Whether a file is what ``encode`` would write again, given the values in it."""
        dtype, shape = DTYPES[self.dtype], self.shape(number)
        n_bytes = shape[0] * shape[1] * dtype.itemsize
        if len(content) < n_bytes:
            return False
        values = np.frombuffer(bytearray(content[-n_bytes:]), dtype=dtype).reshape(shape)
        return self.encode(number, values) == content


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
            return _parse(json.loads(path.read_text(encoding="utf-8")), folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path}: not a readable manifest of embeddings ({error}). Delete {folder} and "
                "run again"
            ) from error


def _parse(table: Mapping[str, Any], folder: Path) -> Manifest:
    if table["layout"] != LAYOUT:
        raise ValueError(f"expected layout {LAYOUT}, found {table['layout']}")
    plan, files = StorePlan(**table["settings"]), table["files"]
    if plan.dtype not in DTYPES:
        raise ValueError(f"expected a dtype of {', '.join(DTYPES)}, found {plan.dtype!r}")
    names = [plan.path(folder, number).name for number in range(plan.n_shards)]
    return Manifest(
        plan=plan,
        index_sha256=files[INDEX],
        shards_sha256=tuple(files[name] for name in names),
    )
