"""The forward half of a step of training, for NVIDIA GPUs, in Triton's dialect of Python.

The formulas are those of ``steps``; a step of some small operations costs a GPU little but the
starting of each, so that what can be done together is. No kernel adds atomically: the same step
gives the same bits. Where the tensors come from, and how the kernels follow each other, is known
elsewhere (``fused``).

Rows beyond ``n_rows`` are computed with as zeros and never stored. ``block_...`` are the sizes of
the tiles, powers of 2, of which each program of a kernel computes one.

The backward half of a step of training, and its updates: see ``forward_kernels``.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "CHANGING",
    "activate",
    "backpropagate",
    "project",
    "update_hidden",
]


# Types say nothing here: Triton compiles these functions, and tells tensors by their pointers.
# mypy: allow-untyped-defs, allow-incomplete-defs, disallow-untyped-decorators=False
# mypy: disable-error-code="import-not-found, import-untyped"


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
        total = tl.dot(x, w, total, input_precision="ieee")
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


# mypy: allow-untyped-defs, allow-incomplete-defs, disallow-untyped-decorators=False
# mypy: disable-error-code="import-not-found, import-untyped"


@triton.jit(do_not_specialize=CHANGING)
def backpropagate(
    partial_logits,  # (program, class, row)
    targets,  # one-hot (row, class)
    normed,  # (row, hidden)
    kept,  # (row, hidden)
    inverse_deviation,  # (hidden,)
    learning_rate,  # (1,)
    scale,  # in and out: (hidden,)
    scale_momentum,  # in and out: (hidden,)
    shift,  # in and out: (hidden,)
    shift_momentum,  # in and out: (hidden,)
    output_weight,  # in and out: (class, hidden)
    output_weight_momentum,  # in and out: (class, hidden)
    output_bias,  # in and out: (class,)
    output_bias_momentum,  # in and out: (class,)
    d_pre,  # out: (row, hidden)
    losses,  # out: (step,)
    n_rows,
    step,  # within the launch
    hidden_dim: tl.constexpr,
    keep: tl.constexpr,
    decay: tl.constexpr,
    n_programs: tl.constexpr,
    block_programs: tl.constexpr,
    block_rows: tl.constexpr,
    block_hidden: tl.constexpr,
):
    """From the logits to the gradient before BatchNorm; updates all parameters behind it."""
    program = tl.program_id(0)
    row = tl.arange(0, block_rows)
    hidden = program * block_hidden + tl.arange(0, block_hidden)
    is_row, is_hidden = row < n_rows, hidden < hidden_dim
    place = row[:, None] * hidden_dim + hidden[None, :]
    is_place = is_row[:, None] & is_hidden[None, :]
    rate = tl.load(learning_rate)

    # Every program adds up the logits for itself: that is quicker than another kernel.
    shares = tl.arange(0, block_programs)
    share = partial_logits + shares[:, None] * (2 * block_rows) + row[None, :]
    is_share = (shares < n_programs)[:, None] & is_row[None, :]
    logit_0 = tl.sum(tl.load(share, mask=is_share, other=0.0), axis=0)  # (row,)
    logit_1 = tl.sum(tl.load(share + block_rows, mask=is_share, other=0.0), axis=0)
    top = tl.maximum(logit_0, logit_1)
    normaliser = top + tl.log(tl.exp(logit_0 - top) + tl.exp(logit_1 - top))
    target_0 = tl.load(targets + row * 2, mask=is_row, other=0.0)
    target_1 = tl.load(targets + row * 2 + 1, mask=is_row, other=0.0)
    log_0, log_1 = logit_0 - normaliser, logit_1 - normaliser
    error_0 = tl.where(is_row, (tl.exp(log_0) - target_0) / n_rows, 0.0)
    error_1 = tl.where(is_row, (tl.exp(log_1) - target_1) / n_rows, 0.0)

    active = tl.load(kept + place, mask=is_place, other=0.0)
    x = tl.load(normed + place, mask=is_place, other=0.0)
    at_0, at_1 = output_weight + hidden, output_weight + hidden_dim + hidden
    weight_0 = tl.load(at_0, mask=is_hidden, other=0.0)
    weight_1 = tl.load(at_1, mask=is_hidden, other=0.0)
    d_active = error_0[:, None] * weight_0[None, :] + error_1[:, None] * weight_1[None, :]
    # What ReLU or dropout set to zero has no gradient.
    d_normed = tl.where(active > 0.0, d_active / keep, 0.0)
    d_scale, d_shift = tl.sum(d_normed * x, axis=0), tl.sum(d_normed, axis=0)
    gamma = tl.load(scale + hidden, mask=is_hidden, other=0.0)
    inverse = tl.load(inverse_deviation + hidden, mask=is_hidden, other=0.0)
    inner = d_normed - (d_shift / n_rows)[None, :] - x * (d_scale / n_rows)[None, :]
    tl.store(d_pre + place, inner * (gamma * inverse)[None, :], mask=is_place)

    d_weight_0 = tl.sum(active * error_0[:, None], axis=0)
    d_weight_1 = tl.sum(active * error_1[:, None], axis=0)
    momentum_0 = output_weight_momentum + hidden
    _descend(at_0, momentum_0, d_weight_0, rate, decay, is_hidden)
    _descend(at_1, momentum_0 + hidden_dim, d_weight_1, rate, decay, is_hidden)
    _descend(scale + hidden, scale_momentum + hidden, d_scale, rate, decay, is_hidden)
    _descend(shift + hidden, shift_momentum + hidden, d_shift, rate, decay, is_hidden)
    if program == 0:
        d_bias_0, d_bias_1 = tl.sum(error_0, axis=0), tl.sum(error_1, axis=0)
        _descend(output_bias, output_bias_momentum, d_bias_0, rate, decay, True)
        _descend(output_bias + 1, output_bias_momentum + 1, d_bias_1, rate, decay, True)
        loss = tl.where(is_row, target_0 * log_0 + target_1 * log_1, 0.0)
        tl.store(losses + step, tl.sum(loss, axis=0) / -n_rows)


@triton.jit(do_not_specialize=CHANGING)
def update_hidden(
    features,  # (row, feature)
    d_pre,  # (row, hidden)
    learning_rate,  # (1,)
    weight,  # in and out: (hidden, feature)
    momentum,  # in and out: (hidden, feature)
    n_rows,
    n_features: tl.constexpr,
    hidden_dim: tl.constexpr,
    decay: tl.constexpr,
    all_rows: tl.constexpr,
    block_rows: tl.constexpr,
    block_hidden: tl.constexpr,
    block_features: tl.constexpr,
):
    """Compute the gradient of the hidden layer's weights and update them at once."""
    hidden = tl.program_id(0) * block_hidden + tl.arange(0, block_hidden)
    feature = tl.program_id(1) * block_features + tl.arange(0, block_features)
    is_hidden, is_feature = hidden < hidden_dim, feature < n_features
    gradient = tl.zeros((block_hidden, block_features), dtype=tl.float32)
    for start in range(0, all_rows, block_rows):
        row = start + tl.arange(0, block_rows)
        d = tl.load(
            d_pre + row[None, :] * hidden_dim + hidden[:, None],
            mask=is_hidden[:, None] & (row < n_rows)[None, :],
            other=0.0,
        )
        x = tl.load(
            features + row[:, None] * n_features + feature[None, :],
            mask=(row < n_rows)[:, None] & is_feature[None, :],
            other=0.0,
        )
        gradient = tl.dot(d, x, gradient, input_precision="ieee")
    place = hidden[:, None] * n_features + feature[None, :]
    is_place = is_hidden[:, None] & is_feature[None, :]
    _descend(weight + place, momentum + place, gradient, tl.load(learning_rate), decay, is_place)


@triton.jit
def _descend(value, momentum, gradient, rate, decay: tl.constexpr, mask):
    """Take a step of SGD with momentum."""
    moved = tl.load(momentum, mask=mask, other=0.0) * decay + gradient
    tl.store(momentum, moved, mask=mask)
    tl.store(value, tl.load(value, mask=mask, other=0.0) - rate * moved, mask=mask)
