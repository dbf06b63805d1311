"""Stopping on SIGINT and SIGTERM at a safe point rather than anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["StopRequest", "TrainingInterrupted", "stop_requests"]


class TrainingInterrupted(KeyboardInterrupt):
    """Training was asked to stop, and did so after a whole step; its message says how to go on."""


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked to stop.

    Attributes
    ----------
    signal_name : str
        Such as ``SIGTERM``; empty as long as nobody asked.
    """

    signal_name: str = ""


@contextmanager
def stop_requests(*, is_enabled: bool) -> Iterator[StopRequest]:
    """Take the first SIGINT or SIGTERM as a request; a second one acts as it did before.

    Parameters
    ----------
    is_enabled : bool
        Without it no handler is installed and the request is never made.

    Raises
    ------
    ValueError
        If it is enabled outside the main thread, where Python takes no signals.
    """
    request = StopRequest()
    if not is_enabled:
        yield request
        return
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signals can be taken in the main thread only: leave takes_signals off")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, _: FrameType | None) -> None:
        request.signal_name = signal.Signals(number).name
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
