"""The losses of an epoch: their mean over rows, and the first that is not finite."""

from __future__ import annotations

import torch

from harness.training.trainer import EpochLosses


def _losses(*values: float) -> EpochLosses:
    losses = EpochLosses(n_rows=10, batch_size=4, device=torch.device("cpu"))
    for value in values:
        losses.extend(torch.tensor(value))
    return losses


def test_mean_of_an_epoch_then_the_smaller_last_batch_counts_less() -> None:
    """Four, four and two rows."""
    assert _losses(1.0, 2.0, 4.0).mean() == (4 * 1 + 4 * 2 + 2 * 4) / 10


def test_mean_within_an_epoch_then_is_over_the_rows_so_far() -> None:
    """What the progress bar shows."""
    losses = _losses(1.0, 2.0)

    assert losses.mean() == 1.5
    assert losses.n_rows_done == 8


def test_first_not_finite_then_is_a_step_of_this_epoch() -> None:
    """Counted from 0; None where all are finite."""
    assert _losses(1.0, float("nan"), float("inf")).first_not_finite() == 1
    assert _losses(1.0).first_not_finite() is None
