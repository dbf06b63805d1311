"""Progress: lines for logs, bars for terminals, silence by default."""

from __future__ import annotations

import io
import re

import pytest

from harness.progress import Progress


def test_task_when_not_live_then_one_line_at_the_end() -> None:
    """A log gets the count, the unit, the seconds and the last note."""
    stream = io.StringIO()

    with Progress(stream).task("embed", total=3, unit="sequences") as task:
        task.advance(2)
        task.advance(1, note="loss 0.3")

    assert re.fullmatch(r"embed: 3 sequences in \d+\.\d s \(loss 0\.3\)\n", stream.getvalue())


@pytest.mark.parametrize(("done", "shown"), [(3, "3"), (1.0554, "1.06"), (1234.5, "1,234")])
def test_task_when_parts_are_counted_then_three_digits_are_shown(done: float, shown: str) -> None:
    """Megabytes come in parts, sequences do not."""
    stream = io.StringIO()

    with Progress(stream).task("read", unit="MB") as task:
        task.advance(done)

    assert stream.getvalue().startswith(f"read: {shown} MB in ")


def test_task_when_it_takes_long_then_a_line_a_minute_tells_the_time_left() -> None:
    """A log shows that work goes on, and until when."""
    stream = io.StringIO()
    times = iter([0.0, 59.0, 60.0, 70.0, 130.0, 140.0])

    with Progress(stream, clock=lambda: next(times)).task("embed", 4000, "sequences") as task:
        for _ in range(4):
            task.advance(500, note="9 tokens/s")

    assert stream.getvalue().splitlines() == [
        "embed: 1,000 of 4,000 sequences, 0:03:00 left (9 tokens/s)",
        "embed: 2,000 of 4,000 sequences, 0:02:10 left (9 tokens/s)",
        "embed: 2,000 sequences in 140.0 s (9 tokens/s)",
    ]


def test_task_when_the_note_leaves_no_room_then_the_line_ends_before_it() -> None:
    """A log is read in 120 columns."""
    stream = io.StringIO()

    with Progress(stream).task("train", total=3, unit="steps") as task:
        task.advance(3, note="loss " + 100 * "0")

    assert re.fullmatch(r"train: 3 steps in \d+\.\d s\n", stream.getvalue())


def test_task_when_live_then_the_bar_shows_name_and_note() -> None:
    """A terminal gets a moving bar."""
    stream = io.StringIO()

    with Progress(stream, is_live=True).task("train", total=2, unit="epochs") as task:
        task.advance(1, note="loss 0.3")

    assert "train" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_task_when_live_then_a_line_stays_when_the_bar_is_gone() -> None:
    """What it came to, and how fast, is still there afterwards."""
    stream = io.StringIO()

    with Progress(stream, is_live=True).task("embed", total=3, unit="sequences") as task:
        task.advance(3, note="9 tokens/s")

    last = stream.getvalue().splitlines()[-1]
    assert re.search(r"embed: 3 sequences in \d+\.\d s \(9 tokens/s\)$", last)


def test_note_when_live_and_long_then_bar_and_counts_stay_in_sight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The note stands below the bar, wrapped to the terminal's width."""
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()

    with Progress(stream, is_live=True).task("train", total=4, unit="epochs") as task:
        task.advance(1, note="loss 0.3, " * 9 + "end")

    last = stream.getvalue().split("\x1b[2K")
    assert any("\N{BOX DRAWINGS HEAVY HORIZONTAL}" in part and "1/4" in part for part in last)
    assert "end" in stream.getvalue()


@pytest.mark.parametrize(("is_live", "expected"), [(False, "epoch 1\n"), (True, "")])
def test_line_then_is_for_logs_alone(is_live: bool, expected: str) -> None:
    """Moving bars show the same."""
    stream = io.StringIO()

    Progress(stream, is_live=is_live).line("epoch 1")
    Progress().line("nowhere")

    assert stream.getvalue() == expected


def test_task_when_there_is_no_stream_then_nothing_happens() -> None:
    """The default shows nothing and still takes advances."""
    with Progress().task("quiet") as task:
        task.advance(5)

    assert Progress()._stream is None
