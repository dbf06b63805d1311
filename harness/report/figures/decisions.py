"""Figures of the decisions: confusion matrices, scores row by row, and the curves of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.figures.style import COLOURS, Scores, Source, legend_below
from harness.verdict.contents import SIDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_calibration", "draw_confusion", "draw_precision_recall", "draw_roc", "draw_scores"]


# A curve of more points looks the same, and only makes the file large.
CURVE_POINTS = 400
CALIBRATION_BINS = 10
# Up to here every row is a dot; above, they are counted in hexagons.
MOST_DOTS = 2000
CLASSES = ("not viral", "viral")

_LINES = {"baseline": "-", "candidate": "--"}
_DOTS: dict[str, Any] = {"s": 12, "alpha": 0.7, "linewidths": 0}
_CELLS: dict[str, Any] = {
    **{"gridsize": 40, "extent": (0, 1, 0, 1), "mincnt": 1},
    **{"cmap": "cividis", "linewidths": 0, "rasterized": True},
}

Floats = np.ndarray[Any, np.dtype[np.float64]]


def draw_roc(source: Source, figure: Figure) -> str | None:
    """Draw the ROC curves of both models."""
    from sklearn.metrics import roc_curve

    scores = source.scores
    if scores is None or scores.y_true.all() or not scores.y_true.any():
        return None
    axes = _square_axes(
        figure, "False positive rate (share of not viral)", "Recall (share of viral)"
    )
    axes.plot([0, 1], [0, 1], color=COLOURS["guide"], linestyle=":", label="chance")
    for side, y_score in scores.y_score.items():
        fpr, tpr, _ = roc_curve(scores.y_true, y_score)
        _curve(axes, source, side, fpr, tpr, "roc_auc")
    return "ROC curves. " + _finish(source, figure, "roc_auc", "ROC-AUC")


def draw_precision_recall(source: Source, figure: Figure) -> str | None:
    """Draw the precision-recall curves of both models."""
    from sklearn.metrics import precision_recall_curve

    scores, metric = source.scores, "average_precision"
    if scores is None or not scores.y_true.any():
        return None
    axes = _square_axes(figure, "Recall (share of viral)", "Precision (share of calls)")
    share = float(scores.y_true.mean())
    axes.axhline(share, color=COLOURS["guide"], linestyle=":", label=f"chance ({share:.2f})")
    for side, y_score in scores.y_score.items():
        precision, recall, _ = precision_recall_curve(scores.y_true, y_score)
        _curve(axes, source, side, recall, precision, metric)
    return "Precision-recall curves. " + _finish(source, figure, metric, "Average precision")


def draw_calibration(source: Source, figure: Figure) -> str | None:
    """Draw how often rows of a given score are viral."""
    from sklearn.calibration import calibration_curve

    scores = source.scores
    if scores is None:
        return None
    axes = _square_axes(figure, "Mean score (probability of viral)", "Share that is viral")
    axes.plot([0, 1], [0, 1], color=COLOURS["guide"], linestyle=":", label="calibrated")
    for side, y_score in scores.y_score.items():
        share, mean = calibration_curve(scores.y_true, y_score, n_bins=CALIBRATION_BINS)
        _curve(axes, source, side, mean, share, "brier", marker="o", markersize=4)
    words = f"Calibration in {CALIBRATION_BINS} bins of equal width. "
    return words + _finish(source, figure, "brier", "Brier score")


def _square_axes(figure: Figure, xlabel: str, ylabel: str) -> Axes:
    figure.set_size_inches(4.6, 5.0)
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel=xlabel, ylabel=ylabel)
    return axes


def _curve(
    axes: Axes, source: Source, side: str, x: Floats, y: Floats, metric: str, **look: Any
) -> None:
    picks = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
    number = source.verdict.sides[side].metrics.get(metric)
    name = source.name(side) + (f" ({number:.4f})" if number is not None else "")
    look |= {"color": COLOURS[side], "linestyle": _LINES[side], "label": name}
    axes.plot(x[picks], y[picks], **look)


def _finish(source: Source, figure: Figure, metric: str, words: str) -> str:
    """Add the legend, and return the metric of both sides in words."""
    legend_below(figure)
    numbers = {name: side.metrics.get(metric) for name, side in source.verdict.sides.items()}
    found = [f"{side} {number:.4f}" for side, number in numbers.items() if number is not None]
    return f"{words}: {', '.join(found)}." if found else ""


def draw_confusion(source: Source, figure: Figure) -> str | None:
    """Draw both confusion matrices side by side, counts and shares of the true class."""
    sides = source.verdict.sides.items()
    shown = {name: np.array(m, float) for name, side in sides if (m := side.confusion_matrix)}
    if not shown:
        return None
    figure.set_size_inches(2.6 * len(shown), 2.9)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (side, matrix) in zip(panels, shown.items(), strict=True):
        _draw_matrix(axes, matrix)
        axes.set_title(source.name(side).replace(": ", "\n", 1))
    return "; ".join(_confusion_words(side, matrix) for side, matrix in shown.items())


def draw_scores(source: Source, figure: Figure) -> str | None:
    """Draw the candidate's score against the baseline's, row by row, one panel a class."""
    scores = source.scores
    if scores is None or len(scores.y_score) < len(SIDES):
        return None
    figure.set_size_inches(5.2, 4.0)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, is_viral, words in zip(panels, (False, True), CLASSES, strict=True):
        chosen = scores.y_true == is_viral
        for line in (axes.axhline, axes.axvline):
            line(0.5, color=COLOURS["guide"], linewidth=0.8)
        if len(scores.y_true) <= MOST_DOTS:
            _draw_dots(axes, *(scores.y_score[side][chosen] for side in SIDES), is_viral=is_viral)
        axes.set_title(f"{words} ({int(chosen.sum()):,} rows)")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_xlabel("Baseline's score (probability)")
    if len(scores.y_true) > MOST_DOTS:
        _draw_cells(figure, panels, scores)
    panels[0].set_ylabel("Candidate's score (probability)")
    legend_below(figure)
    differ = (scores.y_score["baseline"] > 0.5) != (scores.y_score["candidate"] > 0.5)
    return (
        f"Candidate's score against the baseline's for {len(scores.y_true):,} test rows; "
        f"{int(differ.sum()):,} lie on different sides of 0.5."
    )


def _draw_matrix(axes: Axes, matrix: Floats) -> None:
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text, ink = (
            f"{int(matrix[row, column]):,}\n{share:.1%}",
            "white" if share > 0.55 else "black",
        )
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=10.5)
    axes.set_xticks([0, 1], CLASSES)
    axes.set_yticks([0, 1], CLASSES, rotation=90, va="center")
    axes.set(xlabel="Prediction", ylabel="Truth")
    axes.grid(visible=False)


def _confusion_words(side: str, matrix: Floats) -> str:
    (tn, fp), (fn, tp) = ((int(count) for count in row) for row in matrix)
    return (
        f"{side}: {tn:,} not viral and {tp:,} viral rows right, "
        f"{fp:,} not viral called viral, {fn:,} viral missed"
    )


def _draw_dots(axes: Axes, x: Floats, y: Floats, *, is_viral: bool) -> None:
    """Draw a dot a row; rows that only one model has right stand out by colour and shape."""
    is_right = [(score > 0.5) == is_viral for score in (x, y)]
    kinds = {
        "same decision": (is_right[0] == is_right[1], COLOURS["guide"], "o"),
        "only the baseline right": (is_right[0] & ~is_right[1], COLOURS["baseline"], "o"),
        "only the candidate right": (~is_right[0] & is_right[1], COLOURS["candidate"], "D"),
    }
    for name, (chosen, colour, marker) in kinds.items():
        axes.scatter(x[chosen], y[chosen], color=colour, marker=marker, label=name, **_DOTS)


def _draw_cells(figure: Figure, panels: Sequence[Axes], scores: Scores) -> None:
    """Count in hexagons, so that any number of rows makes a picture of the same size."""
    from matplotlib.colors import LogNorm

    norm = LogNorm(vmin=1, vmax=10)
    cells = [
        axes.hexbin(
            *(scores.y_score[side][scores.y_true == viral] for side in SIDES), **_CELLS, norm=norm
        )
        for axes, viral in zip(panels, (False, True), strict=True)
    ]
    counts = np.concatenate([np.asarray(panel.get_array()) for panel in cells])
    norm.vmax = max(10, counts.max())
    figure.colorbar(cells[0], ax=panels, label="Rows (logarithmic)", format="{x:,.0f}", shrink=0.8)
