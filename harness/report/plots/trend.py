"""Figure of the trend: drop, bound and time ratio of the verdicts on one test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.config.settings import DEPLOYMENT_DROP_POINTS, DEPLOYMENT_TIME_RATIO
from harness.report.content.reading import as_mapping, as_number, as_pair, as_rows
from harness.report.plots.source import Source
from harness.report.plots.style import COLOURS, can_be_drawn, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Point", "draw_points", "draw_trend"]


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


def draw_trend(source: Source, figure: Figure) -> str | None:
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
