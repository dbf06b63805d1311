"""Losses that are not finite stop a training, and say where to look."""

from __future__ import annotations

import math

import torch

from harness.errors import DataError
from harness.training.features import LabelledRows
from harness.training.losses import EpochLosses

__all__ = ["require_finite_losses", "require_finite_validation"]


def require_finite_losses(
    losses: EpochLosses, rows: LabelledRows, order: torch.Tensor, *, epoch: int
) -> None:
    """Raise DataError with step and records if a step of the epoch so far has no finite loss.

    Parameters
    ----------
    order : int64 tensor, (n_rows,)
        Of the epoch's rows.
    """
    step = losses.first_not_finite()
    if step is None:
        return
    batch = torch.split(order, losses.batch_size)[step].tolist()
    raise DataError(
        f"the loss of epoch {epoch}, step {step + 1} is {losses.values[step].item()}: training "
        "stopped. Lower the learning rate, or look at the features of this batch: "
        + ", ".join(rows.names(batch))
    )


def require_finite_validation(loss: float, *, epoch: int) -> None:
    """Raise DataError if a validation loss can neither be improved on nor be judged."""
    if not math.isfinite(loss):
        raise DataError(
            f"the validation loss of epoch {epoch} is {loss}: training stopped. "
            "Lower the learning rate"
        )
