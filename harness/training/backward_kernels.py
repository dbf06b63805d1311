"""The backward half of a step of training, and its updates: see ``forward_kernels``."""

# mypy: allow-untyped-defs, allow-incomplete-defs, disallow-untyped-decorators=False
# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import triton
import triton.language as tl

from harness.training.forward_kernels import CHANGING

__all__ = ["backpropagate", "update_hidden"]


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
    precision: tl.constexpr,
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
        gradient = tl.dot(d, x, gradient, input_precision=precision)
    place = hidden[:, None] * n_features + feature[None, :]
    is_place = is_hidden[:, None] & is_feature[None, :]
    _descend(weight + place, momentum + place, gradient, tl.load(learning_rate), decay, is_place)


@triton.jit
def _descend(value, momentum, gradient, rate, decay: tl.constexpr, mask):
    """Take a step of SGD with momentum."""
    moved = tl.load(momentum, mask=mask, other=0.0) * decay + gradient
    tl.store(momentum, moved, mask=mask)
    tl.store(value, tl.load(value, mask=mask, other=0.0) - rate * moved, mask=mask)
