"""The losses of an epoch's steps, kept on the device until somebody looks."""

from __future__ import annotations

import torch

__all__ = ["EpochLosses"]


class EpochLosses:
    """One loss a step; to be filled from the first step on.

    Parameters
    ----------
    n_rows : int
        Rows of an epoch.
    batch_size : int
        Rows of a step; the last one has what is left.
    device : torch device
        Where the losses are computed.
    """

    def __init__(self, *, n_rows: int, batch_size: int, device: torch.device) -> None:
        self.n_steps = -(-n_rows // batch_size)
        self.values = torch.zeros(self.n_steps, device=device)
        self.n_done = 0
        self._n_rows = n_rows
        self.batch_size = batch_size

    def extend(self, losses: torch.Tensor) -> None:
        """Take the losses of the next steps, or of one, without waiting for the device."""
        n_done = self.n_done + losses.numel()
        self.values[self.n_done : n_done] = losses
        self.n_done = n_done

    @property
    def n_rows_done(self) -> int:
        """Rows of the steps so far."""
        return min(self.n_done * self.batch_size, self._n_rows)

    def mean(self) -> float:
        """Return the mean over the rows of the steps so far."""
        rows = torch.full((self.n_done,), self.batch_size, dtype=torch.float64)
        rows[-1] += self.n_rows_done - self.n_done * self.batch_size
        losses = self.values[: self.n_done].cpu()
        return ((losses * rows).sum() / rows.sum()).item()

    def first_not_finite(self) -> int | None:
        """Return the number of the first step, from 0, whose loss is not finite; None if none."""
        wrong = (~self.values[: self.n_done].isfinite()).nonzero()
        return int(wrong[0]) if len(wrong) else None
