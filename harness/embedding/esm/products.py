"""The linear layers: matrix products in the encoder's dtype, or in float8 with row-wise scales.

float8 is for GPUs that multiply it (Hopper and newer): twice the rate of bfloat16. Each weight row
and each token gets a scale of its own, so one large value costs its own row precision only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

__all__ = ["Linear", "apply_linear", "to_float8"]

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = torch.finfo(FLOAT8).max
SMALLEST_SCALE = 1e-12  # an all-zero row divided by it stays zero


class Linear(NamedTuple):
    """Weights of a linear layer."""

    weight: torch.Tensor  # (out, in)
    bias: torch.Tensor  # (out,)
    scale: torch.Tensor | None = None  # (1, out), float32, where the weight is float8


def apply_linear(inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
    """Return inputs times weights plus bias: (token, in) to (token, out), in the inputs' dtype."""
    if linear.scale is None:
        return functional.linear(inputs, linear.weight, linear.bias)
    rounded, scale = _round_rows(inputs)
    return torch._scaled_mm(
        rounded,
        linear.weight.t(),
        scale_a=scale,
        scale_b=linear.scale,
        bias=linear.bias,
        out_dtype=inputs.dtype,
        use_fast_accum=True,
    )


def to_float8(linear: Linear) -> Linear:
    """Return the layer with float8 weights, each row (output) scaled to float8's range."""
    weight, scale = _round_rows(linear.weight)
    return Linear(weight, linear.bias, scale.t().contiguous())


def _round_rows(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float8 rows, and the float32 scale (row, 1) that each is to be multiplied by."""
    largest = values.abs().amax(dim=1, keepdim=True).float()
    scale = (largest / FLOAT8_MAX).clamp(min=SMALLEST_SCALE)
    return (values.float() / scale).to(FLOAT8), scale
