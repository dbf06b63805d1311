"""Figures of the decisions: confusion matrices, and both models' scores row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.content.reading import as_confusion, as_mapping
from harness.report.plots.source import SIDES, Scores, Source
from harness.report.plots.style import COLOURS, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_confusion", "draw_scores"]

# Up to here every row is a dot; above, they are counted in hexagons.
MOST_DOTS = 2000
CLASSES = ("not viral", "viral")

Floats = np.ndarray[Any, np.dtype[np.float64]]


def draw_confusion(source: Source, figure: Figure) -> str | None:
    """Draw both confusion matrices side by side, counts and shares of the true class."""
    counts = {side: _confusion(source, side) for side in SIDES}
    shown = {side: matrix for side, matrix in counts.items() if matrix is not None}
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


def _confusion(source: Source, side: str) -> Floats | None:
    counts = as_confusion(as_mapping(source.verdict.get(side)).get("confusion_matrix"))
    return None if counts is None else np.array(counts)


def _draw_matrix(axes: Axes, matrix: Floats) -> None:
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            f"{int(matrix[row, column]):,}\n{share:.1%}",
            ha="center",
            va="center",
            color="white" if share > 0.55 else "black",
            fontsize=10.5,
        )
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
        axes.scatter(
            x[chosen],
            y[chosen],
            s=12,
            color=colour,
            marker=marker,
            alpha=0.7,
            linewidths=0,
            label=name,
        )


def _draw_cells(figure: Figure, panels: Sequence[Axes], scores: Scores) -> None:
    """Count in hexagons, so that any number of rows makes a picture of the same size."""
    from matplotlib.colors import LogNorm

    norm = LogNorm(vmin=1, vmax=10)
    cells = [
        axes.hexbin(
            *(scores.y_score[side][scores.y_true == is_viral] for side in SIDES),
            gridsize=40,
            extent=(0, 1, 0, 1),
            norm=norm,
            mincnt=1,
            cmap="cividis",
            linewidths=0,
            rasterized=True,
        )
        for axes, is_viral in zip(panels, (False, True), strict=True)
    ]
    counts = np.concatenate([np.asarray(panel.get_array()) for panel in cells])
    norm.vmax = max(10, counts.max())
    figure.colorbar(cells[0], ax=panels, label="Rows (logarithmic)", format="{x:,.0f}", shrink=0.8)
