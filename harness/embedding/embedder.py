"""The one seam for embedders: what every one of them offers.

A further embedder is one new file with a class of this shape, and one entry in a config.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Embedder"]


class Embedder(Protocol):
    """Turns sequences into vectors.

    Attributes
    ----------
    name : str
        For people.
    dim : int
        Width of its vectors.
    digest : str
        sha256 (hex) of everything that decides the vectors: weights, dtype, pooling.
    """

    name: str
    dim: int
    digest: str

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return float32 vectors (n_sequences, dim), row by row those of ``sequences``.

        ``on_progress`` is told how many more sequences are done. A sequence that cannot be
        embedded raises DataError with its position.
        """
