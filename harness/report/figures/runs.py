"""Figures of what ran: seeds, training curves, timed rounds, drop by lineage, trend of verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.config import DEPLOYMENT_DROP_POINTS, DEPLOYMENT_TIME_RATIO
from harness.report.document import show_number
from harness.report.figures.style import (
    COLOURS,
    Source,
    can_be_drawn,
    label_text,
    legend_below,
    new_figure,
    set_title,
    style,
    write_figure,
)
from harness.verdict.contents import SIDES, Epoch, Group, PastVerdict
from harness.verdict.history import summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_drop",
    "draw_false_positives",
    "draw_past",
    "draw_seeds",
    "draw_timing",
    "draw_training",
    "draw_trend",
]


_NEEDED = ("drop_points", "lower_bound_points", "upper_bound_points")


def draw_seeds(source: Source, figure: Figure) -> str | None:
    """Draw the accuracy drop of each seed's pair of heads; None where there is one only."""
    seeds = source.verdict.evidence("accuracy-drop").get("seeds", [])
    if len(seeds) < 2 or not all(can_be_drawn(one[key]) for one in seeds for key in _NEEDED):
        return None
    figure.set_size_inches(4.6, 1.5 + 0.3 * len(seeds))
    axes = figure.subplots()
    for place, one in enumerate(seeds):
        drop, lower, upper = (one[key] for key in _NEEDED)
        axes.plot([lower, upper], [place, place], color=COLOURS["candidate"], linewidth=1.2)
        axes.plot([drop], [place], "o", color=COLOURS["candidate"], markersize=5)
    axes.axvline(0, color=COLOURS["guide"], linewidth=1)
    if (limit := source.limit("accuracy-drop")) is not None:
        axes.axvline(limit, color=COLOURS["limit"], linestyle="--", label=f"limit: {limit:g}")
        legend_below(figure)
    names = [f"seed {one['seed']}" for one in seeds]
    axes.set_yticks(range(len(seeds)), [f"{names[0]} (ships)", *names[1:]])
    axes.set(ylim=(len(seeds) - 0.5, -0.5))
    axes.set_xlabel("Drop (points, right is worse),\nwith its one-sided 95% bounds")
    told = (f"{one['drop_points']:.2f} (at most {one['upper_bound_points']:.2f})" for one in seeds)
    return f"Accuracy drop in points for {len(seeds)} seeds, the first ships: {', '.join(told)}."


MOST_GROUPS = 30
# PASS is filled and HALT hollow, so that they differ without colour.
_LOOKS: dict[str, dict[str, Any]] = {
    "PASS": {"marker": "o", "fillstyle": "full"},
    "HALT": {"marker": "o", "fillstyle": "none"},
    "this run": {"marker": "D", "fillstyle": "full"},
}


def draw_training(source: Source, figure: Figure) -> str | None:
    """Draw the losses of both heads over the epochs, and the learning rate."""
    heads = source.verdict.training
    histories = {side: heads[side].history for side in SIDES if side in heads}
    if not any(_curve(rows, "validation_loss") for rows in histories.values()):
        return None
    figure.set_size_inches(5.2, 4.8)
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for side, rows in histories.items():
        colour, name = COLOURS[side], source.name(side)
        _plot(loss, rows, "train_loss", color=colour, linestyle=":", label=f"{name}, train")
        _plot(loss, rows, "validation_loss", color=colour, label=f"{name}, validation")
        line = "-" if side == "baseline" else "--"
        _plot(rate, rows, "learning_rate", color=colour, linestyle=line)
    loss.set(ylabel="Cross-entropy loss (nats)")
    legend_below(figure)
    rate.set(xlabel="Epoch", ylabel="Learning rate")
    return "Train and validation loss by epoch. " + " ".join(
        _training_words(side, rows) for side, rows in histories.items()
    )


