"""Which stages ran, for how long, with how much of a GPU, and whether they were reused."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["StageLog", "StageTime", "peak_memory_bytes", "take_gpu_peak"]


@dataclass(slots=True, kw_only=True)
class StageTime:
    """One stage's time in this run.

    Attributes
    ----------
    name : str
        The stage, such as ``embed baseline``.
    elapsed_seconds : float
        Wall clock.
    is_reused : bool
        Whether its result was there already.
    gpu_memory_bytes : int or None
        The most that this process's tensors took on one GPU meanwhile; None where it used none.
        Processes that it started, one for each of several GPUs, are not in it.
    """

    name: str
    elapsed_seconds: float = 0.0
    is_reused: bool = False
    gpu_memory_bytes: int | None = None


def take_gpu_peak() -> int | None:
    """Return the most that tensors took on one GPU since the last call; None if it used none."""
    torch = sys.modules.get("torch")  # what was never imported holds nothing
    if torch is None or not torch.cuda.is_initialized():
        return None
    peak_bytes = 0
    for number in range(torch.cuda.device_count()):
        peak_bytes = max(peak_bytes, torch.cuda.max_memory_allocated(number))
        torch.cuda.reset_peak_memory_stats(number)
    return peak_bytes


@dataclass(slots=True)
class StageLog:
    """The stages of one run, in the order they were begun.

    Attributes
    ----------
    clock : callable
        Seconds.
    take_peak : callable
        The most bytes that were taken on a GPU since it was last called.
    """

    clock: Callable[[], float] = time.perf_counter
    take_peak: Callable[[], int | None] = take_gpu_peak
    stages: list[StageTime] = field(default_factory=list)
    _open: list[StageTime] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageTime]:
        """Measure one stage; it stays in the log when it fails, and the exception names it."""
        entry = StageTime(name=name)
        self.stages.append(entry)
        self._share_peak()
        self._open.append(entry)
        started = self.clock()
        try:
            yield entry
        except Exception as error:
            if not hasattr(error, "__notes__"):  # the innermost stage is the one that failed
                error.add_note(f"(stage: {name})")
            raise
        finally:
            entry.elapsed_seconds = self.clock() - started
            self._share_peak()
            self._open.pop()

    def to_list(self) -> list[dict[str, Any]]:
        """Return JSON values, one object a stage."""
        return [asdict(entry) for entry in self.stages]

    def _share_peak(self) -> None:
        """Tell all open stages of the peak so far: one within another is part of both."""
        peak = self.take_peak()
        for entry in self._open:
            entry.gpu_memory_bytes = max(peak or 0, entry.gpu_memory_bytes or 0) or None


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
