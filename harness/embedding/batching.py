"""Sequences through a device, batch by batch: which go together, and what if memory runs out.

At most a budget of tokens at a time, longest first, so that a batch holds similar lengths and
memory that does not suffice shows at once. GPU work is queued: the host prepares the next batch
meanwhile. What a batch computes is passed in.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from harness.errors import DeviceError

__all__ = [
    "BatchRunner",
    "Rows",
    "batches_in_order",
    "equal_length_batches",
    "packed_batches",
    "padded_batches",
    "to_device",
]

Rows: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int64]
Divide: TypeAlias = Callable[[Lengths, int], list[Rows]]
Report: TypeAlias = Callable[[int], None]

_log = logging.getLogger(__name__)


def packed_batches(lengths: Lengths, budget: int) -> list[Rows]:
    """Return row numbers of sequences to be laid end to end.

    Batches are about equal in tokens, so that no small one is left for the end.

    Parameters
    ----------
    lengths : int array, (sequence,)
        Tokens of each sequence.
    budget : int
        Most tokens in a batch; a longer sequence is a batch of its own.
    """
    if not len(lengths):
        return []
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    # A sequence belongs to the share that its first token falls into, and may reach beyond it.
    n_batches = -(-int(lengths.sum()) // max(1, budget - int(ordered[0])))
    share = -(-int(lengths.sum()) // n_batches)
    numbers = (np.cumsum(ordered) - ordered) // share
    return np.split(order, np.flatnonzero(np.diff(numbers)) + 1)


def equal_length_batches(lengths: Lengths, budget: int) -> list[Rows]:
    """Return row numbers of equally long sequences, as for :func:`packed_batches`."""
    order = np.argsort(-lengths, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    return [rows[part] for rows in groups for part in padded_batches(lengths[rows], budget)]


def padded_batches(lengths: Lengths, budget: int) -> list[Rows]:
    """Return row numbers of sequences that fit once filled up to the longest of their batch.

    Parameters
    ----------
    lengths, budget
        As for :func:`packed_batches`; padding counts as tokens.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, budget // int(lengths[order[start]]))
        batches.append(order[start:stop])
        start = stop
    return batches


def batches_in_order(lengths: Lengths, budget: int) -> list[Rows]:
    """Return row numbers in the order given, equally many a batch: what the longest allows."""
    every, step = np.arange(len(lengths)), max(1, budget // int(lengths.max(initial=1)))
    return [every[start : start + step] for start in range(0, len(every), step)]


class BatchRunner:
    """Runs batches on a device within a budget of tokens.

    Parameters
    ----------
    device : torch device
    token_budget : int
        Most tokens in a batch.
    divide : callable
        From lengths and a budget to the rows of each batch.

    Attributes
    ----------
    token_budget : int
        What it is now: halved each time that the device's memory did not suffice.
    n_out_of_memory : int
        How often that was.
    """

    def __init__(self, *, device: torch.device, token_budget: int, divide: Divide) -> None:
        self.device = device
        self.token_budget = token_budget
        self.n_out_of_memory = 0
        self._divide = divide

    def run(
        self,
        lengths: Lengths,
        compute: Callable[[Rows], torch.Tensor],
        *,
        dim: int,
        token_budget: int | None = None,
        on_progress: Report | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the vectors of all sequences, float32 (n_sequences, dim), in their order.

        Parameters
        ----------
        lengths : int array, (sequence,)
            Tokens of each.
        compute : callable
            From the rows of a batch to their vectors on the device, float32 (n_rows, dim).
        dim : int
            Width of the vectors.
        token_budget : int, optional
            Most tokens in a batch of this call; the runner's own holds as well.
        on_progress : callable, optional
            Is told how many more sequences are done.

        Raises
        ------
        DeviceError
            If the device's memory does not suffice for a single sequence.
        """
        budget = min(self.token_budget, token_budget or self.token_budget)
        finished = _Finished(on_progress, self.device)
        order: list[Rows] = []
        pooled: list[torch.Tensor] = []
        with self._on_device(), torch.no_grad():
            waiting = self._batches([np.arange(len(lengths))], lengths, budget)
            while waiting:
                vectors = self._try(compute, waiting[0], lengths)
                if vectors is None:
                    budget = self._halve(budget)
                    waiting = self._batches(waiting, lengths, budget)
                    continue
                order.append(waiting.popleft())
                pooled.append(vectors)
                finished.add(len(vectors))
            embeddings = _gather(order, pooled, dim)
            finished.report(waits=True)
        return embeddings

    def _on_device(self) -> AbstractContextManager[object]:
        """Make the device the current one: Triton launches there, whatever its tensors' is."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _batches(self, rows: Iterable[Rows], lengths: Lengths, budget: int) -> deque[Rows]:
        every = np.concatenate(list(rows))
        return deque(every[part] for part in self._divide(lengths[every], budget))

    def _try(
        self, compute: Callable[[Rows], torch.Tensor], rows: Rows, lengths: Lengths
    ) -> torch.Tensor | None:
        """Return a batch's vectors; None if memory did not suffice for several sequences."""
        try:
            return compute(rows)
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise DeviceError(
                    f"{self.device}: memory does not suffice for one sequence of "
                    f"{lengths[rows[0]]} tokens. Use a GPU with more memory, or end what else "
                    "runs on this one"
                ) from error
        return None

    def _halve(self, budget: int) -> int:
        torch.cuda.empty_cache()
        self.n_out_of_memory += 1
        self.token_budget = budget // 2
        _log.warning(
            "%s ran out of memory: going on with %d tokens a batch", self.device, self.token_budget
        )
        return self.token_budget


def _gather(
    order: Sequence[Rows], pooled: Sequence[torch.Tensor], dim: int
) -> npt.NDArray[np.float32]:
    """Return the vectors of all batches as one array in the order of the sequences."""
    embeddings = np.empty((sum(map(len, pooled)), dim), dtype=np.float32)
    if pooled:
        embeddings[np.concatenate(order)] = torch.cat(list(pooled)).cpu().numpy()
    return embeddings


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on a device, copied without waiting for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class _Finished:
    """Reports sequences when the device has finished them, without waiting for it."""

    def __init__(self, on_progress: Report | None, device: torch.device) -> None:
        self._on_progress = on_progress
        self._is_queued = device.type == "cuda"
        self._queued: deque[tuple[torch.cuda.Event, int]] = deque()

    def add(self, n_sequences: int) -> None:
        """Say that the work on so many sequences is done, or queued on a GPU."""
        if self._on_progress is None:
            return
        if not self._is_queued:
            self._on_progress(n_sequences)
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._queued.append((event, n_sequences))
        self.report()

    def report(self, *, waits: bool = False) -> None:
        """Report what is finished by now, or all of it."""
        while self._on_progress and self._queued:
            event, n_sequences = self._queued[0]
            if waits:
                event.synchronize()
            elif not event.query():  # type: ignore[no-untyped-call]
                return
            self._queued.popleft()
            self._on_progress(n_sequences)
