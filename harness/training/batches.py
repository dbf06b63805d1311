"""Batches of training rows in a given order: from the device's memory, or streamed to it.

The order is drawn elsewhere, and is the same for both ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import torch

from harness.training.features import LabelledRows, read_rows
from harness.training.head import N_CLASSES
from harness.training.stored_rows import StoredRows

__all__ = ["Batch", "BatchFeed", "n_usable_rows"]

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # (row, feature), one-hot (row, class)

# Batches that are read together when streaming: long reads, while memory stays small.
STREAMED_BATCHES = 64


class BatchFeed:
    """Feeds the training rows to a device, batch by batch.

    Parameters
    ----------
    rows : LabelledRows
        What to train on.
    batch_size : int
        Rows in a batch; the last of an epoch may be smaller.
    device : torch device
        Where the batches are needed.
    is_streamed : bool
        Leave the features where they are and copy them piece by piece while training, for features
        larger than the device's memory. Rows on disk are always streamed.
    """

    def __init__(
        self, rows: LabelledRows, *, batch_size: int, device: torch.device, is_streamed: bool
    ) -> None:
        self._batch_size = batch_size
        self._device = device
        self._targets = torch.nn.functional.one_hot(rows.labels, N_CLASSES).float().to(device)
        self._rows = rows.features
        self._resident: torch.Tensor | None = None
        if not (is_streamed or isinstance(rows.features, StoredRows)):
            self._resident = rows.features.to(device)

    def batches(self, order: torch.Tensor, *, first_step: int = 0) -> Iterator[Batch]:
        """Yield features and one-hot labels of each batch, from ``first_step`` on.

        The features are overwritten by the next batch.

        Parameters
        ----------
        order : int64 tensor, (n_rows,)
            Row numbers of a whole epoch.
        """
        rest = order[first_step * self._batch_size :]
        if self._resident is None:
            return self._stream(rest)
        return self._gather(self._resident, rest.to(self._device))

    def _gather(self, features: torch.Tensor, order: torch.Tensor) -> Iterator[Batch]:
        # One buffer for all batches: it stays in the cache.
        buffer = torch.empty((self._batch_size, features.shape[1]), device=self._device)
        for picked in torch.split(order, self._batch_size):
            batch = buffer[: len(picked)]
            torch.index_select(features, 0, picked, out=batch)
            yield batch, self._targets.index_select(0, picked)

    def _stream(self, order: torch.Tensor) -> Iterator[Batch]:
        pieces = torch.split(order, STREAMED_BATCHES * self._batch_size)
        for picked, block in zip(pieces, self._read_ahead(pieces), strict=True):
            targets = self._targets.index_select(0, picked.to(self._device))
            yield from zip(
                torch.split(block.to(self._device), self._batch_size),
                torch.split(targets, self._batch_size),
                strict=True,
            )

    def _read_ahead(self, pieces: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield each piece's rows while the next piece is being read."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            pending = reader.submit(read_rows, self._rows, pieces[0])
            for following in pieces[1:]:
                block = pending.result()
                pending = reader.submit(read_rows, self._rows, following)
                yield block
            yield pending.result()


def n_usable_rows(n_rows: int, batch_size: int) -> int:
    """Return how many rows of an epoch are used: a trailing batch of one row is dropped.

    BatchNorm has no variance for a single row, and VirNucPro's loop crashed on it.
    """
    return n_rows - 1 if n_rows % batch_size == 1 else n_rows
