"""The forward half of a step of training, for NVIDIA GPUs, in Triton's dialect of Python.

The formulas are those of ``steps``; a step of some small operations costs a GPU little but the
starting of each, so that what can be done together is. No kernel adds atomically: the same step
gives the same bits. Where the tensors come from, and how the kernels follow each other, is known
elsewhere (``fused``).

Rows beyond ``n_rows`` are computed with as zeros and never stored. ``block_...`` are the sizes of
the tiles, powers of 2, of which each program of a kernel computes one.
"""

# Types say nothing here: Triton compiles these functions, and tells tensors by their pointers.
# mypy: allow-untyped-defs, allow-incomplete-defs, disallow-untyped-decorators=False
# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["CHANGING", "activate", "project"]

# Numbers that change from step to step must not make Triton compile anew.
CHANGING = ["n_rows", "step"]


@triton.jit(do_not_specialize=CHANGING)
def project(
    features,  # (row, feature)
    weight,  # (hidden, feature)
    partial,  # out: (part, row, hidden), to be added up
    n_rows,
    n_features: tl.constexpr,
    hidden_dim: tl.constexpr,
    n_parts: tl.constexpr,
    block_rows: tl.constexpr,
    block_hidden: tl.constexpr,
    block_features: tl.constexpr,
    precision: tl.constexpr,
):
    """Multiply features by the hidden layer's weights, each part over its share of the features."""
    hidden = tl.program_id(0) * block_hidden + tl.arange(0, block_hidden)
    part = tl.program_id(1)
    row = tl.program_id(2) * block_rows + tl.arange(0, block_rows)
    total = tl.zeros((block_rows, block_hidden), dtype=tl.float32)
    for start in range(0, n_features, n_parts * block_features):
        feature = start + part * block_features + tl.arange(0, block_features)
        x = tl.load(
            features + row[:, None] * n_features + feature[None, :],
            mask=(row < n_rows)[:, None] & (feature < n_features)[None, :],
            other=0.0,
        )
        w = tl.load(
            weight + hidden[None, :] * n_features + feature[:, None],
            mask=(hidden < hidden_dim)[None, :] & (feature < n_features)[:, None],
            other=0.0,
        )
        total = tl.dot(x, w, total, input_precision=precision)
    tl.store(
        partial + (part * n_rows + row[:, None]) * hidden_dim + hidden[None, :],
        total,
        mask=(row < n_rows)[:, None] & (hidden < hidden_dim)[None, :],
    )


@triton.jit(do_not_specialize=CHANGING)
def activate(
    partial,  # (part, row, hidden)
    bias,  # (hidden,)
    scale,  # (hidden,)
    shift,  # (hidden,)
    running_mean,  # in and out: (hidden,)
    running_variance,  # in and out: (hidden,)
    output_weight,  # (class, hidden)
    output_bias,  # (class,)
    dropout_state,  # (2,): seed, number of the launch's first step
    normed,  # out: (row, hidden)
    kept,  # out: (row, hidden)
    inverse_deviation,  # out: (hidden,)
    partial_logits,  # out: (program, class, row), to be added up
    n_rows,
    step,  # within the launch
    hidden_dim: tl.constexpr,
    n_parts: tl.constexpr,
    keep: tl.constexpr,
    norm_momentum: tl.constexpr,
    epsilon: tl.constexpr,
    block_rows: tl.constexpr,
    block_hidden: tl.constexpr,
):
    """From the hidden layer's products to shares of the logits: BatchNorm, ReLU, dropout."""
    program = tl.program_id(0)
    row = tl.arange(0, block_rows)
    hidden = program * block_hidden + tl.arange(0, block_hidden)
    is_row, is_hidden = row < n_rows, hidden < hidden_dim
    place = row[:, None] * hidden_dim + hidden[None, :]
    is_place = is_row[:, None] & is_hidden[None, :]

    pre = tl.zeros((block_rows, block_hidden), dtype=tl.float32)
    for part in tl.static_range(n_parts):
        pre += tl.load(partial + part * n_rows * hidden_dim + place, mask=is_place, other=0.0)
    pre += tl.load(bias + hidden, mask=is_hidden, other=0.0)[None, :]

    mean = tl.sum(tl.where(is_place, pre, 0.0), axis=0) / n_rows
    centred = tl.where(is_place, pre - mean[None, :], 0.0)
    variance = tl.sum(centred * centred, axis=0) / n_rows
    inverse = 1.0 / tl.sqrt(variance + epsilon)
    _follow(running_mean + hidden, mean, norm_momentum, is_hidden)
    unbiased = variance * (n_rows / (n_rows - 1.0))
    _follow(running_variance + hidden, unbiased, norm_momentum, is_hidden)
    x = centred * inverse[None, :]
    tl.store(normed + place, x, mask=is_place)
    tl.store(inverse_deviation + hidden, inverse, mask=is_hidden)

    gamma = tl.load(scale + hidden, mask=is_hidden, other=0.0)
    beta = tl.load(shift + hidden, mask=is_hidden, other=0.0)
    active = x * gamma[None, :] + beta[None, :]
    active = tl.where(active < 0.0, 0.0, active)  # unlike a maximum, this leaves NaN as it is
    if keep < 1.0:
        seed = tl.load(dropout_state)
        number = tl.load(dropout_state + 1) + step
        counter = place.to(tl.uint32)
        zero = counter * 0
        low = zero + (number & 0xFFFFFFFF).to(tl.uint32)
        high = zero + (number >> 32).to(tl.uint32)
        bits, _, _, _ = tl.philox(seed, counter, low, high, zero)
        # 24 bits make a uniform number in [0, 1) exactly.
        uniform = (bits >> 8).to(tl.float32) * (1.0 / 16777216.0)
        active = tl.where(uniform < keep, active / keep, 0.0)
    tl.store(kept + place, active, mask=is_place)

    for label in tl.static_range(2):
        weight = tl.load(output_weight + label * hidden_dim + hidden, mask=is_hidden, other=0.0)
        share = tl.sum(tl.where(is_place, active * weight[None, :], 0.0), axis=1)
        if program == 0:
            share += tl.load(output_bias + label)
        tl.store(partial_logits + (program * 2 + label) * block_rows + row, share)


@triton.jit
def _follow(statistic, found, share: tl.constexpr, mask):
    """Move a running statistic towards what a batch showed."""
    before = tl.load(statistic, mask=mask, other=0.0)
    tl.store(statistic, before * (1.0 - share) + found * share, mask=mask)
