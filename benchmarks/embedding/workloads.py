"""Proteins to embed, and models of the real shapes with random weights: the cost is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import EsmConfig, EsmModel

from harness.embedding.esm.alphabet import TOKENS
from harness.embedding.esm.engine import DTYPES, Engine, assemble_engine

__all__ = ["SHAPES", "build_engine", "build_reference", "draw_proteins"]

RESIDUES = "LAGVSERTIDPKQNFYMHWC"

# layers, width, heads, feed-forward width
SHAPES = {
    "8M": (6, 320, 20, 1280),
    "35M": (12, 480, 20, 1920),
    "150M": (30, 640, 20, 2560),
    "650M": (33, 1280, 20, 5120),
    "3B": (36, 2560, 40, 10240),
}


def draw_proteins(workload: str, n_sequences: int, seed: int = 1) -> list[str]:
    """Return random proteins of a workload's lengths.

    ``vnp500``: 165 and 166 residues, VirNucPro's windows of 500 bases. ``mix``: 100, 300 and 500
    in turn. ``uniref``: log-normal, at most 1022.
    """
    rng = np.random.default_rng(seed)
    lengths = {
        "vnp500": 165 + rng.integers(2, size=n_sequences),
        "mix": np.resize([100, 300, 500], n_sequences),
        "uniref": np.clip(rng.lognormal(5.6, 0.6, n_sequences), 20, 1022).astype(int),
    }[workload]
    return ["".join(rng.choice(list(RESIDUES), length)) for length in lengths]


def build_reference(model: str, *, dtype: str, device: str, seed: int = 1) -> EsmModel:
    """Return transformers' model of a shape, through SDPA, with random weights.

    Biases and normalisations are drawn as well, so that none could be left out unnoticed.
    """
    torch.manual_seed(seed)
    with torch.device(device):
        reference = EsmModel(esm_config(model), add_pooling_layer=False).eval()
        with torch.no_grad():
            for name, value in reference.named_parameters():
                if name.endswith("bias"):
                    value.normal_(0, 0.02)
                elif "LayerNorm" in name or "layer_norm" in name:
                    value.normal_(1, 0.02)
    return reference.to(DTYPES[dtype])


def build_engine(
    model: str, reference: EsmModel, *, dtype: str, device: str, token_budget: int | None = None
) -> Engine:
    """Return the engine with the reference's weights."""
    layers, width, heads, _ = SHAPES[model]
    config: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "layer_norm_eps": 1e-5,
    }
    weights = {n: value.to(DTYPES[dtype]) for n, value in reference.state_dict().items()}
    return assemble_engine(weights, config, dtype=dtype, device=device, token_budget=token_budget)


def esm_config(model: str) -> EsmConfig:
    """Return transformers' configuration of a shape."""
    layers, width, heads, wide = SHAPES[model]
    return EsmConfig(
        vocab_size=len(TOKENS),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=wide,
        max_position_embeddings=1026,
        layer_norm_eps=1e-5,
        emb_layer_norm_before=False,
        position_embedding_type="rotary",
        token_dropout=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        mask_token_id=TOKENS.index("<mask>"),
        pad_token_id=TOKENS.index("<pad>"),
        attn_implementation="sdpa",
    )
