"""The trend of the verdicts on one test set: a table for a terminal, and a figure.

What stands in the history, and what is wrong with it, is settled by
:mod:`harness.gate.proof.history`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.artifacts import write_atomically
from harness.gate.proof.history import describe_looks
from harness.gate.proof.past import PastVerdict
from harness.gate.result import decimal_text
from harness.report.content.wording import ABSENT, show_moment
from harness.report.escaping import visible
from harness.report.plots.style import PNG_DPI, style
from harness.report.plots.trend import Point, draw_points

__all__ = ["FORMATS", "draw_trend", "render_trend"]

# What a file says of its making is left out, so that the same history gives the same bytes.
FORMATS: dict[str, dict[str, None]] = {
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}
# Narrower than this no table can be read; the lines are then longer than the terminal is wide.
LEAST_WIDTH = 80
DIGEST_CHARACTERS = 8


def render_trend(past: Sequence[PastVerdict], *, width: int, is_terminal: bool) -> str:
    """Return the verdicts as a table for each test set, and how often each was judged.

    Parameters
    ----------
    past : sequence of PastVerdict
        Oldest first.
    width : int
        Columns of the terminal; at least 80 are used.
    is_terminal : bool
        Draw tables with lines; otherwise plain text.
    """
    file = io.StringIO()
    console = Console(file=file, width=max(width, LEAST_WIDTH), highlight=False, emoji=False)
    for test_sha256 in dict.fromkeys(entry.test_sha256 for entry in past):
        entries = [entry for entry in past if entry.test_sha256 == test_sha256]
        console.print(_table(entries, has_lines=is_terminal))
        if looks := entries[-1].looks:
            console.print(Text(describe_looks(looks)))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def draw_trend(past: Sequence[PastVerdict], path: Path) -> None:
    """Draw drop, bound and time ratio of the verdicts, one after the other.

    Parameters
    ----------
    past : sequence of PastVerdict
        Oldest first; at least one.
    path : Path
        An ``.svg`` or a ``.png``.

    Raises
    ------
    ValueError
        If the suffix is another one.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: expected a name in {' or '.join(FORMATS)}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with style():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw_points(figure, [_point(entry) for entry in past])
        figure.suptitle("Verdicts on this test set", fontsize=11)
        metadata: dict[str, Any] = FORMATS[path.suffix]
        figure.savefig(file, format=path.suffix[1:], dpi=PNG_DPI, metadata=metadata)
    write_atomically(path, file.getvalue())


def _table(entries: Sequence[PastVerdict], *, has_lines: bool) -> Table:
    name = entries[0].test_sha256[:DIGEST_CHARACTERS]
    table = Table(
        title=Text(f"Test set {visible(name)}", "bold"),
        title_justify="left",
        box=box.ROUNDED if has_lines else None,
        pad_edge=has_lines,
    )
    for head in ("Finished", "Verdict", "Candidate"):
        table.add_column(head, overflow="fold")
    for head in ("Drop", "Bound", "Ratio", "Look"):
        table.add_column(head, justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(*(Text(visible(cell)) for cell in _row(entry)))
    return table


def _row(entry: PastVerdict) -> tuple[str, ...]:
    numbers = (entry.drop_points, entry.upper_bound_points, entry.time_ratio)
    return (
        show_moment(entry.finished),
        f"{entry.verdict} (rehearsal)" if entry.rehearsal else entry.verdict,
        entry.candidate,
        *(ABSENT if number is None else decimal_text(number, 2) for number in numbers),
        str(entry.looks) if entry.is_look else ABSENT,
    )


def _point(entry: PastVerdict) -> Point:
    return Point(
        kind=entry.verdict,
        drop_points=entry.drop_points,
        bound_points=entry.upper_bound_points,
        ratio=entry.time_ratio,
    )
