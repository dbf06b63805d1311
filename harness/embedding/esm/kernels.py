"""What an encoder computes beside its matrix products, for NVIDIA GPUs, in Triton's Python.

Whatever is no product reads the device's memory once and writes it once, which is all that its time
goes into. Hidden states come and go in half precision, and so do the factors of attention's
products; the other arithmetic is float32. Where the tensors come from, and how the kernels follow
each other, is known elsewhere (``fused``).

``block_...`` are sizes of tiles, powers of 2.
"""

# Types say nothing here: Triton compiles these functions, and tells tensors by their pointers.
# mypy: allow-untyped-defs, allow-incomplete-defs, disallow-untyped-decorators=False
# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["activate", "attend", "normalise", "round_rows", "turn_keys"]

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
    """Apply GELU in place: x times the share of a normal distribution below x.

    The error function is Abramowitz and Stegun's 7.1.28, whose absolute error is 3e-7 at most: less
    arithmetic than CUDA's own, which would take longer than the memory.
    """
    place = tl.program_id(0).to(tl.int64) * block_values + tl.arange(0, block_values)
    is_value = place < n_values
    x = tl.load(wide + place, mask=is_value, other=0.0).to(tl.float32)
    z = tl.minimum(tl.abs(x) * ROOT_OF_HALF, 4.0)  # 1 beyond, to 2e-8
    power = 0.0002765672 + z * 0.0000430638
    power = 0.0092705272 + z * (0.0001520143 + z * power)
    power = 1.0 + z * (0.0705230784 + z * (0.0422820123 + z * power))
    power *= power
    power *= power
    power *= power
    power *= power
    erf = tl.where(x < 0.0, 1.0 / power - 1.0, 1.0 - 1.0 / power)
    tl.store(wide + place, 0.5 * x * (1.0 + erf), mask=is_value)


@triton.jit
def round_rows(
    values,  # (row, column)
    rounded,  # out: (row, column), float8
    scales,  # out: (row,), what each row is to be multiplied by
    n_columns: tl.constexpr,
    largest: tl.constexpr,  # of float8
    smallest_scale: tl.constexpr,
    block_columns: tl.constexpr,
):
    """Round each row to float8, scaled to its range."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block_columns)
    is_column = column < n_columns
    place = row * n_columns + column
    x = tl.load(values + place, mask=is_column, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x)) / largest, smallest_scale)
    total = tl.sum(x)
    scale = tl.where(total == total, scale, total)  # a NaN spoils the row, and is not rounded away
    tl.store(scales + row, scale)
    tl.store(rounded + place, (x / scale).to(rounded.dtype.element_ty), mask=is_column)


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
def attend(
    qkv,  # (token, 3, head, channel): queries, turned keys, values
    cosines,  # (position, channel / 2), float32
    sines,  # (position, channel / 2), float32
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

    q_low, q_high = _turned(queries, query, is_query, cosines, sines, 3 * width, half, block_half)
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