def draw_timing(source: Source, figure: Figure) -> str | None:
    """Draw every timed round of both embedders, their means, and the limit."""
    timing = source.verdict.timing
    rounds = (timing.baseline_seconds, timing.candidate_seconds)
    every = (*rounds[0], *rounds[1], *timing.closing_baseline_seconds)
    if not all(rounds) or not all(map(can_be_drawn, every)):
        return None
    figure.set_size_inches(5.2, 2.9)
    axes = figure.subplots()
    for place, (side, run, marker) in enumerate(zip(SIDES, rounds, "oD", strict=True)):
        closing = timing.closing_baseline_seconds if side == "baseline" else ()
        heights = _spread(place, len(run) + len(closing))
        axes.plot(run, heights[: len(run)], marker, color=COLOURS[side], alpha=0.8)
        axes.plot([fmean(run)] * 2, [place - 0.3, place + 0.3], color=COLOURS[side])
        if closing:
            look: dict[str, Any] = {"color": COLOURS["baseline"], "fillstyle": "none"}
            words = "baseline, once more at the end"
            axes.plot(closing, heights[len(run) :], "o", **look, label=words)
    baseline, candidate = map(fmean, rounds)
    if (limit := source.limit("embedding-time")) is not None:
        text = f"limit: {limit:g} of the baseline's mean"
        axes.axvline(limit * baseline, color=COLOURS["limit"], linestyle="--", label=text)
    axes.set(xlabel="Seconds a round; the bar is the mean", xlim=(0, None), ylim=(1.6, -0.6))
    axes.set_yticks([0, 1], [source.name(side).replace(": ", "\n", 1) for side in SIDES])
    axes.grid(visible=False, axis="y")
    legend_below(figure)
    return f"Timed rounds: baseline {baseline:.3g} s and candidate {candidate:.3g} s on average."


def draw_drop(source: Source, figure: Figure) -> str | None:
    """Draw the accuracy drop of each lineage with its interval."""
    groups = source.verdict.breakdowns.get("lineage", ())
    drops = [group for group in groups if can_be_drawn(group.drop_points)]
    if not drops:
        return None
    shown = sorted(drops, key=lambda group: -group.drop_points)[:MOST_GROUPS][::-1]
    figure.set_size_inches(5.2, 1.5 + 0.22 * len(shown))
    axes = figure.subplots()
    for place, group in enumerate(shown):
        if group.interval is not None and all(map(can_be_drawn, group.interval)):
            axes.plot(group.interval, [place, place], color=COLOURS["candidate"], linewidth=1.2)
        axes.plot([group.drop_points], [place], "o", color=COLOURS["candidate"], markersize=5)
    axes.axvline(0, color=COLOURS["guide"], linewidth=1)
    if (limit := source.limit("accuracy-drop")) is not None:
        text = f"limit for all rows: {limit:g}"
        axes.axvline(limit, color=COLOURS["limit"], linestyle="--", label=text)
        legend_below(figure)
    axes.set_yticks(range(len(shown)), list(map(_group_label, shown)))
    edge = max(10, 2 * (limit or 0), *(1.5 * abs(group.drop_points) for group in shown))
    axes.set(xlim=(-edge, edge))
    axes.set_xlabel("Drop (points, right is worse)\n95% interval, cut at the edge")
    worst = shown[-1]
    return (
        f"Accuracy drop of {len(shown)} of {len(drops)} lineages; largest: {worst.group} with "
        f"{worst.drop_points:.2f} points."
    )


def draw_false_positives(source: Source, figure: Figure) -> str | None:
    """Draw how often windows that are not viral are called so, by the kind of their source."""
    found = source.verdict.evidence("accuracy-drop").get("window_false_positives", [])
    if not found:
        return None
    shown = found[:MOST_GROUPS][::-1]
    figure.set_size_inches(6.4, 1.8 + 0.3 * len(shown))
    shares, gains = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for side, marker, height in (("baseline", "o", 0.12), ("candidate", "D", -0.12)):
        percents = [row[f"{side}_percent"] for row in shown]
        places = [place + height for place in range(len(shown))]
        shares.plot(percents, places, marker, color=COLOURS[side], label=source.name(side))
    for place, row in enumerate(shown):
        gains.plot(row["interval"], [place, place], color=COLOURS["candidate"], linewidth=1.2)
        gains.plot([row["gained_points"]], [place], "D", color=COLOURS["candidate"], markersize=5)
    gains.axvline(0, color=COLOURS["guide"], linewidth=1)
    if (limit := source.limit("accuracy-drop")) is not None:
        gains.axvline(limit, color=COLOURS["limit"], linestyle="--")
    labels = [f"{label_text(row['source_kind'])} ({row['n']:,})" for row in shown]
    shares.set_yticks(range(len(shown)), labels)
    shares.set(xlabel="Windows called viral,\nof those that are not (%)")
    gains.set(xlabel="Gained (points),\nwith its 95% interval")
    legend_below(figure)
    return "Windows called viral that are not, by kind of source: " + "; ".join(
        f"{row['source_kind']} {row['baseline_percent']:.1f}% by the baseline, "
        f"{row['candidate_percent']:.1f}% by the candidate, {row['gained_points']:+.1f} points "
        f"({row['interval'][0]:.1f} to {row['interval'][1]:.1f})"
        for row in found
    )


