"""How many floating-point operations an encoder needs: what rates are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.embedding.esm.alphabet import MAX_RESIDUES

__all__ = ["encoder_flop"]


def encoder_flop(config: Mapping[str, Any], n_residues: npt.ArrayLike) -> float:
    """Return the floating-point operations of embedding proteins.

    Parameters
    ----------
    config : mapping
        With hidden_size, intermediate_size and num_hidden_layers.
    n_residues : int array, (sequence,)

    Notes
    -----
    A multiplication and an addition count as two. For n tokens of width d in a layer with feed-
    forward width f, the linear layers take 2n(4d² + 2df) and attention takes 4n²d; normalisation
    and activation are left out.
    """
    tokens = np.minimum(np.asarray(n_residues, dtype=np.float64), MAX_RESIDUES) + 2
    dim, wide = config["hidden_size"], config["intermediate_size"]
    linear = 2 * (4 * dim**2 + 2 * dim * wide) * tokens.sum()
    attention = 4 * dim * (tokens**2).sum()
    return float(config["num_hidden_layers"] * (linear + attention))
