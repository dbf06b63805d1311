"""Runs an encoder over any sequences: batches them, keeps the device busy, survives full memory.

Half precision on a GPU is computed end to end without padding, everything else in batches of equal
lengths. GPU work is queued, so the host tokenises and copies the next batch meanwhile.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch

from harness.embedding.esm.alphabet import TOKENS, token_lengths, tokenise
from harness.embedding.esm.batches import Rows, equal_length_batches, packed_batches
from harness.embedding.esm.encoder import Encoder
from harness.embedding.esm.layouts import EqualLengths, Layout, Packed, Padded, to_device
from harness.errors import DeviceError

__all__ = ["Engine"]

PADDING = TOKENS.index("<pad>")

_log = logging.getLogger(__name__)

Lengths = npt.NDArray[np.int64]


class Engine:
    """An encoder on a device.

    Parameters
    ----------
    encoder : Encoder
    device : torch device
        Where its weights are.
    is_packed : bool
        Lay sequences end to end rather than in batches of equal lengths.
    token_budget : int
        Most tokens in a batch.

    Attributes
    ----------
    token_budget : int
        What it is now: halved each time that the device's memory did not suffice.
    n_out_of_memory : int
        How often that was.
    """

    def __init__(
        self, encoder: Encoder, *, device: torch.device, is_packed: bool, token_budget: int
    ) -> None:
        self.token_budget = token_budget
        self.n_out_of_memory = 0
        self.encoder = encoder
        self.device = device
        self.is_packed = is_packed

    def embed(
        self, sequences: Sequence[str], on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the mean hidden state of each sequence's residues, float32 (n_sequences, dim)."""
        lengths = token_lengths(sequences)
        finished = _Finished(on_progress, self.device)
        order, pooled = [], []
        with self._on_device():
            waiting = self._batches([np.arange(len(lengths))], lengths)
            while waiting:
                vectors = self._try(sequences, waiting[0])
                if vectors is None:
                    waiting = self._batches(waiting, lengths)
                    continue
                order.append(waiting.popleft())
                pooled.append(vectors)
                finished.add(len(vectors))
            embeddings = self._gather(order, pooled)
            finished.report(waits=True)
        return embeddings

    def embed_padded(self, sequences: Sequence[str], batch_size: int) -> npt.NDArray[np.float32]:
        """Return the same, in padded batches in the order given."""
        every = np.arange(len(sequences))
        order = [every[start : start + batch_size] for start in range(0, len(every), batch_size)]
        with self._on_device():
            pooled = [self._embed_padded_batch([sequences[row] for row in rows]) for rows in order]
            return self._gather(order, pooled)

    def _batches(self, rows: Iterable[Rows], lengths: Lengths) -> deque[Rows]:
        every = np.concatenate(list(rows))
        divide = packed_batches if self.is_packed else equal_length_batches
        return deque(every[part] for part in divide(lengths[every], self.token_budget))

    def _try(self, sequences: Sequence[str], rows: Rows) -> torch.Tensor | None:
        """Return a batch's vectors; None, and a halved budget, if memory did not suffice."""
        try:
            return self._embed_batch([sequences[row] for row in rows])
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise DeviceError(
                    f"{self.device}: memory does not suffice for one protein of "
                    f"{len(sequences[rows[0]])} residues. Use a GPU with more memory, or end what "
                    "else runs on this one"
                ) from error
        torch.cuda.empty_cache()
        self.n_out_of_memory += 1
        self.token_budget //= 2
        _log.warning(
            "%s ran out of memory: going on with %d tokens a batch", self.device, self.token_budget
        )
        return None

    def _embed_batch(self, sequences: list[str]) -> torch.Tensor:
        tokenised = tokenise(sequences)
        lengths = tokenised.lengths
        layout = Packed(lengths, self.device) if self.is_packed else EqualLengths(len(lengths))
        return self._encode(tokenised.tokens, layout)

    def _embed_padded_batch(self, sequences: list[str]) -> torch.Tensor:
        tokenised = tokenise(sequences)
        lengths = tokenised.lengths
        is_token = np.arange(lengths.max()) < lengths[:, None]  # (sequence, token)
        tokens = np.full(is_token.shape, PADDING, dtype=np.int32)
        tokens[is_token] = tokenised.tokens
        return self._encode(tokens.reshape(-1), Padded(lengths, self.device))

    def _encode(self, tokens: npt.NDArray[np.int32], layout: Layout) -> torch.Tensor:
        with torch.no_grad():
            return layout.pool(self.encoder(to_device(tokens, self.device), layout.attend))

    def _gather(
        self, order: Sequence[Rows], pooled: Sequence[torch.Tensor]
    ) -> npt.NDArray[np.float32]:
        """Return the vectors of all batches as one array in the order of the sequences."""
        embeddings = np.empty((sum(map(len, pooled)), self.encoder.dim), dtype=np.float32)
        if pooled:
            embeddings[np.concatenate(order)] = torch.cat(list(pooled)).cpu().numpy()
        return embeddings

    def _on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


class _Finished:
    """Reports sequences when the device has finished them, without waiting for it."""

    def __init__(self, on_progress: Callable[[int], None] | None, device: torch.device) -> None:
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
