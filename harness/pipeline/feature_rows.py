"""Where a side's features lie while a head sees them: in memory, or on disk if they are too many.

The numbers are the same either way.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from harness.pipeline.vectors import Side, Vectors
from harness.training.features import Features
from harness.training.stored_rows import StoredRows

__all__ = ["feature_rows", "memory_bytes"]

# Of the machine's memory. Putting nucleotide and protein embeddings together takes their size
# twice, and whatever else runs needs some, too.
RESIDENT_SHARE = 0.25

# What a container may use: version 2 of Linux's control groups, and version 1.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def feature_rows(
    vectors: Vectors, side: Side, ids: pd.Series[str], *, n_rows: int | None = None
) -> Features:
    """Return a side's features of some records: nucleotide, then protein embedding.

    Parameters
    ----------
    vectors : Vectors
        Where they come from.
    side : Side
    ids : Series of str, (n_ids,)
        The records.
    n_rows : int, optional
        How many rows are wanted at once, these included; default: these alone.

    Returns
    -------
    float32 array or StoredRows, (n_ids, n_features)
        Rows on disk, if those wanted at once would take more than a quarter of the memory.
    """
    merged = vectors.merged(side)
    stores = [merged] if merged else [vectors.nucleotide_embeddings(), vectors.proteins(side)]
    n_features = sum(store.dim for store in stores)
    n_bytes = (n_rows or len(ids)) * n_features * np.dtype(np.float32).itemsize
    if n_bytes > RESIDENT_SHARE * memory_bytes():
        return StoredRows(stores, ids)
    return vectors.features(side, ids)


def memory_bytes() -> int:
    """Return how much memory this process may use: the machine's, or less in a container."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        path.read_text(encoding="ascii").strip() for path in _CONTAINER_LIMITS if path.is_file()
    ]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])
