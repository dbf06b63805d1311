"""Blocks of rows on their way to a device: one is read and copied while another is computed with.

Which rows make a block is decided elsewhere (``batches``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import torch

from harness.training.features import read_rows
from harness.training.stored_rows import StoredRows

__all__ = ["BlockStream"]

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
