"""Training rows in the orders of several heads: from the device's memory, or streamed to it.

A stream reads and copies one block of rows while another is computed with. The orders are drawn
elsewhere, and are the same for both ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

import torch

from harness.training.features import LabelledRows, StoredRows, TrainingData, read_rows
from harness.training.head import N_CLASSES
from harness.training.steps import STEPS_PER_CALL

__all__ = [
    "Batch",
    "BlockStream",
    "CallFeed",
    "bring_rows",
    "must_stream",
    "n_usable_rows",
]


Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # (head, row, feature), (head, row, class)
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


# A head's rows in a call are padded to a multiple: each head's then begin on a cache line, so that
# its products are rounded as if it were alone.
_PADDED_ROWS = 16


class CallFeed:
    """Feeds the training rows to a device, for some steps of all heads at a time.

    Parameters
    ----------
    rows : LabelledRows
        What to train on; features that are resident lie on the device already.
    n_heads : int
        Each of which has an order of its own.
    batch_size : int
        Rows in a batch; the last of an epoch may be smaller.
    device : torch device
        Where the batches are needed.
    is_streamed : bool
        Leave the features where they are and copy them piece by piece while training, for features
        larger than the device's memory. Rows on disk are always streamed.
    """

    def __init__(
        self,
        rows: LabelledRows,
        *,
        n_heads: int,
        batch_size: int,
        device: torch.device,
        is_streamed: bool,
    ) -> None:
        self._device, self._batch_size = device, batch_size
        self._targets = torch.nn.functional.one_hot(rows.labels, N_CLASSES).float().to(device)
        self._n_rows = STEPS_PER_CALL * batch_size
        shape = (n_heads * self._n_rows, rows.n_features)
        self._source: torch.Tensor | BlockStream
        if is_streamed or isinstance(rows.features, StoredRows):
            self._source = BlockStream(rows.features, block_rows=shape[0], device=device)
        else:
            self._source, self._buffer = rows.features, torch.empty(shape, device=device)

    def calls(self, orders: torch.Tensor, *, first_step: int = 0) -> Iterator[Batch]:
        """Yield the features and one-hot labels of up to 64 steps, from ``first_step`` on.

        The features are overwritten by the next call's.

        Parameters
        ----------
        orders : int64 tensor, (head, row)
            Row numbers of a whole epoch.
        first_step : int
            Number of the first batch, from 0.
        """
        rest = orders[:, first_step * self._batch_size :]
        pieces = torch.split(rest, self._n_rows, dim=1)
        padded = [_pad(piece) for piece in pieces]  # (head, row)
        blocks = self._blocks([piece.flatten() for piece in padded])
        for piece, numbers, block in zip(pieces, padded, blocks, strict=True):
            targets = self._targets.index_select(0, piece.flatten().to(self._device))
            features = block.view(*numbers.shape, -1)[:, : piece.shape[1]]
            yield features, targets.view(*piece.shape, -1)

    def _blocks(self, pieces: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        if isinstance(self._source, BlockStream):
            yield from self._source.blocks(pieces)
            return
        for piece in pieces:
            block = self._buffer[: len(piece)]
            yield torch.index_select(self._source, 0, piece.to(self._device), out=block)


def _pad(piece: torch.Tensor) -> torch.Tensor:
    """Repeat rows of each head, so that there is a multiple of so many."""
    n_rows = -(-piece.shape[1] // _PADDED_ROWS) * _PADDED_ROWS
    return piece[:, torch.arange(n_rows) % piece.shape[1]]


def n_usable_rows(n_rows: int, batch_size: int) -> int:
    """Return how many rows of an epoch are used: a trailing batch of one row is dropped.

    BatchNorm has no variance for a single row, and VirNucPro's loop crashed on it.
    """
    return n_rows - 1 if n_rows % batch_size == 1 else n_rows


# Of a GPU's free memory; the rest is for whatever else the process does there.
RESIDENT_SHARE = 0.5


def bring_rows(data: TrainingData, device: torch.device) -> TrainingData:
    """Bring the rows to the device that do not lie on disk."""
    # A copy even on the CPU: torch's memory is aligned, so that every process rounds alike.
    validation = _resident(data.validation, device, is_copied=True)
    return replace(
        data, train=_resident(data.train, device, is_copied=False), validation=validation
    )


def _resident(rows: LabelledRows, device: torch.device, *, is_copied: bool) -> LabelledRows:
    if isinstance(rows.features, StoredRows):
        return rows
    return replace(rows, features=rows.features.to(device, copy=is_copied))


def must_stream(data: TrainingData, device: torch.device) -> bool:
    """Return whether the features would take more than half of a GPU's free memory."""
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return _n_bytes(data.train) + _n_bytes(data.validation) > RESIDENT_SHARE * free_bytes


def _n_bytes(rows: LabelledRows) -> int:
    return len(rows) * rows.n_features * torch.float32.itemsize
