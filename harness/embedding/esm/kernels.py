"""An encoder's arithmetic and attention for NVIDIA GPUs, in half precision, in Triton's Python.

Products are torch's (cuBLAS); those whose result is added to the hidden states are added there in
place. Their biases would cost a pass over the memory each, so they are put off: they reach the
hidden states in the next normalisation. What lies between the products are kernels of our own,
each of which reads the device's memory once and writes it once. Hidden states come and go in half
precision, and so do the factors of attention's products; the other arithmetic is float32.

``block_...`` are sizes of tiles, powers of 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from harness.embedding.esm.encoder import (
    Arithmetic,
    Layer,
    Linear,
    Norm,
    Rotation,
    Slopes,
)

__all__ = [
    "FUSED",
    "activate",
    "attend",
    "attend_tiles",
    "gate",
    "normalise",
    "put_off_biases",
    "turn_keys",
]


# Types say nothing here: Triton compiles these functions, and tells tensors by their pointers.
# mypy: allow-untyped-defs, allow-incomplete-defs, disallow-untyped-decorators=False
# mypy: disable-error-code="import-not-found, import-untyped"


LOG2_E = tl.constexpr(1.4426950408889634)
ROOT_OF_HALF = tl.constexpr(0.7071067811865476)


@triton.jit
def normalise(
    hidden,  # (token, dim)
    shift,  # (dim,): is added before
    weight,  # (dim,)
    bias,  # (dim,)
    normed,  # out: (token, dim)
    dim: tl.constexpr,
    epsilon: tl.constexpr,
    block_dim: tl.constexpr,
):
    """Normalise each token's hidden state over its channels."""
    channel = tl.arange(0, block_dim)
    is_channel = channel < dim
    place = tl.program_id(0).to(tl.int64) * dim + channel
    x = tl.load(hidden + place, mask=is_channel, other=0.0).to(tl.float32)
    x += tl.load(shift + channel, mask=is_channel, other=0.0)
    centred = tl.where(is_channel, x - tl.sum(x) / dim, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred) / dim + epsilon)
    gamma = tl.load(weight + channel, mask=is_channel, other=0.0)
    beta = tl.load(bias + channel, mask=is_channel, other=0.0)
    tl.store(normed + place, centred * inverse * gamma + beta, mask=is_channel)


@triton.jit
def activate(
    wide,  # in and out: (value,)
    n_values,
    block_values: tl.constexpr,
):
    """Apply GELU in place."""
    place = tl.program_id(0).to(tl.int64) * block_values + tl.arange(0, block_values)
    is_value = place < n_values
    x = tl.load(wide + place, mask=is_value, other=0.0).to(tl.float32)
    tl.store(wide + place, _gelu(x), mask=is_value)


@triton.jit
def gate(
    wide,  # (token, 2 x width)
    gated,  # out: (token, width)
    width: tl.constexpr,
    block_width: tl.constexpr,
):
    """Multiply GELU of the first half of each token's channels by the second half."""
    token = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * block_width + tl.arange(0, block_width)
    is_channel = channel < width
    first = wide + token * (2 * width) + channel
    x = tl.load(first, mask=is_channel, other=0.0).to(tl.float32)
    factor = tl.load(first + width, mask=is_channel, other=0.0)
    tl.store(gated + token * width + channel, _gelu(x) * factor, mask=is_channel)


@triton.jit
def _gelu(x):
    """Return x times the share of a normal distribution below x.

    The error function is Abramowitz and Stegun's 7.1.28, whose absolute error is 3e-7 at most: less
    arithmetic than CUDA's own, which would take longer than the memory.
    """
    z = tl.minimum(tl.abs(x) * ROOT_OF_HALF, 4.0)  # 1 beyond, to 2e-8
    power = 0.0002765672 + z * 0.0000430638
    power = 0.0092705272 + z * (0.0001520143 + z * power)
    power = 1.0 + z * (0.0705230784 + z * (0.0422820123 + z * power))
    power *= power
    power *= power
    power *= power
    power *= power
    erf = tl.where(x < 0.0, 1.0 / power - 1.0, 1.0 - 1.0 / power)
    return 0.5 * x * (1.0 + erf)


