"""What people use today to embed proteins, to be timed beside the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import EsmModel

from harness.embedding.esm.alphabet import TOKENS, tokenise

__all__ = ["embed_in_file_order", "embed_sorted"]

PADDING = TOKENS.index("<pad>")

Vectors = npt.NDArray[np.float32]


@torch.inference_mode()
def embed_in_file_order(model: EsmModel, proteins: Sequence[str], batch_size: int = 16) -> Vectors:
    """Embed padded batches in the order given, and pool row by row: VirNucPro's loop."""
    vectors: list[torch.Tensor] = []
    for start in range(0, len(proteins), batch_size):
        hidden, lengths = _hidden_states(model, proteins[start : start + batch_size])
        vectors += [
            hidden[row, 1 : length - 1].float().mean(dim=0).cpu()
            for row, length in enumerate(lengths)
        ]
    return torch.stack(vectors).numpy()


@torch.inference_mode()
def embed_sorted(model: EsmModel, proteins: Sequence[str], batch_size: int = 128) -> Vectors:
    """Embed padded batches of similar lengths, pooled on the device: transformers at its best."""
    order = sorted(range(len(proteins)), key=lambda row: len(proteins[row]), reverse=True)
    pooled = []
    for start in range(0, len(order), batch_size):
        batch = [proteins[row] for row in order[start : start + batch_size]]
        hidden, lengths = _hidden_states(model, batch)
        tokens = torch.arange(hidden.shape[1], device=hidden.device)
        ends = torch.from_numpy(lengths).to(hidden.device)[:, None] - 1
        is_residue = ((tokens > 0) & (tokens < ends))[..., None]  # (sequence, token, 1)
        pooled.append((hidden.float() * is_residue).sum(dim=1) / is_residue.sum(dim=1))
    vectors = np.empty((len(proteins), hidden.shape[2]), dtype=np.float32)
    vectors[order] = torch.cat(pooled).cpu().numpy()
    return vectors


def _hidden_states(
    model: EsmModel, proteins: Sequence[str]
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """Return the last hidden states (sequence, token, dim), and each sequence's tokens."""
    tokenised = tokenise(proteins)
    lengths = tokenised.lengths
    is_token = np.arange(lengths.max()) < lengths[:, None]  # (sequence, token)
    padded = np.full(is_token.shape, PADDING, dtype=np.int64)
    padded[is_token] = tokenised.tokens
    tokens = torch.from_numpy(padded).to(model.device)
    mask = torch.from_numpy(is_token.astype(np.int64)).to(model.device)
    return model(tokens, attention_mask=mask).last_hidden_state, lengths