def draw_trend(source: Source, figure: Figure) -> str | None:
    """Draw the earlier verdicts on the test set, then this run; None if it is the first."""
    earlier = source.verdict.split.earlier_verdicts
    if not earlier:
        return None
    past = [*earlier, summarise(source.verdict)]
    _draw_points(figure, past, [*(entry.verdict for entry in earlier), "this run"])
    n_passed = sum(entry.verdict == "PASS" for entry in earlier)
    return (
        f"Accuracy drop and time ratio of the {len(earlier):,} verdicts before this one, of which "
        f"{n_passed:,} were PASS, and of this run."
    )


def draw_past(past: Sequence[PastVerdict], path: Path) -> None:
    """Draw drop, bound and time ratio of the verdicts, one after the other, into a file.

    Parameters
    ----------
    past : sequence of PastVerdict
        Oldest first; at least one.
    path : Path
        An ``.svg`` or a ``.png``.
    """
    with style():
        figure = new_figure()
        _draw_points(figure, past, [entry.verdict for entry in past])
        set_title(figure, "Verdicts on this test set")
        write_figure(figure, path)


def _curve(rows: Sequence[Epoch], key: str) -> list[tuple[int, float]]:
    points = [(row.epoch, getattr(row, key)) for row in rows]
    return [(x, y) for x, y in points if y is not None and can_be_drawn(x) and can_be_drawn(y)]


def _plot(axes: Axes, rows: Sequence[Epoch], key: str, **look: Any) -> None:
    if points := _curve(rows, key):
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else None, **look)


def _training_words(side: str, rows: Sequence[Epoch]) -> str:
    points = _curve(rows, "validation_loss")
    if not points:
        return ""
    epoch, loss = min(points, key=lambda point: point[1])
    return (
        f"{side.capitalize()}: {len(points)} epochs, lowest validation loss {show_number(loss)} "
        f"at epoch {epoch}."
    )


def _spread(place: int, count: int) -> list[float]:
    """Return heights around a place, one a round in running order, so that no dot hides another."""
    return [place + 0.3 * (2 * (index + 1) / (count + 1) - 1) for index in range(count)]


def _group_label(group: Group) -> str:
    return f"{label_text(group.group, 40)} (n = {group.n:,})"


def _draw_points(figure: Figure, past: Sequence[PastVerdict], kinds: Sequence[str]) -> None:
    """Draw drops over ratios, oldest verdict first."""
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(5.2, 4.4)
    drop, ratio = figure.subplots(2, 1, sharex=True)
    for place, entry in enumerate(past, 1):
        ends = (entry.drop_points, entry.upper_bound_points)
        if all(end is not None and can_be_drawn(end) for end in ends):
            drop.plot([place] * 2, ends, color=COLOURS["candidate"], linewidth=1.2)
    _draw_markers(drop, kinds, [entry.drop_points for entry in past])
    look: dict[str, Any] = {"color": COLOURS["limit"], "linestyle": "--"}
    drop.axhline(float(DEPLOYMENT_DROP_POINTS), **look, label="limit of a deployment")
    drop.set(ylabel="Drop and its bound (points)")
    _draw_markers(ratio, kinds, [entry.time_ratio for entry in past])
    ratio.axhline(float(DEPLOYMENT_TIME_RATIO), **look)
    ratio.set(ylabel="Embedding time ratio", ylim=(0, None))
    ratio.set(xlabel="Verdict, oldest first", xlim=(0.5, len(past) + 0.5))
    ratio.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, columns=2)


def _draw_markers(axes: Axes, kinds: Sequence[str], heights: Sequence[float | None]) -> None:
    for kind, look in _LOOKS.items():
        shown = [
            (place, height)
            for place, (own, height) in enumerate(zip(kinds, heights, strict=True), 1)
            if own == kind and height is not None and can_be_drawn(height)
        ]
        if kind in ("PASS", "HALT", *kinds):
            x, y = [place for place, _ in shown], [height for _, height in shown]
            axes.plot(x, y, linestyle="", color=COLOURS["candidate"], label=kind, **look)
