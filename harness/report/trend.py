"""The trend of the verdicts on one test set: a table for a terminal, and a figure.

What stands in the history, and what is wrong with it, is settled by
:mod:`harness.gate.proof.history`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.artifacts import write_atomically
from harness.config.settings import DEPLOYMENT_DROP_POINTS, DEPLOYMENT_TIME_RATIO
from harness.gate.proof.history import PastVerdict, describe_looks
from harness.gate.result import decimal_text
from harness.report.content.wording import ABSENT, show_moment
from harness.report.escaping import visible
from harness.report.plots.style import COLOURS, PNG_DPI, can_be_drawn, legend_below, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
        figure = Figure(layout="constrained", figsize=(6.2, 4.8))
        FigureCanvasAgg(figure)
        drop, ratio = figure.subplots(2, 1, sharex=True)
        _draw_drops(drop, past)
        _draw_ratios(ratio, past)
        legend_below(figure, columns=2)
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


def _draw_drops(axes: Axes, past: Sequence[PastVerdict]) -> None:
    for place, entry in enumerate(past, 1):
        ends = (entry.drop_points, entry.upper_bound_points)
        if all(end is not None and can_be_drawn(end) for end in ends):
            axes.plot([place, place], ends, color=COLOURS["candidate"], linewidth=1.2)  # type: ignore[arg-type]  # no None
    _draw_points(axes, past, [entry.drop_points for entry in past])
    limit = float(DEPLOYMENT_DROP_POINTS)
    axes.axhline(limit, color=COLOURS["limit"], linestyle="--", label="limit of a deployment")
    axes.set(ylabel="Drop and its bound (points)")


def _draw_ratios(axes: Axes, past: Sequence[PastVerdict]) -> None:
    from matplotlib.ticker import MaxNLocator

    _draw_points(axes, past, [entry.time_ratio for entry in past])
    axes.axhline(float(DEPLOYMENT_TIME_RATIO), color=COLOURS["limit"], linestyle="--")
    axes.set(ylabel="Embedding time ratio", ylim=(0, None))
    axes.set(xlabel="Verdict, oldest first", xlim=(0.5, len(past) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_points(axes: Axes, past: Sequence[PastVerdict], heights: Sequence[float | None]) -> None:
    """Draw PASS filled and HALT hollow, so that they differ without colour."""
    points = [
        (place, height, entry.verdict == "PASS")
        for place, (entry, height) in enumerate(zip(past, heights, strict=True), 1)
        if height is not None and can_be_drawn(height)
    ]
    for is_pass, label, fill in ((True, "PASS", "full"), (False, "HALT", "none")):
        shown = [(x, y) for x, y, passed in points if passed is is_pass]
        look: dict[str, Any] = {"color": COLOURS["candidate"], "fillstyle": fill, "label": label}
        axes.plot([x for x, _ in shown], [y for _, y in shown], "o", **look)
