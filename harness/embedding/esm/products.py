"""The linear layers' weights: in the encoder's dtype, or in float8 with row-wise scales.

float8 is for GPUs that multiply it (Hopper and newer): twice the rate of bfloat16. Each weight row
and each token gets a scale of its own, so one large value costs its own row precision only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["FLOAT8", "FLOAT8_MAX", "SMALLEST_SCALE", "Linear", "to_float8"]

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = torch.finfo(FLOAT8).max
SMALLEST_SCALE = 1e-12  # an all-zero row divided by it stays zero


class Linear(NamedTuple):
    """Weights of a linear layer."""

    weight: torch.Tensor  # (out, in)
    bias: torch.Tensor | None  # (out,)
    scale: torch.Tensor | None = None  # (1, out), float32, where the weight is float8


def to_float8(linear: Linear) -> Linear:
    """Return the layer with float8 weights, each row (output) scaled to float8's range."""
    largest = linear.weight.abs().amax(dim=1, keepdim=True).float()
    scale = (largest / FLOAT8_MAX).clamp(min=SMALLEST_SCALE)
    rounded = (linear.weight.float() / scale).to(FLOAT8)
    return Linear(rounded, linear.bias, scale.t().contiguous())
