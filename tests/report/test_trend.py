"""The trend of verdicts: a table that says how worn the test set is, and a figure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from harness.report.figures.runs import draw_past, draw_trend
from harness.report.figures.style import read_source
from harness.report.terminal import render_trend
from harness.verdict.contents import PastVerdict
from tests.report.conftest import Content, typed

PAST = PastVerdict(
    finished="2026-11-01T10:20:30+00:00",
    verdict="PASS",
    profile="production",
    rehearsal=False,
    candidate="FastESM2_650",
    model_sha256="cd" * 32,
    checkpoint_sha256="ef" * 32,
    test_sha256="ab" * 32,
    drop_points=1.25,
    upper_bound_points=3.125,
    time_ratio=0.2,
    looks=1,
    digest="12" * 32,
)
HALTED = dataclasses.replace(
    PAST, verdict="HALT", rehearsal=True, drop_points=None, upper_bound_points=None, time_ratio=None
)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def cells(text: str, row: int) -> list[str]:
    """Return the words of a line of a plain table."""
    return text.splitlines()[row].split()


def test_table_when_rendered_then_each_verdict_is_a_row() -> None:
    """Drop, bound, ratio and look of each run; what was not judged is left open."""
    text = render_trend([PAST, HALTED], width=80, is_terminal=False)

    assert text.startswith("Test set abababab\n")
    assert "PASS" in cells(text, 2)
    assert cells(text, 2)[-5:] == ["FastESM2_650", "1.25", "3.12", "0.2", "1"]
    assert "(rehearsal)" in cells(text, 3)
    assert cells(text, 3)[-4:] == [cells(text, 3)[-1]] * 4


def test_table_when_there_are_two_test_sets_then_each_has_its_own_count() -> None:
    """A redrawn test set is not worn out by looks at the one before."""
    other = dataclasses.replace(PAST, test_sha256="cd" * 32, looks=3)

    text = render_trend([PAST, other], width=200, is_terminal=True)

    assert text.index("Test set abababab") < text.index("judged once")
    assert text.index("judged once") < text.index("Test set cdcdcdcd")
    assert text.index("Test set cdcdcdcd") < text.index("judged 3 times")


def test_table_when_nothing_was_judged_then_no_count_is_given() -> None:
    """A test set that nobody looked at is as good as new."""
    text = render_trend([dataclasses.replace(HALTED, looks=0)], width=80, is_terminal=False)

    assert "judged" not in text


def test_table_when_a_name_holds_control_characters_then_they_are_shown() -> None:
    """A name must not reorder what a reader sees."""
    entry = dataclasses.replace(PAST, candidate="[red]a\x1b[2J")

    text = render_trend([entry], width=200, is_terminal=False)

    assert "[red]a[U+001B][2J" in text


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_figure_when_drawn_then_the_suffix_decides_and_the_bytes_repeat(
    tmp_path: Path, suffix: str, start: bytes
) -> None:
    """The same history gives the same file."""
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        draw_past([PAST, HALTED], path)

    assert paths[0].read_bytes().startswith(start)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_figure_when_a_verdict_is_added_then_it_shows(tmp_path: Path) -> None:
    """Each verdict is a point; PASS and HALT look different."""
    halted = dataclasses.replace(PAST, verdict="HALT")
    trends = ([PAST], [PAST, PAST], [PAST, halted], [PAST, HALTED])
    for number, past in enumerate(trends):
        draw_past(past, tmp_path / f"{number}.svg")

    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == len(trends)


def test_trend_of_a_report_when_it_is_the_first_verdict_then_is_not_drawn(passed: Content) -> None:
    """A single point is no trend."""
    assert draw_trend(read_source(typed(passed)), Figure()) is None


def test_trend_of_a_report_when_there_was_a_verdict_then_shows_it_and_this_run(
    passed: Content,
) -> None:
    """The last point is the report's own drop and ratio."""
    figure = Figure()
    split = {"earlier_verdicts": [dataclasses.asdict(PAST)]}
    words = draw_trend(read_source(typed(passed | {"split": split})), figure)
    assert words is not None
    assert words.startswith("Accuracy drop and time ratio of the 1 verdicts before this one")
    drops, ratios = ({line.get_label(): line for line in axes.lines} for axes in figure.axes)
    heights = [np.asarray(line.get_ydata()).tolist() for line in (drops["PASS"], drops["this run"])]
    assert heights == [[1.25], [0.6667]]
    assert np.asarray(ratios["this run"].get_xydata()).tolist() == [[2, 0.2143]]


@settings(max_examples=40)
@given(drop=numbers, bound=numbers, ratio=numbers)
def test_table_when_numbers_are_of_any_size_then_is_rendered(
    drop: float | None, bound: float | None, ratio: float | None
) -> None:
    """A history of other days may hold anything."""
    entry = dataclasses.replace(PAST, drop_points=drop, upper_bound_points=bound, time_ratio=ratio)

    assert "judged once" in render_trend([entry], width=80, is_terminal=False)


def test_figure_when_a_number_is_beyond_any_axis_then_it_is_left_out(tmp_path: Path) -> None:
    """One absurd line must not flatten the trend or stop it from being drawn."""
    absurd = dataclasses.replace(PAST, drop_points=1e300, upper_bound_points=1e300, time_ratio=1e99)
    draw_past([PAST, absurd], tmp_path / "a.svg")
    draw_past([PAST, HALTED], tmp_path / "b.svg")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
