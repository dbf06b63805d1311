"""From a checkpoint to an engine: which dtype its parts have, and how they are put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from harness.embedding.esm.checkpoint import EsmCheckpoint
from harness.embedding.esm.device import fitting_budget, require_device
from harness.embedding.esm.encoder import Encoder, Layer, Norm
from harness.embedding.esm.engine import Engine
from harness.embedding.esm.plain import PLAIN
from harness.embedding.esm.products import Linear, to_float8
from harness.errors import DeviceError

__all__ = ["assemble_engine", "build_encoder", "build_engine"]

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8": torch.bfloat16,  # beside the linear layers
}

# A layer's parameters, as their names end.
KINDS = ("weight", "bias")

# What the activations of one token take, in multiples of the model's width, with room to spare: 12
# were seen on a GPU, in bfloat16.
ACTIVATIONS = 20


def build_engine(
    checkpoint: EsmCheckpoint, *, dtype: str, device: str, token_budget: int | None = None
) -> Engine:
    """Load a checkpoint's weights onto a device, ready to embed.

    Parameters
    ----------
    checkpoint : EsmCheckpoint
    dtype : str
        float32, bfloat16, float16 or float8.
    device : str
        A torch device.
    token_budget : int, optional
        Most tokens in a batch; chosen for the device if not given.

    Raises
    ------
    MissingInput
        If the device is not there, or cannot compute in that dtype.
    CheckpointError
        If the weights do not fit the configuration.
    DeviceError
        If the device's memory does not suffice for the weights.
    """
    require_device(device, dtype)
    try:
        weights = checkpoint.read_weights(dtype=DTYPES[dtype], device=torch.device(device))
        return assemble_engine(
            weights, checkpoint.shape, dtype=dtype, device=device, token_budget=token_budget
        )
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"{device}: memory does not suffice for the weights in {checkpoint.folder}. "
            "Use a GPU with more memory, or end what else runs on this one"
        ) from error


def assemble_engine(
    weights: dict[str, torch.Tensor],
    config: Mapping[str, Any],
    *,
    dtype: str,
    device: str,
    token_budget: int | None = None,
) -> Engine:
    """Put an engine together from weights that are on the device already.

    Parameters
    ----------
    weights : dict of name to tensor
        By transformers' names, in the dtype to compute in. Is emptied, so that memory holds no
        more than one layer twice.
    config : mapping
        With hidden_size, num_hidden_layers, num_attention_heads and layer_norm_eps.
    dtype, device, token_budget
        As for :func:`build_engine`.
    """
    place = torch.device(device)
    is_fused = place.type == "cuda" and dtype != "float32"
    encoder = build_encoder(weights, config, is_float8=dtype == "float8", is_fused=is_fused)
    bytes_per_token = ACTIVATIONS * encoder.dim * DTYPES[dtype].itemsize
    return Engine(
        encoder,
        device=place,
        is_packed=is_fused,
        token_budget=token_budget or fitting_budget(place, bytes_per_token),
    )


def build_encoder(
    weights: dict[str, torch.Tensor],
    config: Mapping[str, Any],
    *,
    is_float8: bool = False,
    is_fused: bool = False,
) -> Encoder:
    """Put an encoder together from weights by transformers' names.

    Parameters
    ----------
    weights, config
        As for :func:`assemble_engine`.
    is_float8 : bool
        Round the linear layers' weights to float8.
    is_fused : bool
        Compute with kernels for NVIDIA GPUs.
    """

    def linear(*names: str) -> Linear:
        """Return one linear layer whose outputs are those of several, one after the other."""
        weight, bias = (_joined([weights.pop(f"{n}.{kind}") for n in names]) for kind in KINDS)
        whole = Linear(weight, bias)
        return to_float8(whole) if is_float8 else whole

    def norm(name: str) -> Norm:
        weight, bias = (weights.pop(f"{name}.{kind}") for kind in KINDS)
        return Norm(weight, bias, config["layer_norm_eps"])

    def layer(number: int) -> Layer:
        prefix = f"encoder.layer.{number}"
        heads = f"{prefix}.attention.self"
        return Layer(
            attention_norm=norm(f"{prefix}.attention.LayerNorm"),
            qkv=linear(f"{heads}.query", f"{heads}.key", f"{heads}.value"),
            attended=linear(f"{prefix}.attention.output.dense"),
            norm=norm(f"{prefix}.LayerNorm"),
            widen=linear(f"{prefix}.intermediate.dense"),
            narrow=linear(f"{prefix}.output.dense"),
        )

    layers = [layer(number) for number in range(config["num_hidden_layers"])]
    last_norm = norm("encoder.emb_layer_norm_after")
    arithmetic = PLAIN
    if is_fused:
        from harness.embedding.esm import fused

        layers, last_norm = fused.put_off_biases(layers, last_norm)
        arithmetic = fused.FUSED
    return Encoder(
        weights.pop("embeddings.word_embeddings.weight"),
        layers,
        last_norm,
        n_heads=config["num_attention_heads"],
        arithmetic=arithmetic,
    )


def _joined(tensors: list[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
