"""An encoder's arithmetic in torch's own operations: for every device and dtype."""

from __future__ import annotations

import torch
from torch.nn import functional

from harness.embedding.esm.encoder import Arithmetic, Norm
from harness.embedding.esm.products import Linear

__all__ = ["PLAIN"]


def _normalise(hidden: torch.Tensor, norm: Norm) -> torch.Tensor:
    if norm.shift is not None:
        hidden = hidden + norm.shift
    return functional.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, norm.eps)


def _multiply(inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
    return functional.linear(inputs, linear.weight, linear.bias)


def _add_product(hidden: torch.Tensor, inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
    return hidden + _multiply(inputs, linear)


PLAIN = Arithmetic(
    normalise=_normalise,
    multiply=_multiply,
    activate=functional.gelu,
    add_product=_add_product,
)
