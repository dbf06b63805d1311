"""The oracle for ESM2-shaped checkpoints: transformers' own model beside our engine, in float32.

Both are built from one reading of the user's weights, so what differs is the computation: layers,
attention, positions, pooling. How near they must come to each other is judged elsewhere.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import EsmConfig, EsmModel

from harness.embedding.esm.alphabet import TOKENS, tokenise
from harness.embedding.esm.checkpoint import EsmCheckpoint
from harness.embedding.esm.engine import assemble_engine
from harness.errors import CheckpointError

__all__ = ["build_transformers_model", "compute_with_both"]

Vectors = npt.NDArray[np.float32]
ROTARY_TABLE = "rotary_embeddings.inv_freq"


def compute_with_both(
    checkpoint: EsmCheckpoint, sequences: Sequence[str], *, device: str
) -> tuple[Vectors, Vectors]:
    """Embed proteins by the engine and by transformers, both in float32, and free the memory.

    Parameters
    ----------
    checkpoint : EsmCheckpoint
        The weights.
    sequences : sequence of str
        A few proteins; they are embedded one by one by transformers.
    device : str
        A torch device.

    Returns
    -------
    tuple of two float32 arrays, (n_sequences, dim)
        The engine's vectors; those of transformers' ``EsmModel``.
    """
    place = torch.device(device)
    weights = checkpoint.read_weights(dtype=torch.float32, device=place)
    model = build_transformers_model(weights, checkpoint.shape)
    expected = np.stack([_embed(model, sequence, place) for sequence in sequences])
    engine = assemble_engine(weights, checkpoint.shape, dtype="float32", device=device)
    found = engine.embed(sequences)
    del weights, model, engine
    gc.collect()  # modules refer to themselves
    if place.type == "cuda":
        torch.cuda.empty_cache()
    return found, expected


def build_transformers_model(
    weights: Mapping[str, torch.Tensor], shape: Mapping[str, Any]
) -> EsmModel:
    """Return transformers' model of weights by its own names; the tensors are shared, not copied.

    Parameters
    ----------
    weights : mapping of name to float32 tensor
        With each layer's rotary table, where the checkpoint has them.
    shape : mapping
        As a checkpoint's ``shape``.

    Raises
    ------
    CheckpointError
        If this version of transformers has other weights.
    """
    config = EsmConfig(
        **shape,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        mask_token_id=TOKENS.index("<mask>"),
        pad_token_id=TOKENS.index("<pad>"),
        attn_implementation="eager",
    )
    with torch.device("meta"):  # no time is lost on weights that are replaced
        model = EsmModel(config, add_pooling_layer=False)
    is_table = {name: name.endswith(ROTARY_TABLE) for name in weights}
    loaded = {name: tensor for name, tensor in weights.items() if not is_table[name]}
    missing, unexpected = model.load_state_dict(loaded, strict=False, assign=True)
    lacking = [n for n in missing if not n.startswith("contact_head.") and "inv_freq" not in n]
    if lacking or unexpected:
        raise CheckpointError(
            f"transformers' EsmModel lacks {lacking[:3]} and does not know {list(unexpected)[:3]}. "
            "Install a version of transformers that this project supports"
        )
    computed = _computed_table(shape).to(weights["embeddings.word_embeddings.weight"].device)
    for number, layer in enumerate(model.encoder.layer):
        name = f"encoder.layer.{number}.attention.self.{ROTARY_TABLE}"
        _turn_by(weights.get(name, computed), layer, model)
    return model.eval()


def _computed_table(shape: Mapping[str, Any]) -> torch.Tensor:
    """Return the rotary table of a model that brings none."""
    n_channels = shape["hidden_size"] // shape["num_attention_heads"]
    steps = torch.arange(0, n_channels, 2, dtype=torch.float32) / n_channels
    return torch.pow(10_000.0, -steps)


def _turn_by(table: torch.Tensor, layer: torch.nn.Module, model: EsmModel) -> None:
    """Have a layer use its own rotary table, wherever this version of transformers has it."""
    own = getattr(layer.get_submodule("attention.self"), "rotary_embeddings", None)
    if own is None:  # one for all layers, in newer ones: each is given another result of it
        model.rotary_embeddings.inv_freq = table
        own = deepcopy(model.rotary_embeddings)
        layer.register_forward_pre_hook(partial(_replace_angles, own), with_kwargs=True)
    own.inv_freq = table


def _replace_angles(
    rotary: torch.nn.Module,
    _: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    keywords: dict[str, Any],
) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
    hidden = inputs[0]  # (sequence, token, dim)
    positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
    return inputs, keywords | {"position_embeddings": rotary(hidden, positions)}


@torch.no_grad()
def _embed(model: EsmModel, sequence: str, device: torch.device) -> Vectors:
    tokens = torch.from_numpy(tokenise([sequence]).tokens).long().to(device)[None]
    hidden = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
    return np.asarray(hidden[0, 1:-1].mean(dim=0).cpu().numpy(), dtype=np.float32)
