"""The paired bootstrap, reduced to tables of counts.

What is resampled are rows or whole genomes; all that is kept of them is how many rows there are of
each truth and both predictions. What is computed from the tables is intervals.py's work.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.gate.proof.outcomes import Binary, Genomes

__all__ = ["resample_tables"]

# Resampled weights held in memory at a time: 16 MB.
_CHUNK_ENTRIES = 2_000_000
# A binomial draw takes as long as about so many uniform integers.
_MULTINOMIAL_COST = 6


Counts = NDArray[np.intp]


def resample_tables(
    labels: Binary, predicted: Sequence[Binary], genomes: Genomes, n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return resampled tables of truth and both predictions.

    Parameters
    ----------
    labels : array of shape (n_rows,)
        Truth, 0 or 1.
    predicted : two arrays of shape (n_rows,)
        The baseline's and the candidate's predicted labels.
    genomes : Genomes
        What is drawn, whole; rows, if they have no names.
    n_resamples : int
        At least 1.
    seed : int
        Same seed, same tables.

    Returns
    -------
    array of shape (n_resamples, 2, 2, 2), float64
        Rows with that truth, baseline prediction and candidate prediction.
    """
    cells = labels.astype(np.intp) * 4 + predicted[0] * 2 + predicted[1]
    if genomes.names is None:
        tables, multiplicity = np.eye(8, dtype=np.intp), np.bincount(cells, minlength=8)
    else:
        counts = np.bincount(genomes.codes * 8 + cells, minlength=8 * len(genomes.sizes))
        tables, multiplicity = _distinct_tables(counts.reshape(-1, 8))
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_ENTRIES // len(tables))
    sizes = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
    rows = tables.astype(np.float64)
    flat = np.concatenate([_draw_weights(multiplicity, size, rng) @ rows for size in sizes])
    resampled: NDArray[np.float64] = flat.reshape(n_resamples, 2, 2, 2)
    return resampled


def _distinct_tables(tables: Counts) -> tuple[Counts, Counts]:
    """Merge equal tables where that makes drawing cheaper; return them and their numbers."""
    distinct, multiplicity = np.unique(tables, axis=0, return_counts=True)
    if len(distinct) * _MULTINOMIAL_COST < len(tables):
        return distinct, multiplicity
    return tables, np.ones(len(tables), dtype=np.intp)


def _draw_weights(multiplicity: Counts, size: int, rng: np.random.Generator) -> Counts:
    """Draw as many units as there are, with replacement, ``size`` times: (resample, table)."""
    n_units, n_tables = int(multiplicity.sum()), len(multiplicity)
    if (multiplicity != 1).any():
        return rng.multinomial(n_units, multiplicity / n_units, size=size)
    drawn = rng.integers(0, n_tables, size=(size, n_tables), dtype=np.intp)
    drawn += np.arange(size)[:, None] * n_tables
    return np.bincount(drawn.ravel(), minlength=size * n_tables).reshape(size, n_tables)
