"""Records, an embedder that counts what it is asked for, and a store of several shards."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from harness.embedding import KmerProfile, write_store
from harness.embedding.devices import Ranks

IDS = [f"r{n}" for n in range(10)]
SEQUENCES = ["ACGT" * 3 + "ACGT"[n % 4] * n for n in range(10)]
ROWS_PER_SHARD = 3

# Processes are forked from a server that has imported what they need, so that many can be killed.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "pyarrow.parquet", "torch.distributed"])


class Counting(KmerProfile):
    """Notes the sequences that it embeds."""

    def __init__(self, k: int = 2) -> None:
        super().__init__(k)
        self.asked: list[str] = []

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Embed, and note what."""
        self.asked += sequences
        return super().embed(sequences, token_budget, on_progress)


class Waiting(KmerProfile):
    """Goes on with a shard when it is told to."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(2)
        self._pipe = pipe

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Say that a shard is begun, and wait."""
        self._pipe.send("begun")
        self._pipe.recv()
        return super().embed(sequences, token_budget, on_progress)


def write(
    folder: Path,
    embedder: KmerProfile | None = None,
    dtype: str = "float32",
    ranks: Ranks | None = None,
) -> None:
    """Write a store of the ten records, in shards of three rows."""
    folder.mkdir(exist_ok=True)
    made_by = embedder or KmerProfile(2)
    write_store(
        folder, IDS, SEQUENCES, made_by, dtype=dtype, ranks=ranks, rows_per_shard=ROWS_PER_SHARD
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a finished store."""
    write(tmp_path / "store")
    return tmp_path / "store"
