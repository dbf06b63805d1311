"""Batches of training rows in a given order: from the device's memory, or streamed to it.

The order is drawn elsewhere, and is the same for both ways.

What heads share when several are trained: the rows on their device, the recipe, the clock.

Blocks of rows on their way to a device: one is read and copied while another is computed with.

Which rows make a block is decided elsewhere (``batches``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from harness.config import TrainingConfig
from harness.progress import Progress
from harness.training.features import LabelledRows, StoredRows, TrainingData, read_rows
from harness.training.head import N_CLASSES
from harness.training.steps import BATCHES_PER_LAUNCH

__all__ = [
    "Batch",
    "BatchFeed",
    "BlockStream",
    "Setup",
    "bring_rows",
    "must_stream",
    "n_usable_rows",
]


Slot: TypeAlias = "_HostSlot | _CudaSlot"


class BlockStream:
    """Streams blocks of rows, in the order asked for.

    Two buffers of one block are held in the host's memory, and on a GPU two more. For a GPU the
    host's are pinned, so that a copy runs beside the computation.

    Parameters
    ----------
    rows : float32 tensor or StoredRows, (n_rows, n_features)
        What to read from.
    block_rows : int
        Rows of the largest block.
    device : torch device
        Where the blocks are needed.
    """

    def __init__(
        self, rows: torch.Tensor | StoredRows, *, block_rows: int, device: torch.device
    ) -> None:
        self._rows = rows
        shape = (block_rows, rows.shape[1])
        make = _CudaSlot if device.type == "cuda" else _HostSlot
        self._slots: tuple[Slot, Slot] = (make(shape, device), make(shape, device))

    def blocks(self, pieces: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the rows of each piece on the device, to be used before the next one is asked for.

        Parameters
        ----------
        pieces : sequence of int64 tensor, (n_positions,)
            Row numbers of each block.
        """
        with ThreadPoolExecutor(max_workers=1) as reader:
            pending = self._read(reader, 0, pieces)
            for number, piece in enumerate(pieces):
                pending.result()
                slot = self._slots[number % 2]
                if number + 1 < len(pieces):
                    pending = self._read(reader, number + 1, pieces)
                yield slot.send(len(piece))
                slot.release()

    def _read(
        self, reader: ThreadPoolExecutor, number: int, pieces: Sequence[torch.Tensor]
    ) -> Future[None]:
        return reader.submit(self._fill, self._slots[number % 2], pieces[number])

    def _fill(self, slot: Slot, positions: torch.Tensor) -> None:
        read_rows(self._rows, positions, into=slot.await_host()[: len(positions)])


class _HostSlot:
    """A buffer that is computed with where it is."""

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        self._buffer = torch.empty(shape, device=device)

    def await_host(self) -> torch.Tensor:
        return self._buffer

    def send(self, n_rows: int) -> torch.Tensor:
        return self._buffer[:n_rows]

    def release(self) -> None:
        """Nothing is under way once the caller is done."""


class _CudaSlot:
    """A pinned buffer, its counterpart on the GPU, and a stream that copies to it."""

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        self._host = torch.empty(shape, pin_memory=True)
        self._buffer = torch.empty(shape, device=device)
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._used = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def await_host(self) -> torch.Tensor:
        """Return the host's buffer once its last copy is over."""
        self._copied.synchronize()
        return self._host

    def send(self, n_rows: int) -> torch.Tensor:
        """Copy beside the computation, which waits for it, to where nobody computes any more."""
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used)
            self._buffer[:n_rows].copy_(self._host[:n_rows], non_blocking=True)
            self._copied.record(self._stream)
        torch.cuda.current_stream(self._device).wait_event(self._copied)
        return self._buffer[:n_rows]

    def release(self) -> None:
        """Allow the buffer on the GPU to be overwritten once what was asked for is computed."""
        self._used.record(torch.cuda.current_stream(self._device))


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


# Of a GPU's free memory; the rest is for whatever else the process does there.
RESIDENT_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that training depends on but the seed, ready for use.

    Attributes
    ----------
    data : TrainingData
        Validation features lie on the device already, unless they are streamed.
    feed : BatchFeed
        Of the training rows.
    """

    data: TrainingData
    feed: BatchFeed
    recipe: TrainingConfig
    device: torch.device
    progress: Progress
    clock: Callable[[], float]


def bring_rows(
    data: TrainingData, device: torch.device, *, is_streamed: bool
) -> tuple[TrainingData, BatchFeed]:
    """Bring the rows to the device, or prepare to stream them."""
    feed = BatchFeed(data.train, batch_size=data.batch_size, device=device, is_streamed=is_streamed)
    validation = data.validation
    if isinstance(validation.features, torch.Tensor) and not is_streamed:
        # A copy even on the CPU: torch's memory is aligned, so that every process rounds alike.
        resident = validation.features.to(device, copy=True)
        data = replace(data, validation=replace(validation, features=resident))
    return data, feed


def must_stream(data: TrainingData, device: torch.device) -> bool:
    """Return whether the features would take more than half of a GPU's free memory."""
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return _n_bytes(data.train) + _n_bytes(data.validation) > RESIDENT_SHARE * free_bytes


def _n_bytes(rows: LabelledRows) -> int:
    return len(rows) * rows.n_features * torch.float32.itemsize
