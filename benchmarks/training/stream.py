"""Training on features that stay on disk: what it costs, and the memory that it takes."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.embedding.embedder import Facts
from harness.embedding.extraction import write_store

__all__ = ["peak_memory_gibibytes", "write_stream"]

ROWS_PER_SHARD = 16_384


class SameShard:
    """An embedder that computes nothing."""

    name = digest = "the same shard"
    dtype = "float32"
    facts = Facts(engine="none")

    def __init__(self, width: int) -> None:
        self.dim = width
        self._vectors = np.random.default_rng(0).random((ROWS_PER_SHARD, width), dtype=np.float32)

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,  # noqa: ARG002 - there are no batches
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return random vectors, the same for every shard."""
        if on_progress is not None:
            on_progress(len(sequences))
        return self._vectors[: len(sequences)]


def write_stream(folder: Path, gigabytes: float, width: int) -> pd.Series[str]:
    """Write an embedding store of the same shard over and over, and return its ids."""
    n_shards = math.ceil(gigabytes * 1e9 / (4 * width * ROWS_PER_SHARD))
    ids = pd.Series([f"r{row}" for row in range(n_shards * ROWS_PER_SHARD)], dtype="str")
    write_store(folder, ids, ids, SameShard(width), rows_per_shard=ROWS_PER_SHARD)
    return ids


def peak_memory_gibibytes() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
