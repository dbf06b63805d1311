"""Progress of long work: a live bar in a terminal, one line a stage in a log.

Where the output goes is decided by the caller; nothing here knows pytest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Progress", "Task"]


class Task(Protocol):
    """One stretch of work that is being watched."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Say that ``steps`` more are done; ``note`` replaces the text below the bar."""


class Progress:
    """Shows how far the stages are.

    Parameters
    ----------
    stream : text stream, optional
        Where to show it; without one nothing is shown.
    is_live : bool
        Draw moving bars (a terminal) rather than a line at each stage's end (a log).
    """

    def __init__(self, stream: TextIO | None = None, *, is_live: bool = False) -> None:
        self._stream = stream
        self._is_live = is_live

    def line(self, text: str) -> None:
        """Write a line to a log; a terminal shows moving bars instead."""
        if self._stream is not None and not self._is_live:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    @contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Watch one stretch of work of ``total`` steps (None: unknown) counted in ``unit``."""
        if self._stream is None:
            yield _Unwatched()
        elif self._is_live:
            with _live_bar(self._stream, unit) as bar:
                yield _Bar(bar, bar.add_task(name, total=total, note=""))
        else:
            task = _Lines()
            started = time.perf_counter()
            yield task
            elapsed = time.perf_counter() - started
            note = f" ({task.note})" if task.note else ""
            self.line(f"{name}: {task.done:g} {unit} in {elapsed:.1f} s{note}")


class _Unwatched:
    def advance(self, steps: float = 1, note: str = "") -> None:
        """Show nothing."""


class _Lines:
    def __init__(self) -> None:
        self.done: float = 0
        self.note = ""

    def advance(self, steps: float = 1, note: str = "") -> None:
        self.done += steps
        self.note = note or self.note


class _Bar:
    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._bar.advance(self._task, steps)
        if note:
            self._bar.update(self._task, note=note)


def _live_bar(stream: TextIO, unit: str) -> RichProgress:
    from rich import progress as rich_progress
    from rich.console import Console, RenderableType
    from rich.text import Text

    class Bars(rich_progress.Progress):
        """Shows the notes below the bars, since beside them they would leave no room."""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            yield from (Text(f"  {task.fields['note']}") for task in self.tasks)

    return Bars(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=24),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn(unit),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        console=Console(file=stream, force_terminal=True),
        transient=True,
        redirect_stdout=False,  # capture by pytest must go on working
        redirect_stderr=False,
    )