@triton.jit(do_not_specialize=["n_tiles"])
def turn_keys(
    qkv,  # in and out: (token, 3, head, channel); the keys are turned
    cosines,  # (position, channel / 2), float32
    sines,  # (position, channel / 2), float32
    starts,  # (sequence + 1,): first token of each sequence, and where the last one ends
    n_tiles,  # of keys, that the longest sequence has
    n_heads: tl.constexpr,
    half: tl.constexpr,  # channel / 2
    block_half: tl.constexpr,
    block_keys: tl.constexpr,
):
    """Turn keys by their positions in place, for a tile of a sequence and one head.

    Each tile of queries needs all keys, so that turning them there would be done many times over.
    """
    width: tl.constexpr = n_heads * 2 * half
    start, n_tokens, first = _find_tile(starts, n_tiles, block_keys)
    if first >= n_tokens:
        return
    key = first + tl.arange(0, block_keys)
    keys = qkv + start * 3 * width + width + tl.program_id(1) * 2 * half
    low, high = _turned(keys, key, key < n_tokens, cosines, sines, 3 * width, half, block_half)
    place, is_place = _lower_half(keys, key, key < n_tokens, 3 * width, half, block_half)
    tl.store(place, low, mask=is_place)
    tl.store(place + half, high, mask=is_place)


