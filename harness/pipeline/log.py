"""Which stages ran, for how long, and whether they were reused."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["StageLog", "StageTime", "peak_memory_bytes"]


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
    """

    name: str
    elapsed_seconds: float = 0.0
    is_reused: bool = False


@dataclass(slots=True)
class StageLog:
    """The stages of one run, in the order they were begun."""

    clock: Callable[[], float] = time.perf_counter
    stages: list[StageTime] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageTime]:
        """Measure one stage; it stays in the log when it fails, and the exception names it."""
        entry = StageTime(name=name)
        self.stages.append(entry)
        started = self.clock()
        try:
            yield entry
        except Exception as error:
            if not hasattr(error, "__notes__"):  # the innermost stage is the one that failed
                error.add_note(f"(stage: {name})")
            raise
        finally:
            entry.elapsed_seconds = self.clock() - started

    def to_list(self) -> list[dict[str, Any]]:
        """Return JSON values, one object a stage."""
        return [asdict(entry) for entry in self.stages]


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
