"""Signals become requests, once, and only where that was asked for."""

from __future__ import annotations

import signal
import threading

import pytest

from harness.training.trainer import stop_requests

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_signal_then_is_a_request_and_nothing_else(number: signal.Signals) -> None:
    """The work goes on to the end of its step."""
    with stop_requests(is_enabled=True) as stop:
        signal.raise_signal(number)
        asked = stop.signal_name

    assert asked == number.name


@pytest.mark.parametrize("is_enabled", [True, False])
def test_handlers_then_are_restored(is_enabled: bool) -> None:
    """After the block everything is as before it; without being enabled, within it as well."""
    before = [signal.getsignal(number) for number in BOTH]

    with stop_requests(is_enabled=is_enabled) as stop:
        within = [signal.getsignal(number) for number in BOTH]

    assert (within == before) is not is_enabled
    assert [signal.getsignal(number) for number in BOTH] == before
    assert stop.signal_name == ""


def test_second_signal_then_acts_as_it_did_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot wait presses Ctrl-C twice."""
    # A shell starts what runs in its background with SIGINT ignored.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    with stop_requests(is_enabled=True):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_thread_then_error_rather_than_no_handler() -> None:
    """Python takes signals in the main thread only."""
    caught: list[str] = []

    def work() -> None:
        try:
            with stop_requests(is_enabled=True):
                pass
        except ValueError as error:
            caught.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert "main thread only" in caught[0]
