"""ESM2's encoder over sequences laid end to end: one implementation for every device.

Tokens of all sequences of a batch form one axis, so no token is padding. How they attend to each
other is passed in (see ``layouts``); everything else works on each token alone. On a GPU the two
halves of a layer are compiled, once for all layers and all numbers of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.nn import functional

from harness.embedding.esm.products import Linear, apply_linear

__all__ = ["Attend", "Encoder", "Layer", "Norm"]

# (token, head, channel) each of query, key and value to the same shape.
Attend: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

# In training 12% of the tokens were blanked and the others scaled up; without blanks, ESM2 scales
# all token embeddings by what was kept.
TOKEN_DROPOUT_SCALE = 1 - 0.15 * 0.8
ROTARY_BASE = 10_000.0


class Norm(NamedTuple):
    """Weights of a layer normalisation."""

    weight: torch.Tensor  # (dim,)
    bias: torch.Tensor  # (dim,)
    eps: float


class Layer(NamedTuple):
    """Weights of one encoder layer."""

    attention_norm: Norm
    qkv: Linear  # dim to 3 x dim: queries, keys, values
    attended: Linear  # dim to dim
    norm: Norm
    widen: Linear  # dim to feed-forward width
    narrow: Linear  # feed-forward width to dim


class Encoder:
    """ESM2's encoder.

    Parameters
    ----------
    embedding : Tensor, (n_tokens, dim)
        A vector for each token of the alphabet.
    layers : sequence of Layer
    last_norm : Norm
    n_heads : int
    is_compiled : bool
        Compile the halves of a layer: worth its seconds on a GPU only.
    """

    def __init__(
        self,
        embedding: torch.Tensor,
        layers: list[Layer],
        last_norm: Norm,
        *,
        n_heads: int,
        is_compiled: bool,
    ) -> None:
        self.dim = embedding.shape[1]
        self._embedding = embedding * TOKEN_DROPOUT_SCALE
        self._layers = layers
        self._last_norm = last_norm
        self._n_heads = n_heads
        self._project = _compiled(_project) if is_compiled else _project
        self._mix = _compiled(_mix) if is_compiled else _mix
        channels = self.dim // n_heads
        steps = torch.arange(0, channels, 2, device=embedding.device) / channels
        self._frequencies = ROTARY_BASE**-steps  # (channel / 2,)

    @torch.no_grad()
    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """Return the last hidden states, (token, dim), in the encoder's dtype.

        Parameters
        ----------
        tokens : integer tensor, (token,)
            Token ids of all sequences, one after the other.
        positions : integer tensor, (token,)
            Number of each token within its sequence.
        attend : callable
            Attention within each sequence.
        """
        angles = positions[:, None, None] * self._frequencies  # (token, 1, channel / 2)
        cos, sin = angles.cos(), angles.sin()
        hidden = functional.embedding(tokens, self._embedding)  # (token, dim)
        for layer in self._layers:
            rotated, value = self._project(hidden, layer, cos, sin, self._n_heads)
            query, key = rotated.chunk(2, dim=1)
            attended = attend(query, key, value).flatten(1)  # (token, dim)
            hidden = self._mix(hidden, attended, layer)
        return _normalise(hidden, self._last_norm)


def _project(
    hidden: torch.Tensor, layer: Layer, cos: torch.Tensor, sin: torch.Tensor, n_heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rotated queries and keys (token, 2 x head, channel) and values (token, head, ...)."""
    qkv = apply_linear(_normalise(hidden, layer.attention_norm), layer.qkv)  # (token, 3 x dim)
    heads = qkv.view(len(qkv), 3 * n_heads, -1)  # (token, 3 x head, channel)
    return _rotate(heads[:, : 2 * n_heads], cos, sin), heads[:, 2 * n_heads :]


def _mix(hidden: torch.Tensor, attended: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Return the hidden states after a layer, (token, dim)."""
    hidden = hidden + apply_linear(attended, layer.attended)
    wide = functional.gelu(apply_linear(_normalise(hidden, layer.norm), layer.widen))
    return hidden + apply_linear(wide, layer.narrow)


def _normalise(hidden: torch.Tensor, norm: Norm) -> torch.Tensor:
    return functional.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, norm.eps)


def _rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair of channels by its token's angle (rotary position embedding), in float32."""
    first, second = heads.float().chunk(2, dim=-1)  # (token, head, channel / 2) each
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(heads.dtype)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function once for all numbers of tokens, the first axis of its tensors."""
    # Static but for that axis: the sizes of another model must not become variables. The tiles of
    # the small kernels are tuned, which takes some seconds.
    compiled = torch.compile(
        function, dynamic=False, fullgraph=True, options={"coordinate_descent_tuning": True}
    )

    def call(*arguments: Any) -> Any:
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                torch._dynamo.maybe_mark_dynamic(argument, 0)
        return compiled(*arguments)

    return call
