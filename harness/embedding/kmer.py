"""k-mer profiles: a nucleotide embedding that needs no model.

Stands in for DNABERT-S where its weights cannot be had, as in the tiny profile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from harness.artifacts import digest_json
from harness.embedding.embedder import Facts
from harness.errors import DataError

__all__ = ["KmerProfile"]

_CODE_OF_BYTE = np.full(256, -1, dtype=np.int16)
_CODE_OF_BYTE[np.frombuffer(b"ACGT", dtype=np.uint8)] = np.arange(4)


class KmerProfile:
    """Embeds nucleotides as standardised counts of their k-mers, on the strand as given.

    Parameters
    ----------
    k : int
        Length of the words; ``4**k`` features.

    Notes
    -----
    With n = length - k + 1 words, a count c becomes (c - n/4**k) / sqrt(n/4**k): its distance from
    that of a random sequence, in Poisson standard deviations.
    """

    def __init__(self, k: int = 4) -> None:
        self.k = k
        self.name = f"{k}-mer profile"
        self.dim = 4**k
        self.dtype = "float32"
        self.facts = Facts(engine="k-mer counts")
        self.digest = digest_json({"embedder": "kmer", "k": k, "version": 1})

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,  # noqa: ARG002 - there are no batches
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the profiles, float32 of shape (n_sequences, 4**k).

        Raises
        ------
        DataError
            If a sequence is shorter than k or holds a letter other than A, C, G, T.
        """
        profiles = np.empty((len(sequences), self.dim), dtype=np.float32)
        for row, sequence in enumerate(sequences):
            profiles[row] = self._profile(sequence, row)
            if on_progress is not None:
                on_progress(1)
        return profiles

    def _profile(self, sequence: str, row: int) -> npt.NDArray[np.float64]:
        letters = np.frombuffer(sequence.encode("utf-8"), dtype=np.uint8)
        codes = _CODE_OF_BYTE[letters].astype(np.int64)
        n_words = len(codes) - self.k + 1
        if n_words < 1 or codes.min() < 0:
            raise DataError(
                f"sequence {row} (counted from 0): expected at least {self.k} letters, all of "
                f"ACGT, got {sequence[:40]!r} ({len(sequence)} letters)"
            )
        words = np.zeros(n_words, dtype=np.int64)
        for offset in range(self.k):
            words = words * 4 + codes[offset : offset + n_words]
        expected = n_words / self.dim
        counts = np.bincount(words, minlength=self.dim)
        return np.asarray((counts - expected) / np.sqrt(expected))
