"""Progress: lines for logs, bars for terminals, silence by default."""

from __future__ import annotations

import io
import re

from harness.progress import Progress


def test_task_when_not_live_then_one_line_at_the_end() -> None:
    """A log gets the count, the unit, the seconds and the last note."""
    stream = io.StringIO()

    with Progress(stream).task("embed", total=3, unit="sequences") as task:
        task.advance(2)
        task.advance(1, note="loss 0.3")

    assert re.fullmatch(r"embed: 3 sequences in \d+\.\d s \(loss 0\.3\)\n", stream.getvalue())


def test_task_when_live_then_the_bar_shows_name_and_note() -> None:
    """A terminal gets a moving bar."""
    stream = io.StringIO()

    with Progress(stream, is_live=True).task("train", total=2, unit="epochs") as task:
        task.advance(1, note="loss 0.3")

    assert "train" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_task_when_there_is_no_stream_then_nothing_happens() -> None:
    """The default shows nothing and still takes advances."""
    with Progress().task("quiet") as task:
        task.advance(5)

    assert Progress()._stream is None
