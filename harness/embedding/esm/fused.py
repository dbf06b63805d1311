"""An encoder's arithmetic and attention for NVIDIA GPUs, in half precision.

Products are torch's (cuBLAS); those whose result is added to the hidden states are added there in
place. Their biases would cost a pass over the memory each, so they are put off: they reach the
hidden states in the next normalisation. What lies between the products are kernels of our own.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

from collections.abc import Sequence

import torch
import triton

from harness.embedding.esm import kernels
from harness.embedding.esm.encoder import Arithmetic, Layer, Norm, Rotation
from harness.embedding.esm.products import FLOAT8, FLOAT8_MAX, SMALLEST_SCALE, Linear

__all__ = ["FUSED", "attend", "put_off_biases"]

# Sizes of tiles, and warps that compute one, found by trying on an H200.
NORM_WARPS = 2
VALUES, VALUE_WARPS = 4_096, 4
ROW_WARPS = 8
TILE_TOKENS = 64  # of queries, and of keys
SMALLEST_TILE = 16  # Triton multiplies no smaller ones


def put_off_biases(layers: Sequence[Layer], last_norm: Norm) -> tuple[list[Layer], Norm]:
    """Return layers without the biases of what is added to hidden states, and the last norm.

    Instead, each normalisation first adds the biases of all products before it.
    """
    shift = torch.zeros_like(last_norm.bias, dtype=torch.float32)
    changed = []
    for layer in layers:
        attention_norm = layer.attention_norm._replace(shift=shift)
        shift, attended = _put_off(shift, layer.attended)
        norm = layer.norm._replace(shift=shift)
        shift, narrow = _put_off(shift, layer.narrow)
        changed.append(
            layer._replace(
                attention_norm=attention_norm, attended=attended, norm=norm, narrow=narrow
            )
        )
    return changed, last_norm._replace(shift=shift)


def attend(
    qkv: torch.Tensor, rotation: Rotation, starts: torch.Tensor, longest: int
) -> torch.Tensor:
    """Return attention within sequences that lie end to end; the keys are changed in place.

    Parameters
    ----------
    qkv : Tensor, (token, 3, head, channel)
        Queries, keys and values.
    rotation : Rotation
        Turns queries and keys.
    starts : int32 tensor, (sequence + 1,)
        The first token of each sequence, and where the last one ends.
    longest : int
        Tokens of the longest sequence.

    Returns
    -------
    Tensor, (token, head, channel)
    """
    n_tokens, _, n_heads, n_channels = qkv.shape
    attended = qkv.new_empty((n_tokens, n_heads, n_channels))
    n_tiles = triton.cdiv(longest, TILE_TOKENS)
    grid = (n_tiles * (len(starts) - 1), n_heads)
    half = n_channels // 2
    sizes = {
        "n_heads": n_heads,
        "half": half,
        "block_half": max(SMALLEST_TILE, triton.next_power_of_2(half)),
        "block_keys": TILE_TOKENS,
    }
    kernels.turn_keys[grid](qkv, *rotation, starts, n_tiles, **sizes)
    kernels.attend[grid](
        qkv, *rotation, starts, attended, n_tiles, block_queries=TILE_TOKENS, **sizes
    )
    return attended


def _put_off(shift: torch.Tensor, linear: Linear) -> tuple[torch.Tensor, Linear]:
    """Return the sum of the biases so far, and the layer without its own, if it has one."""
    bias = linear.bias
    return shift if bias is None else shift + bias, linear._replace(bias=None)


def _normalise(hidden: torch.Tensor, norm: Norm) -> torch.Tensor:
    n_tokens, dim = hidden.shape
    normed = torch.empty_like(hidden)
    kernels.normalise[(n_tokens,)](
        hidden,
        norm.shift,
        norm.weight,
        norm.bias,
        normed,
        dim=dim,
        epsilon=norm.eps,
        block_dim=triton.next_power_of_2(dim),
        num_warps=NORM_WARPS,
    )
    return normed


def _multiply(inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
    if linear.scale is None:
        return torch.nn.functional.linear(inputs, linear.weight, linear.bias)
    rounded, scales = _round_rows(inputs)
    return torch._scaled_mm(
        rounded,
        linear.weight.t(),
        scale_a=scales,
        scale_b=linear.scale,
        bias=linear.bias,
        out_dtype=inputs.dtype,
        use_fast_accum=True,
    )


def _round_rows(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float8 rows, and the float32 scale (row, 1) that each is to be multiplied by."""
    n_rows, n_columns = values.shape
    rounded = torch.empty_like(values, dtype=FLOAT8)
    scales = values.new_empty((n_rows, 1), dtype=torch.float32)
    kernels.round_rows[(n_rows,)](
        values,
        rounded,
        scales,
        n_columns=n_columns,
        largest=FLOAT8_MAX,
        smallest_scale=SMALLEST_SCALE,
        block_columns=triton.next_power_of_2(n_columns),
        num_warps=ROW_WARPS,
    )
    return rounded, scales


def _activate(wide: torch.Tensor) -> torch.Tensor:
    grid = (triton.cdiv(wide.numel(), VALUES),)
    kernels.activate[grid](wide, wide.numel(), block_values=VALUES, num_warps=VALUE_WARPS)
    return wide


def _add_product(hidden: torch.Tensor, inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
    if linear.scale is None:
        return hidden.addmm_(inputs, linear.weight.t())
    return hidden.add_(_multiply(inputs, linear))


FUSED = Arithmetic(
    normalise=_normalise, multiply=_multiply, activate=_activate, add_product=_add_product
)
