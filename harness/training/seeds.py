"""The random numbers of training: one seed from the user, one for each purpose.

Weights, shuffling and dropout draw from generators of their own, so that changing one leaves the
others as they were. Every epoch is seeded anew, so that training can go on at any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Seeds", "derive_seeds", "draw_order", "dropout_seed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """The seeds that were derived from the user's one.

    Attributes
    ----------
    weights, shuffling, dropout : int
        In [0, 2**63).
    """

    weights: int
    shuffling: int
    dropout: int


def derive_seeds(seed: int) -> Seeds:
    """Derive independent seeds for weights, shuffling and dropout.

    Parameters
    ----------
    seed : int
        At least 0.
    """
    weights, shuffling, dropout = (
        _first_word(child) for child in np.random.SeedSequence(seed).spawn(3)
    )
    return Seeds(weights=weights, shuffling=shuffling, dropout=dropout)


def draw_order(seeds: Seeds, *, epoch: int, n_rows: int) -> torch.Tensor:
    """Return the order of the rows in one epoch, int64 (n_rows,).

    It depends on the seed, the epoch and the number of rows alone, so that two heads see the same
    rows in the same order, whatever their widths and devices.
    """
    rng = np.random.default_rng([seeds.shuffling, epoch])
    return torch.from_numpy(rng.permutation(n_rows))


def dropout_seed(seeds: Seeds, *, epoch: int) -> int:
    """Return the seed of one epoch's dropout masks, in [0, 2**63)."""
    return _first_word(np.random.SeedSequence([seeds.dropout, epoch]))


def _first_word(sequence: np.random.SeedSequence) -> int:
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
