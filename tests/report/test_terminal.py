"""The terminal summary: its width, its last line, its quiet and colourless forms."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from harness.report.terminal import render_terminal

Verdict = dict[str, Any]
PATH = "reports/report.html"


def _render(verdict: Verdict, **changes: Any) -> list[str]:
    settings: dict[str, Any] = {
        "width": 80, "is_terminal": True, "use_colour": False, "report_path": PATH
    }  # fmt: skip
    return render_terminal(verdict, **settings | changes).splitlines()


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_terminal_lines_fit_the_width(verdict: Verdict, width: int, is_terminal: bool) -> None:
    """No line of any verdict is wider than the terminal, so nothing wraps a second time."""
    lines = _render(verdict, width=width, is_terminal=is_terminal)
    assert max(map(cell_len, lines[:-1])) <= width


def test_terminal_lines_fit_with_wide_characters_and_long_names(passed: Verdict) -> None:
    """Characters of two cells and names without a blank are broken, not cut or overflowing."""
    passed["baseline"]["name"] = "蛋白质" * 30
    passed["criteria"][0] |= {"id": "a-criterion-with-a-very-long-name" * 3, "value": "9" * 60}
    lines = _render(passed)
    assert max(map(cell_len, lines[:-1])) <= 80


def test_terminal_last_line_is_verdict_and_report(verdict: Verdict) -> None:
    """The last thing on the screen is the answer and where to read on."""
    last = _render(verdict)[-1]
    assert last.startswith(verdict["verdict"])
    assert last.endswith(PATH)


def test_terminal_last_line_keeps_a_long_path_whole(passed: Verdict) -> None:
    """A path can be copied: it is never broken, however long."""
    path = "/a/very/long/path" * 8 + "/report.html"
    assert _render(passed, report_path=path)[-1].endswith(path)


def test_terminal_when_quiet_is_the_last_line_alone(passed: Verdict) -> None:
    """-q drops the tables."""
    assert _render(passed, is_quiet=True) == _render(passed)[-1:]


def test_terminal_without_colour_has_no_escape_codes(verdict: Verdict) -> None:
    """NO_COLOR is honoured, also where tables are drawn."""
    assert "\x1b" not in "".join(_render(verdict))


def test_terminal_with_colour_colours_the_state(passed: Verdict) -> None:
    """Colour is added to the words, which stay."""
    text = "\n".join(_render(passed, use_colour=True))
    assert "\x1b[1;32m✓ PASS" in text


def test_terminal_in_a_log_draws_no_lines(passed: Verdict) -> None:
    """Plain text has no box characters, colour or not."""
    text = "".join(_render(passed, is_terminal=False, use_colour=True))
    assert not set(text) & set("│╭─┼\x1b")


def test_terminal_of_a_failure_says_what_to_do(failed: Verdict) -> None:
    """The reason and the first step stand on the screen."""
    text = "\n".join(_render(failed))
    assert "The candidate loses 7.11 points" in text
    assert "Next: Train the candidate's head for longer." in text


def test_terminal_of_other_problems_names_them(passed: Verdict) -> None:
    """What halts a run besides its criteria is told too."""
    broken = passed | {"verdict": "HALT", "halted_by": ["acceptance/test_a.py::test_x failed"]}
    assert "Halted by: acceptance/test_a.py::test_x failed" in _render(broken)
