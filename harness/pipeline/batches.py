"""Equal batches for both sides of a timed comparison, and what became of them on a full device.

An embedder halves its batches where the device's memory does not suffice; how fast it is then says
as much about the memory as about the model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from harness.embedding import Embedder
from harness.gate.speed.neighbours import Observation

__all__ = ["BatchingEmbedder", "PaddingEmbedder", "equalise_batches", "observe_batches"]


class BatchingEmbedder(Embedder, Protocol):
    """An embedder whose batches hold a known number of tokens at most."""

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch: halved each time that the device's memory did not suffice."""

    @property
    def n_out_of_memory(self) -> int:
        """How often the device's memory did not suffice."""

    def limit_tokens(self, token_budget: int) -> None:
        """Let no batch hold more tokens than this; a smaller budget stays."""


class PaddingEmbedder(Embedder, Protocol):
    """An embedder that can also batch the plain way."""

    dtype: str

    def embed_padded(
        self, sequences: Sequence[str], *, batch_size: int = 16
    ) -> npt.NDArray[np.float32]:
        """Return the embeddings, from padded batches in the order given."""


def equalise_batches(embedders: Collection[BatchingEmbedder]) -> None:
    """Give all embedders the smallest budget of tokens that one of them has."""
    smallest = min(embedder.token_budget for embedder in embedders)
    for embedder in embedders:
        embedder.limit_tokens(smallest)


def observe_batches(token_budgets: Collection[int]) -> Observation:
    """Compare what the budgets were around each timed round: unequal ones disturb a comparison."""
    if len(set(token_budgets)) <= 1:
        return Observation()
    shrunk = (
        "the device's memory did not suffice: batches shrank from "
        f"{max(token_budgets):,} to {min(token_budgets):,} tokens"
    )
    return Observation(disturbances=(shrunk,))
