"""ESM2 checkpoints with seeded random weights, marked as such, for rehearsals and tests.

Reading a checkpoint belongs to ``harness.embedding.esm.checkpoint``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.embedding.esm.alphabet import TOKENS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RANDOM_MARK", "write_random_checkpoint"]

# Written into config.json of checkpoints that hold random weights: such a run is a rehearsal.
RANDOM_MARK = "virnucpro_harness_random_seed"

# What ESM2's config.json on the hub says beside the shape.
_ESM2 = {
    "attention_probs_dropout_prob": 0.0,
    "emb_layer_norm_before": False,
    "hidden_dropout_prob": 0.0,
    "is_folding_model": False,
    "layer_norm_eps": 1e-05,
    "mask_token_id": TOKENS.index("<mask>"),
    "max_position_embeddings": 1026,
    "pad_token_id": TOKENS.index("<pad>"),
    "position_embedding_type": "rotary",
    "token_dropout": True,
    "vocab_size": len(TOKENS),
}


def write_random_checkpoint(
    folder: Path, *, layers: int, hidden_size: int, heads: int, intermediate_size: int, seed: int
) -> None:
    """Write an ESM2 checkpoint with seeded random weights, marked as such, for rehearsals.

    Parameters
    ----------
    folder : Path
        An existing folder.
    layers, hidden_size, heads, intermediate_size : int
        The encoder's shape.
    seed : int
        Decides the weights.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import EsmConfig, EsmModel

    config = EsmConfig(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        **_ESM2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EsmModel(config, add_pooling_layer=False)
    weights = {f"esm.{name}": value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {"model_type": "esm", "architectures": ["EsmForMaskedLM"], RANDOM_MARK: seed}
    text = json.dumps(config.to_dict() | settings, indent=1, sort_keys=True)
    (folder / "config.json").write_text(text, encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