@triton.jit(do_not_specialize=["n_tiles"])
def attend_tiles(
    qkv,  # (token, 3, head, channel): queries, turned keys, values
    cosines,  # (position, channel / 2), float32; None where nothing is turned
    sines,  # (position, channel / 2), float32
    slopes,  # (head,), float32: by how much scores fall with distance; None where they do not
    starts,  # (sequence + 1,): first token of each sequence, and where the last one ends
    attended,  # out: (token, head, channel)
    n_tiles,  # of queries, that the longest sequence has
    n_heads: tl.constexpr,
    half: tl.constexpr,  # channel / 2
    block_half: tl.constexpr,
    block_queries: tl.constexpr,
    block_keys: tl.constexpr,
):
    """Attend within a sequence, for a tile of its queries and one head.

    The softmax is taken over tiles of keys, one after the other: what was added up is scaled down
    when a larger score turns up (Milakov and Gimelshein 2018; Dao 2023).
    """
    width: tl.constexpr = n_heads * 2 * half
    start, n_tokens, first_query = _find_tile(starts, n_tiles, block_queries)
    if first_query >= n_tokens:
        return
    queries = qkv + start * 3 * width + tl.program_id(1) * 2 * half
    query = first_query + tl.arange(0, block_queries)
    is_query = query < n_tokens
    channel = tl.arange(0, 2 * block_half)
    is_channel = channel < 2 * half

    if cosines is None:
        place, is_place = _lower_half(queries, query, is_query, 3 * width, half, block_half)
        q_low = tl.load(place, mask=is_place, other=0.0)
        q_high = tl.load(place + half, mask=is_place, other=0.0)
    else:
        q_low, q_high = _turned(
            queries, query, is_query, cosines, sines, 3 * width, half, block_half
        )
    if slopes is not None:  # scores are scaled later, and this with them
        slope = tl.load(slopes + tl.program_id(1)) * (2 * half) ** 0.5
    largest = tl.full((block_queries,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((block_queries,), dtype=tl.float32)
    mixed = tl.zeros((block_queries, 2 * block_half), dtype=tl.float32)
    scale: tl.constexpr = LOG2_E / (2 * half) ** 0.5  # powers of 2 cost less than those of e
    for first in range(0, n_tokens, block_keys):
        key = first + tl.arange(0, block_keys)
        is_key = key < n_tokens
        place, is_place = _lower_half(queries + width, key, is_key, 3 * width, half, block_half)
        k_low = tl.load(place, mask=is_place, other=0.0)
        k_high = tl.load(place + half, mask=is_place, other=0.0)
        scores = tl.dot(q_high, tl.trans(k_high), tl.dot(q_low, tl.trans(k_low)))
        if slopes is not None:
            scores -= slope * tl.abs(query[:, None] - key[None, :]).to(tl.float32)
        if first + block_keys > n_tokens:
            scores = tl.where(is_key[None, :], scores, float("-inf"))
        before, largest = largest, tl.maximum(largest, tl.max(scores, axis=1) * scale)
        weights = tl.exp2(scores * scale - largest[:, None])
        fade = tl.exp2(before - largest)
        total = total * fade + tl.sum(weights, axis=1)
        value = tl.load(
            queries + 2 * width + key[:, None] * (3 * width) + channel[None, :],
            mask=is_key[:, None] & is_channel[None, :],
            other=0.0,
        )
        mixed = tl.dot(weights.to(value.dtype), value, mixed * fade[:, None])
    out = (start + query)[:, None] * width + tl.program_id(1) * 2 * half + channel[None, :]
    is_out = is_query[:, None] & is_channel[None, :]
    tl.store(attended + out, mixed / total[:, None], mask=is_out)


@triton.jit
def _find_tile(starts, n_tiles, block: tl.constexpr):
    """Return a sequence's first token, its number of tokens, and where this program's tile is."""
    sequence = tl.program_id(0) // n_tiles
    start = tl.load(starts + sequence)
    n_tokens = tl.load(starts + sequence + 1) - start
    return start.to(tl.int64), n_tokens, tl.program_id(0) % n_tiles * block


@triton.jit
def _lower_half(
    rows,  # (token, ...): queries or keys of one head
    position,
    is_position,
    stride: tl.constexpr,  # from token to token
    half: tl.constexpr,
    block_half: tl.constexpr,
):
    """Return where the lower half of the channels lies; the upper one lies ``half`` behind it."""
    channel = tl.arange(0, block_half)
    place = rows + position[:, None] * stride + channel[None, :]
    return place, is_position[:, None] & (channel < half)[None, :]


@triton.jit
def _turned(
    rows,
    position,
    is_position,
    cosines,
    sines,
    stride: tl.constexpr,
    half: tl.constexpr,
    block_half: tl.constexpr,
):
    """Return both halves of the channels, each pair of them turned by its position's angle."""
    place, is_place = _lower_half(rows, position, is_position, stride, half, block_half)
    low = tl.load(place, mask=is_place, other=0.0)
    high = tl.load(place + half, mask=is_place, other=0.0)
    angle = position[:, None] * half + tl.arange(0, block_half)[None, :]
    cosine = tl.load(cosines + angle, mask=is_place, other=0.0)
    sine = tl.load(sines + angle, mask=is_place, other=0.0)
    turned_low = (low * cosine - high * sine).to(low.dtype)
    turned_high = (high * cosine + low * sine).to(low.dtype)
    return turned_low, turned_high


# Sizes of tiles, and warps that compute one, found by trying on an H200.
NORM_WARPS = 2
VALUES, VALUE_WARPS = 4_096, 4
GATE_WIDTH, GATE_WARPS = 1_024, 4
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
    qkv: torch.Tensor, positions: Rotation | Slopes, starts: torch.Tensor, longest: int
) -> torch.Tensor:
    """Return attention within sequences that lie end to end; turned keys are changed in place.

    Parameters
    ----------
    qkv : Tensor, (token, 3, head, channel)
        Queries, keys and values.
    positions : Rotation or Slopes
        Turns queries and keys, or lets scores fall with their distance.
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
    rotation: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
    slopes = None
    if isinstance(positions, Rotation):
        rotation = positions
        turn_keys[grid](qkv, *rotation, starts, n_tiles, **sizes)
    else:
        slopes = positions.values
    attend_tiles[grid](
        qkv, *rotation, slopes, starts, attended, n_tiles, block_queries=TILE_TOKENS, **sizes
    )
    return attended


def _put_off(shift: torch.Tensor, linear: Linear) -> tuple[torch.Tensor, Linear]:
    """Return the sum of the biases so far, and the layer without its own, if it has one."""
    bias = linear.bias
    return shift if bias is None else shift + bias, linear._replace(bias=None)


def _normalise(hidden: torch.Tensor, norm: Norm) -> torch.Tensor:
    n_tokens, dim = hidden.shape
    normed = torch.empty_like(hidden)
    normalise[(n_tokens,)](
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
    return torch.nn.functional.linear(inputs, linear.weight, linear.bias)


def _activate(wide: torch.Tensor) -> torch.Tensor:
    grid = (triton.cdiv(wide.numel(), VALUES),)
    activate[grid](wide, wide.numel(), block_values=VALUES, num_warps=VALUE_WARPS)
    return wide


def _gate(wide: torch.Tensor) -> torch.Tensor:
    n_tokens, width = wide.shape[0], wide.shape[1] // 2
    gated = wide.new_empty((n_tokens, width))
    grid = (n_tokens, triton.cdiv(width, GATE_WIDTH))
    gate[grid](wide, gated, width=width, block_width=GATE_WIDTH, num_warps=GATE_WARPS)
    return gated


def _add_product(hidden: torch.Tensor, inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
    return hidden.addmm_(inputs, linear.weight.t())


FUSED = Arithmetic(
    normalise=_normalise,
    multiply=_multiply,
    activate=_activate,
    gate=_gate,
    add_product=_add_product,
)
