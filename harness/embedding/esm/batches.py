"""Which sequences are embedded together: at most a budget of tokens, longest first.

Longest first, so that a batch holds similar lengths and memory that does not suffice shows at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Rows", "equal_length_batches", "packed_batches"]

Rows = npt.NDArray[np.int64]


def packed_batches(lengths: npt.NDArray[np.int64], budget: int) -> list[Rows]:
    """Return row numbers of sequences to be laid end to end.

    Batches are about equal in tokens, so that no small one is left for the end.

    Parameters
    ----------
    lengths : int array, (sequence,)
        Tokens of each sequence.
    budget : int
        Most tokens in a batch; a longer sequence is a batch of its own.
    """
    if not len(lengths):
        return []
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    # A sequence belongs to the share that its first token falls into, and may reach beyond it.
    n_batches = -(-int(lengths.sum()) // max(1, budget - int(ordered[0])))
    share = -(-int(lengths.sum()) // n_batches)
    numbers = (np.cumsum(ordered) - ordered) // share
    return np.split(order, np.flatnonzero(np.diff(numbers)) + 1)


def equal_length_batches(lengths: npt.NDArray[np.int64], budget: int) -> list[Rows]:
    """Return row numbers of equally long sequences.

    Parameters
    ----------
    lengths, budget
        As for :func:`packed_batches`.
    """
    if not len(lengths):
        return []
    order = np.argsort(-lengths, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    steps = [max(1, budget // int(lengths[rows[0]])) for rows in groups]
    return [
        rows[start : start + step]
        for rows, step in zip(groups, steps, strict=True)
        for start in range(0, len(rows), step)
    ]
