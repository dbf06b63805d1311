"""The trend of the verdicts on one test set: a table for a terminal, and a figure.

What stands in the history, and what is wrong with it, is settled by
:mod:`harness.verdict.history`.

Figure of the trend: drop, bound and time ratio of the verdicts on one test set.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.artifacts import write_atomically
from harness.config import DEPLOYMENT_DROP_POINTS, DEPLOYMENT_TIME_RATIO
from harness.criteria.result import decimal_text
from harness.report.document import ABSENT, show_moment, visible
from harness.report.figures.style import COLOURS, PNG_DPI, Source, can_be_drawn, legend_below, style
from harness.report.reading import as_mapping, as_number, as_pair, as_rows
from harness.verdict.history import PastVerdict, describe_looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FORMATS",
    "Point",
    "draw_points",
    "draw_trend",
    "render_trend",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One verdict of the trend; a number is None where nothing was judged.

    Attributes
    ----------
    kind : str
        ``PASS``, ``HALT``, or ``this run``.
    drop_points, bound_points : float or None
        The accuracy drop and the 95% bound on it, in percentage points.
    ratio : float or None
        The candidate's embedding time over the baseline's.
    """

    kind: str
    drop_points: float | None
    bound_points: float | None
    ratio: float | None


# PASS is filled and HALT hollow, so that they differ without colour.
_LOOKS: dict[str, dict[str, Any]] = {
    "PASS": {"marker": "o", "fillstyle": "full"},
    "HALT": {"marker": "o", "fillstyle": "none"},
    "this run": {"marker": "D", "fillstyle": "full"},
}


def trend_draw_trend(source: Source, figure: Figure) -> str | None:
    """Draw the earlier verdicts on the test set, then this run; None if it is the first."""
    earlier = as_rows(as_mapping(source.verdict.get("split")).get("earlier_verdicts"))
    if not earlier:
        return None
    points = [*map(_earlier_point, earlier), _own_point(source.verdict)]
    draw_points(figure, points)
    n_passed = sum(point.kind == "PASS" for point in points)
    return (
        f"Accuracy drop and time ratio of the {len(earlier):,} verdicts before this one, of which "
        f"{n_passed:,} were PASS, and of this run."
    )


def draw_points(figure: Figure, points: Sequence[Point]) -> None:
    """Draw drops over ratios, oldest verdict first."""
    figure.set_size_inches(5.2, 4.4)
    drop, ratio = figure.subplots(2, 1, sharex=True)
    _draw_drops(drop, points)
    _draw_ratios(ratio, points)
    legend_below(figure, columns=2)


def _earlier_point(row: dict[str, Any]) -> Point:
    return Point(
        kind="PASS" if row.get("verdict") == "PASS" else "HALT",
        drop_points=as_number(row.get("drop_points")),
        bound_points=as_number(row.get("upper_bound_points")),
        ratio=as_number(row.get("time_ratio")),
    )


def _own_point(verdict: dict[str, Any]) -> Point:
    rows = {str(row.get("id")): row for row in as_rows(verdict.get("criteria"))}
    drop, time = (as_mapping(rows.get(name)) for name in ("accuracy-drop", "embedding-time"))
    ends = as_pair(drop.get("interval"))
    return Point(
        kind="this run",
        drop_points=as_number(drop.get("value")),
        bound_points=ends[1] if ends else None,
        ratio=as_number(time.get("value")),
    )


def _draw_drops(axes: Axes, points: Sequence[Point]) -> None:
    for place, point in enumerate(points, 1):
        low, high = point.drop_points, point.bound_points
        if low is not None and high is not None and can_be_drawn(low) and can_be_drawn(high):
            axes.plot([place] * 2, [low, high], color=COLOURS["candidate"], linewidth=1.2)
    _draw_markers(axes, points, [point.drop_points for point in points])
    limit = float(DEPLOYMENT_DROP_POINTS)
    axes.axhline(limit, color=COLOURS["limit"], linestyle="--", label="limit of a deployment")
    axes.set(ylabel="Drop and its bound (points)")


def _draw_ratios(axes: Axes, points: Sequence[Point]) -> None:
    from matplotlib.ticker import MaxNLocator

    _draw_markers(axes, points, [point.ratio for point in points])
    axes.axhline(float(DEPLOYMENT_TIME_RATIO), color=COLOURS["limit"], linestyle="--")
    axes.set(ylabel="Embedding time ratio", ylim=(0, None))
    axes.set(xlabel="Verdict, oldest first", xlim=(0.5, len(points) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_markers(axes: Axes, points: Sequence[Point], heights: Sequence[float | None]) -> None:
    for kind, look in _LOOKS.items():
        shown = [
            (place, height)
            for place, (point, height) in enumerate(zip(points, heights, strict=True), 1)
            if point.kind == kind and height is not None and can_be_drawn(height)
        ]
        if kind in ("PASS", "HALT") or any(point.kind == kind for point in points):
            x, y = [place for place, _ in shown], [height for _, height in shown]
            axes.plot(x, y, linestyle="", color=COLOURS["candidate"], label=kind, **look)


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
        str(entry.looks) if entry.look else ABSENT,
    )


def _point(entry: PastVerdict) -> Point:
    return Point(
        kind=entry.verdict,
        drop_points=entry.drop_points,
        bound_points=entry.upper_bound_points,
        ratio=entry.time_ratio,
    )
