"""ESM2's encoder over sequences laid end to end: one implementation for every device.

Tokens of all sequences of a batch form one axis, so no token is padding. How they attend to each
other is passed in (see ``engine``), and so is the arithmetic on single tokens: torch's operations
(``PLAIN``), or kernels for GPUs (``kernels.FUSED``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch.nn import functional

from harness.embedding.esm.alphabet import MAX_TOKENS
from harness.embedding.esm.checkpoint import ROTARY_BASE

__all__ = [
    "PLAIN",
    "Arithmetic",
    "Attend",
    "Encoder",
    "Layer",
    "Linear",
    "Norm",
    "Rotation",
    "Slopes",
    "rotate",
    "unrounded_frequencies",
]


class Linear(NamedTuple):
    """Weights of a linear layer."""

    weight: torch.Tensor  # (out, in)
    bias: torch.Tensor | None  # (out,)


# In training 12% of the tokens were blanked and the others scaled up; without blanks, ESM2 scales
# all token embeddings by what was kept.
TOKEN_DROPOUT_SCALE = 1 - 0.15 * 0.8


class Norm(NamedTuple):
    """Weights of a layer normalisation."""

    weight: torch.Tensor  # (dim,)
    bias: torch.Tensor  # (dim,)
    eps: float
    shift: torch.Tensor | None = None  # (dim,): is added before: biases that were put off


class Rotation(NamedTuple):
    """By how much each pair of channels is turned at each position (rotary position embedding)."""

    cosines: torch.Tensor  # (position, channel / 2), float32
    sines: torch.Tensor  # (position, channel / 2), float32


class Layer(NamedTuple):
    """Weights of one encoder layer."""

    attention_norm: Norm
    qkv: Linear  # dim to 3 x dim: queries, keys, values
    attended: Linear  # dim to dim
    norm: Norm
    widen: Linear  # dim to feed-forward width
    narrow: Linear  # feed-forward width to dim
    rotation: Rotation  # of its queries and keys


class Slopes:
    """By how much scores fall with the distance of two tokens (ALiBi).

    Parameters
    ----------
    values : float32 tensor, (head,)
        From a token to the next.
    """

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        self._last = values.new_empty((len(values), 0, 0))

    def bias(self, n_tokens: int, dtype: torch.dtype) -> torch.Tensor:
        """Return what is added to the scores of a sequence, (head, query, key); the last is kept.

        Parameters
        ----------
        n_tokens : int
        dtype : torch dtype
            Of the scores.
        """
        if self._last.shape[1] != n_tokens or self._last.dtype != dtype:
            positions = torch.arange(n_tokens, device=self.values.device)
            distances = (positions[:, None] - positions).abs()
            self._last = (self.values[:, None, None] * -distances).to(dtype)
        return self._last


# (token, 3, head, channel) of queries, keys and values, which may be written over, to
# (token, head, channel).
Attend: TypeAlias = Callable[[torch.Tensor, Rotation | Slopes], torch.Tensor]


class Arithmetic(NamedTuple):
    """What is computed on each token alone."""

    normalise: Callable[[torch.Tensor, Norm], torch.Tensor]
    multiply: Callable[[torch.Tensor, Linear], torch.Tensor]
    activate: Callable[[torch.Tensor], torch.Tensor]  # GELU; may write over its input
    # (token, 2 x width) to (token, width): the second half, gated by GELU of the first.
    gate: Callable[[torch.Tensor], torch.Tensor]
    # Hidden states plus a product: of hidden states, inputs, weights. May write over the first.
    add_product: Callable[[torch.Tensor, torch.Tensor, Linear], torch.Tensor]


class Encoder:
    """ESM2's encoder.

    Parameters
    ----------
    embedding : Tensor, (n_tokens, dim)
        A vector for each token of the alphabet.
    layers : sequence of Layer
    last_norm : Norm
    n_heads : int
    arithmetic : Arithmetic
    """

    def __init__(
        self,
        embedding: torch.Tensor,
        layers: list[Layer],
        last_norm: Norm,
        *,
        n_heads: int,
        arithmetic: Arithmetic,
    ) -> None:
        self.dim = embedding.shape[1]
        self._embedding = embedding * TOKEN_DROPOUT_SCALE
        self._layers = layers
        self._last_norm = last_norm
        self._n_heads = n_heads
        self._arithmetic = arithmetic

    @torch.no_grad()
    def __call__(self, tokens: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Return the last hidden states, (token, dim), in the encoder's dtype.

        Parameters
        ----------
        tokens : integer tensor, (token,)
            Token ids of all sequences, one after the other.
        attend : callable
            Attention within each sequence.
        """
        hidden = functional.embedding(tokens, self._embedding)  # (token, dim)
        for layer in self._layers:
            hidden = self._attend(hidden, layer, attend)
            hidden = self._feed_forward(hidden, layer)
        return self._arithmetic.normalise(hidden, self._last_norm)

    # Two functions, so that the memory of one's intermediates is free for the other's.

    def _attend(self, hidden: torch.Tensor, layer: Layer, attend: Attend) -> torch.Tensor:
        normalise, multiply, _, _, add_product = self._arithmetic
        qkv = multiply(normalise(hidden, layer.attention_norm), layer.qkv)
        heads = qkv.view(len(qkv), 3, self._n_heads, -1)
        attended = attend(heads, layer.rotation).flatten(1)  # (token, dim)
        return add_product(hidden, attended, layer.attended)

    def _feed_forward(self, hidden: torch.Tensor, layer: Layer) -> torch.Tensor:
        normalise, multiply, activate, _, add_product = self._arithmetic
        wide = activate(multiply(normalise(hidden, layer.norm), layer.widen))
        return add_product(hidden, wide, layer.narrow)


def rotate(frequencies: torch.Tensor) -> Rotation:
    """Return the rotation that a checkpoint's rotary table stands for.

    Parameters
    ----------
    frequencies : float32 tensor, (channel / 2,)
        Radians a position.
    """
    positions = torch.arange(MAX_TOKENS, device=frequencies.device)
    angles = positions[:, None] * frequencies  # (position, channel / 2)
    return Rotation(angles.cos(), angles.sin())


def unrounded_frequencies(n_channels: int, device: torch.device) -> torch.Tensor:
    """Return the rotary table of a model whose checkpoint brings none, float32 (channel / 2,)."""
    steps = torch.arange(0, n_channels, 2, device=device) / n_channels
    return ROTARY_BASE**-steps


def _normalise(hidden: torch.Tensor, norm: Norm) -> torch.Tensor:
    if norm.shift is not None:
        hidden = hidden + norm.shift
    return functional.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, norm.eps)


def _multiply(inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
    return functional.linear(inputs, linear.weight, linear.bias)


def _gate(wide: torch.Tensor) -> torch.Tensor:
    first, second = wide.chunk(2, dim=-1)
    return functional.gelu(first).mul_(second)


def _add_product(hidden: torch.Tensor, inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
    return hidden + _multiply(inputs, linear)


PLAIN = Arithmetic(
    normalise=_normalise,
    multiply=_multiply,
    activate=functional.gelu,
    gate=_gate,
    add_product=_add_product,
)
