"""Progress of long work: a live bar in a terminal, a line a minute in a log, and one at the end.

Where the output goes is decided by the caller; nothing here knows pytest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Progress", "Task"]

SECONDS_BETWEEN_LINES = 60.0  # of a stage that takes long, in a log
LOG_COLUMNS = 120


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
        Draw moving bars (a terminal) rather than a line a minute (a log).
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        is_live: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._stream = stream
        self._is_live = is_live
        self._clock = clock

    def say(self, line: str) -> None:
        """Show a line that something else wrote, such as a process that was started."""
        if self._stream is not None:
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def line(self, text: str) -> None:
        """Write a line to a log; a terminal shows moving bars instead."""
        if not self._is_live:
            self.say(text)

    @contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Watch one stretch of work of ``total`` steps (None: unknown) counted in ``unit``."""
        if self._stream is None:
            yield _Unwatched()
            return
        tally = _Tally(name, unit, self._clock)
        if self._is_live:
            with _live_bar(self._stream, unit) as bar:
                yield _Bar(tally, bar, bar.add_task(name, total=total, note=""))
        else:
            yield _Lines(tally, total, self.say)
        self.say(tally.close())


class _Unwatched:
    def advance(self, steps: float = 1, note: str = "") -> None:
        """Show nothing."""


class _Tally:
    """What is done of one stretch of work, for the lines that say so."""

    def __init__(self, name: str, unit: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._unit = unit
        self._clock = clock
        self._started = clock()
        self._done: float = 0
        self._note = ""

    def add(self, steps: float, note: str) -> float:
        """Count steps; return how many seconds all of them took so far."""
        self._done += steps
        self._note = note or self._note
        return self._clock() - self._started

    def describe(self, elapsed_seconds: float, total: float | None) -> str:
        if total is None or not self._done:
            return self._line(f"{_count(self._done)} {self._unit}")
        left = timedelta(seconds=round(elapsed_seconds * (total - self._done) / self._done))
        return self._line(f"{_count(self._done)} of {_count(total)} {self._unit}, {left} left")

    def close(self) -> str:
        elapsed_seconds = self._clock() - self._started
        return self._line(f"{_count(self._done)} {self._unit} in {elapsed_seconds:.1f} s")

    def _line(self, text: str) -> str:
        """Return a line of a log, without the note where that leaves no room for it."""
        line = f"{self._name}: {text}"
        noted = f"{line} ({self._note})" if self._note else line
        return noted if len(noted) <= LOG_COLUMNS else line


class _Lines:
    def __init__(self, tally: _Tally, total: float | None, say: Callable[[str], None]) -> None:
        self._tally = tally
        self._total = total
        self._say = say
        self._last_line_seconds = 0.0

    def advance(self, steps: float = 1, note: str = "") -> None:
        elapsed_seconds = self._tally.add(steps, note)
        if elapsed_seconds - self._last_line_seconds >= SECONDS_BETWEEN_LINES:
            self._last_line_seconds = elapsed_seconds
            self._say(self._tally.describe(elapsed_seconds, self._total))


class _Bar:
    def __init__(self, tally: _Tally, bar: RichProgress, task: TaskID) -> None:
        self._tally = tally
        self._bar = bar
        self._task = task

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._tally.add(steps, note)
        self._bar.advance(self._task, steps)
        if note:
            self._bar.update(self._task, note=note)


def _count(number: float) -> str:
    """Return a number of steps for people: whole steps, or few megabytes to three digits."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


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
