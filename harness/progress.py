"""Progress of long work: a live bar in a terminal, a line a stage and a minute in a log.

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
        Draw moving bars (a terminal) rather than a line a minute and at a stage's end (a log).
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
            task = _Lines(self.say, name, total, unit, self._clock)
            yield task
            task.close()


class _Unwatched:
    def advance(self, steps: float = 1, note: str = "") -> None:
        """Show nothing."""


class _Lines:
    def __init__(
        self,
        say: Callable[[str], None],
        name: str,
        total: float | None,
        unit: str,
        clock: Callable[[], float],
    ) -> None:
        self._say = say
        self._name = name
        self._total = total
        self._unit = unit
        self._clock = clock
        self._started = self._last_line = clock()
        self._done: float = 0
        self._note = ""

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._done += steps
        self._note = note or self._note
        now = self._clock()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._say(self._describe(f"{_count(self._done)}{self._remaining(now)}"))

    def close(self) -> None:
        elapsed = self._clock() - self._started
        self._say(self._describe(f"{_count(self._done)} {self._unit} in {elapsed:.1f} s"))

    def _remaining(self, now: float) -> str:
        if self._total is None or not self._done:
            return f" {self._unit}"
        left = (now - self._started) * (self._total - self._done) / self._done
        return f" of {_count(self._total)} {self._unit}, {timedelta(seconds=round(left))} left"

    def _describe(self, text: str) -> str:
        return f"{self._name}: {text}" + (f" ({self._note})" if self._note else "")


def _count(number: float) -> str:
    """Return a number of steps for people: whole steps, or megabytes with their decimals."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:g}"


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
