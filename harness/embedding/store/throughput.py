"""How fast embedding is, and what it took: rates, the share of the device's peak, its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harness.embedding.embedder import Embedder
from harness.progress import Task

__all__ = [
    "CountsFlop",
    "HalvesBatches",
    "Meter",
    "TakesGpuMemory",
    "Throughput",
    "add_throughputs",
]

UPDATES_PER_BATCH = 64  # of the progress shown: an embedder may report single sequences


@runtime_checkable
class CountsFlop(Protocol):
    """What an embedder may offer beside ``Embedder``: how much arithmetic it does."""

    def flop(self, lengths: Sequence[int]) -> float:
        """Return the floating-point operations that sequences of so many letters take."""

    def peak_flops(self) -> float | None:
        """Return the most operations a second that its device does; None if that is not known."""


@runtime_checkable
class HalvesBatches(Protocol):
    """What an embedder may do beside ``Embedder``: go on where its device's memory runs out."""

    @property
    def n_out_of_memory(self) -> int:
        """How often that was."""


@runtime_checkable
class TakesGpuMemory(Protocol):
    """What an embedder may offer beside ``Embedder``: what its process takes of a GPU."""

    def gpu_memory_bytes(self) -> int | None:
        """Return the most that was taken, since this was last reset; None if it is no GPU's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What was embedded in what time.

    Attributes
    ----------
    n_sequences, n_tokens : int
        What was embedded; no tokens where they are not counted.
    flop : float
        Floating-point operations; 0 where they are not counted.
    peak_flops : float or None
        Operations a second that the device could do.
    elapsed_seconds : float
        Wall clock.
    n_processes : int
        On how many processes.
    gpu_memory_bytes : int or None
        The most that one process held of a GPU's memory, with all models that it had loaded.
    n_out_of_memory : int
        How often the memory of a device did not suffice, over all processes.
    """

    n_sequences: int
    n_tokens: int
    elapsed_seconds: float
    flop: float = 0.0
    peak_flops: float | None = None
    n_processes: int = 1
    gpu_memory_bytes: int | None = None
    n_out_of_memory: int = 0

    def __str__(self) -> str:
        """Return it for people, such as ``1,234 sequences/s, 98,765 tokens/s``."""
        if not self.n_sequences or self.elapsed_seconds <= 0:
            return ""
        parts = [f"{self.n_sequences / self.elapsed_seconds:,.0f} sequences/s"]
        if self.n_tokens:
            parts.append(f"{self.n_tokens / self.elapsed_seconds:,.0f} tokens/s")
        if self.flop and self.peak_flops:
            share = self.flop / self.elapsed_seconds / self.peak_flops
            parts.append(f"{share:.0%} of the device's peak")
        if self.n_processes > 1:
            parts.append(f"{self.n_processes} processes")
        return ", ".join(parts)


def add_throughputs(parts: Iterable[Throughput]) -> Throughput:
    """Return what processes did together; the slowest of them decides how long that took."""
    listed = [part for part in parts if part.n_sequences]
    peaks = [part.peak_flops for part in listed if part.peak_flops is not None]
    memory = [part.gpu_memory_bytes for part in listed if part.gpu_memory_bytes is not None]
    return Throughput(
        n_sequences=sum(part.n_sequences for part in listed),
        n_tokens=sum(part.n_tokens for part in listed),
        elapsed_seconds=max((part.elapsed_seconds for part in listed), default=0.0),
        flop=sum(part.flop for part in listed),
        peak_flops=sum(peaks) if peaks and len(peaks) == len(listed) else None,
        n_processes=len(listed),
        gpu_memory_bytes=max(memory, default=None),
        n_out_of_memory=sum(part.n_out_of_memory for part in listed),
    )


class Meter:
    """Counts what an embedder does and shows it.

    Parameters
    ----------
    embedder : Embedder
        May also be ``CountsFlop``, ``HalvesBatches``, ``TakesGpuMemory``.
    task : Task
        Shows how far it is.
    count_tokens : callable, optional
        From the letters of a sequence to its tokens.
    scale : float
        How many sequences to show for each that is counted: other processes do their share.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        embedder: Embedder,
        task: Task,
        *,
        count_tokens: Callable[[int], int] | None = None,
        scale: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._counts_flop = embedder if isinstance(embedder, CountsFlop) else None
        self._halves_batches = embedder if isinstance(embedder, HalvesBatches) else None
        self._takes_memory = embedder if isinstance(embedder, TakesGpuMemory) else None
        self._n_out_of_memory_before = self._count_out_of_memory()
        self._task = task
        self._count_tokens = count_tokens
        self._scale = scale
        self._clock = clock
        self._started = clock()
        self._n_sequences = self._n_tokens = 0
        self._flop = 0.0
        self._lengths: list[int] = []
        self._batch_tokens = self._n_reported = self._n_shown = 0

    def begin(self, sequences: Sequence[str]) -> None:
        """Say which sequences are embedded next."""
        self._lengths = [len(sequence) for sequence in sequences]
        self._batch_tokens = (
            sum(map(self._count_tokens, self._lengths)) if self._count_tokens is not None else 0
        )
        self._n_shown = self._n_reported = 0

    def advance(self, n_sequences: int) -> None:
        """Say that so many more of them are done."""
        self._n_reported += n_sequences
        if (self._n_reported - self._n_shown) * UPDATES_PER_BATCH >= len(self._lengths):
            self._show(self._n_reported)

    def end(self) -> None:
        """Say that all of them are done."""
        self._show(len(self._lengths))
        self._n_sequences += len(self._lengths)
        self._n_tokens += self._batch_tokens
        if self._counts_flop is not None:
            self._flop += self._counts_flop.flop(self._lengths)

    def throughput(self) -> Throughput:
        """Return what has been done until now."""
        elapsed_seconds = self._clock() - self._started
        # before the peak is measured, which takes memory itself
        gpu_memory_bytes = self._takes_memory.gpu_memory_bytes() if self._takes_memory else None
        return Throughput(
            n_sequences=self._n_sequences,
            n_tokens=self._n_tokens,
            elapsed_seconds=elapsed_seconds,
            flop=self._flop,
            peak_flops=self._counts_flop.peak_flops() if self._counts_flop and self._flop else None,
            gpu_memory_bytes=gpu_memory_bytes,
            n_out_of_memory=self._count_out_of_memory() - self._n_out_of_memory_before,
        )

    def _count_out_of_memory(self) -> int:
        return self._halves_batches.n_out_of_memory if self._halves_batches else 0

    def _show(self, n_done: int) -> None:
        """Show that ``n_done`` of the batch are done; their tokens are taken to be its average."""
        so_far = Throughput(
            n_sequences=self._n_sequences + n_done,
            n_tokens=self._n_tokens + self._batch_tokens * n_done // len(self._lengths),
            elapsed_seconds=self._clock() - self._started,
        )
        self._task.advance((n_done - self._n_shown) * self._scale, note=str(so_far))
        self._n_shown = n_done
