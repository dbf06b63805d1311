"""Batches of training rows in a given order: from the device's memory, or streamed to it.

The order is drawn elsewhere, and is the same for both ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch

from harness.training.captured import BATCHES_PER_LAUNCH
from harness.training.features import LabelledRows
from harness.training.head import N_CLASSES
from harness.training.stored_rows import StoredRows
from harness.training.streaming import BlockStream

__all__ = ["Batch", "BatchFeed", "n_usable_rows"]

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # (row, feature), one-hot (row, class)

# Batches that are read together when streaming: long reads, while memory stays small. As many as
# one launch takes, so that all launches but the last one of an epoch are full.
STREAMED_BATCHES = BATCHES_PER_LAUNCH


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
        self._source: torch.Tensor | BlockStream
        if is_streamed or isinstance(rows.features, StoredRows):
            n_rows = STREAMED_BATCHES * batch_size
            self._source = BlockStream(rows.features, block_rows=n_rows, device=device)
        else:
            self._source = rows.features.to(device)

    def batches(
        self, order: torch.Tensor, *, first_step: int = 0, n_batches: int = 1
    ) -> Iterator[Batch]:
        """Yield features and one-hot labels of each batch, from ``first_step`` on.

        The features are overwritten by the next batch.

        Parameters
        ----------
        order : int64 tensor, (n_rows,)
            Row numbers of a whole epoch.
        first_step : int
            Number of the first batch, from 0.
        n_batches : int
            How many batches to put together; at the end of the epoch there are fewer.
        """
        rest = order[first_step * self._batch_size :]
        if isinstance(self._source, torch.Tensor):
            return self._gather(self._source, rest.to(self._device), n_batches)
        return self._stream(self._source, rest, n_batches)

    def _gather(
        self, features: torch.Tensor, order: torch.Tensor, n_batches: int
    ) -> Iterator[Batch]:
        # One buffer for all batches: it stays in the cache.
        n_rows = n_batches * self._batch_size
        buffer = torch.empty((n_rows, features.shape[1]), device=self._device)
        for picked in torch.split(order, n_rows):
            batch = buffer[: len(picked)]
            torch.index_select(features, 0, picked, out=batch)
            yield batch, self._targets.index_select(0, picked)

    def _stream(self, stream: BlockStream, order: torch.Tensor, n_batches: int) -> Iterator[Batch]:
        pieces = torch.split(order, STREAMED_BATCHES * self._batch_size)
        n_rows = n_batches * self._batch_size
        for picked, block in zip(pieces, stream.blocks(pieces), strict=True):
            targets = self._targets.index_select(0, picked.to(self._device))
            yield from zip(torch.split(block, n_rows), torch.split(targets, n_rows), strict=True)


def n_usable_rows(n_rows: int, batch_size: int) -> int:
    """Return how many rows of an epoch are used: a trailing batch of one row is dropped.

    BatchNorm has no variance for a single row, and VirNucPro's loop crashed on it.
    """
    return n_rows - 1 if n_rows % batch_size == 1 else n_rows
