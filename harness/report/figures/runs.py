"""Figures of what ran: training curves, timing rounds, and the drop by lineage."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.report.figures.style import (
    COLOURS,
    SIDES,
    Source,
    can_be_drawn,
    label_text,
    legend_below,
)
from harness.report.reading import (
    as_mapping,
    as_number,
    as_numbers,
    as_pair,
    as_rows,
    as_text,
)
from harness.report.speed import timing_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_drop",
    "draw_timing",
    "draw_training",
]


MOST_GROUPS = 30


def draw_training(source: Source, figure: Figure) -> str | None:
    """Draw the losses of both heads over the epochs, and the learning rate."""
    training = as_mapping(source.verdict.get("training"))
    histories = {s: as_rows(as_mapping(training.get(s)).get("history")) for s in SIDES}
    if not any(_curve(rows, "validation_loss") for rows in histories.values()):
        return None
    figure.set_size_inches(5.2, 4.8)
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for side, rows in histories.items():
        colour, name = COLOURS[side], source.name(side)
        _plot(loss, rows, "train_loss", color=colour, linestyle=":", label=f"{name}, train")
        _plot(loss, rows, "validation_loss", color=colour, label=f"{name}, validation")
        style = "-" if side == "baseline" else "--"
        _plot(rate, rows, "learning_rate", color=colour, linestyle=style)
    loss.set(ylabel="Cross-entropy loss (nats)")
    legend_below(figure)
    rate.set(xlabel="Epoch", ylabel="Learning rate")
    return "Train and validation loss by epoch. " + " ".join(
        _training_words(side, rows) for side, rows in histories.items()
    )


def draw_timing(source: Source, figure: Figure) -> str | None:
    """Draw every timed round of both embedders, their means, and the limit."""
    timing = timing_of(source.verdict)
    seconds = {s: _usable(as_numbers(timing.get(f"{s}_seconds"))) for s in SIDES}
    closing = _usable(as_numbers(timing.get("closing_baseline_seconds")))
    if not all(seconds.values()):
        return None
    figure.set_size_inches(5.2, 2.9)
    axes = figure.subplots()
    markers = {"baseline": "o", "candidate": "D"}
    for place, (side, rounds) in enumerate(seconds.items()):
        heights = _spread(place, len(rounds) + len(closing) * (side == "baseline"))
        axes.plot(rounds, heights[: len(rounds)], markers[side], color=COLOURS[side], alpha=0.8)
        axes.plot([fmean(rounds)] * 2, [place - 0.3, place + 0.3], color=COLOURS[side])
    if closing:
        heights = _spread(0, len(seconds["baseline"]) + len(closing))[-len(closing) :]
        look: dict[str, Any] = {"color": COLOURS["baseline"], "fillstyle": "none"}
        axes.plot(closing, heights, "o", **look, label="baseline, once more at the end")
    limit = _limit(source, "embedding-time")
    if limit is not None:
        axes.axvline(
            limit * fmean(seconds["baseline"]),
            color=COLOURS["limit"],
            linestyle="--",
            label=f"limit: {limit:g} of the baseline's mean",
        )
    axes.set(xlabel="Seconds a round; the bar is the mean", xlim=(0, None), ylim=(1.6, -0.6))
    axes.set_yticks([0, 1], [source.name(side).replace(": ", "\n", 1) for side in SIDES])
    axes.grid(visible=False, axis="y")
    legend_below(figure)
    means = {side: fmean(rounds) for side, rounds in seconds.items()}
    return (
        f"Timed rounds: baseline {means['baseline']:.3g} s and candidate "
        f"{means['candidate']:.3g} s on average."
    )


def draw_drop(source: Source, figure: Figure) -> str | None:
    """Draw the accuracy drop of each lineage with its interval."""
    rows = as_rows(as_mapping(source.verdict.get("breakdowns")).get("lineage"))
    drops = [
        (as_text(row.get("group")), drop, as_pair(row.get("interval")), as_number(row.get("n")))
        for row in rows
        if (drop := as_number(row.get("drop_points"))) is not None and can_be_drawn(drop)
    ]
    if not drops:
        return None
    shown = sorted(drops, key=lambda row: -row[1])[:MOST_GROUPS][::-1]
    figure.set_size_inches(5.2, 1.5 + 0.22 * len(shown))
    axes = figure.subplots()
    for place, (_, drop, ends, _) in enumerate(shown):
        if ends is not None and all(map(can_be_drawn, ends)):
            axes.plot(ends, [place, place], color=COLOURS["candidate"], linewidth=1.2)
        axes.plot([drop], [place], "o", color=COLOURS["candidate"], markersize=5)
    axes.axvline(0, color=COLOURS["guide"], linewidth=1)
    limit = _limit(source, "accuracy-drop")
    if limit is not None:
        axes.axvline(
            limit, color=COLOURS["limit"], linestyle="--", label=f"limit for all rows: {limit:g}"
        )
        legend_below(figure)
    axes.set_yticks(range(len(shown)), [_group_label(name, n) for name, _, _, n in shown])
    edge = max(10, 2 * (limit or 0), *(1.5 * abs(drop) for _, drop, _, _ in shown))
    axes.set(xlim=(-edge, edge))
    axes.set_xlabel("Drop (points, right is worse)\n95% interval, cut at the edge")
    worst = shown[-1]
    return (
        f"Accuracy drop of {len(shown)} of {len(drops)} lineages; largest: {worst[0]} with "
        f"{worst[1]:.2f} points."
    )


def _curve(rows: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    points = [(as_number(row.get("epoch")), as_number(row.get(key))) for row in rows]
    return [
        (x, y)
        for x, y in points
        if x is not None and y is not None and can_be_drawn(x) and can_be_drawn(y)
    ]


def _plot(axes: Axes, rows: list[dict[str, Any]], key: str, **look: Any) -> None:
    if points := _curve(rows, key):
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else None, **look)


def _training_words(side: str, rows: list[dict[str, Any]]) -> str:
    points = _curve(rows, "validation_loss")
    if not points:
        return ""
    best = min(points, key=lambda point: point[1])
    return (
        f"{side.capitalize()}: {len(points)} epochs, lowest validation loss {best[1]:.4g} "
        f"at epoch {best[0]:g}."
    )


def _spread(place: int, count: int) -> list[float]:
    """Return heights around a place, one a round in running order, so that no dot hides another."""
    return [place + 0.3 * (2 * (index + 1) / (count + 1) - 1) for index in range(count)]


def _usable(seconds: list[float]) -> list[float]:
    return [s for s in seconds if s >= 0 and can_be_drawn(s)]


def _limit(source: Source, criterion: str) -> float | None:
    rows = as_rows(source.verdict.get("criteria"))
    limits = [as_number(row.get("limit")) for row in rows if row.get("id") == criterion]
    return limits[0] if limits and limits[0] is not None and can_be_drawn(limits[0]) else None


def _group_label(name: str, n: float | None) -> str:
    count = f" (n = {int(n):,})" if n is not None and can_be_drawn(n) else ""
    return f"{label_text(name, 40)}{count}"
