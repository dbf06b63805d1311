"""Figures of the decisions: confusion matrices, scores row by row, and the scores' curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.figures.style import CLASSES, COLOURS, Source, legend_below
from harness.verdict.contents import SIDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_calibration", "draw_confusion", "draw_precision_recall", "draw_roc", "draw_scores"]


# A curve of more points looks the same, and only makes the file large.
CURVE_POINTS = 400
CALIBRATION_BINS = 10
# Fewer rows than this say too little; their bin is merged with the next.
LEAST_IN_BIN = 20
# Widths of the corner that is drawn larger; curves that keep farther away need none.
CORNERS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
# In inches: two columns of figures are of one height, the curves left, the others right.
WIDTH, CURVES_HEIGHT, CALIBRATION_HEIGHT, SCORES_HEIGHT, MATRICES_HEIGHT = 5.2, 5.2, 4.1, 3.3, 2.75
# The area of all dots together, in square points; a dot is no larger than the other number.
DOTS_AREA, LARGEST_DOT = 24_000, 12

_MARKERS: dict[str, dict[str, Any]] = {
    "baseline": {"fmt": "o", "markersize": 8, "fillstyle": "none"},
    "candidate": {"fmt": "D", "markersize": 4},
}
_LINES = {"baseline": "-", "candidate": "--"}
Floats = np.ndarray[Any, np.dtype[np.float64]]


def draw_roc(source: Source, figure: Figure) -> str | None:
    """Draw the ROC curves of both models, and the corner where they turn larger."""
    from sklearn.metrics import roc_curve

    scores = source.scores
    if scores is None or scores.y_true.all() or not scores.y_true.any():
        return None
    axes = _square_axes(figure)
    axes.set(xlabel="False positive rate (share of not viral)", ylabel="Recall (share of viral)")
    axes.plot([0, 1], [0, 1], color=COLOURS["guide"], linestyle=":", label="chance")
    curves = {
        side: roc_curve(scores.y_true, y_score)[:2] for side, y_score in scores.y_score.items()
    }
    _draw_curves(axes, source, curves, "roc_auc", corner=(0, 1))
    return "ROC curves. " + _finish(source, figure, "roc_auc", "ROC-AUC")


def draw_precision_recall(source: Source, figure: Figure) -> str | None:
    """Draw the precision-recall curves of both models, and the corner where they turn larger."""
    from sklearn.metrics import precision_recall_curve

    scores, metric = source.scores, "average_precision"
    if scores is None or not scores.y_true.any():
        return None
    axes = _square_axes(figure)
    axes.set(xlabel="Recall (share of viral)", ylabel="Precision (share of calls)")
    share = float(scores.y_true.mean())
    axes.axhline(share, color=COLOURS["guide"], linestyle=":", label=f"chance ({share:.2f})")
    curves = {
        side: precision_recall_curve(scores.y_true, y_score)[1::-1]
        for side, y_score in scores.y_score.items()
    }
    _draw_curves(axes, source, curves, metric, corner=(1, 1))
    return "Precision-recall curves. " + _finish(source, figure, metric, "Average precision")


def draw_calibration(source: Source, figure: Figure) -> str | None:
    """Draw how often rows of a given score are viral, with intervals, over how many there are."""
    from scipy.stats import binomtest

    scores = source.scores
    if scores is None or not len(scores.y_true):
        return None
    figure.set_size_inches(WIDTH, CALIBRATION_HEIGHT)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=COLOURS["guide"], linestyle=":", label="calibrated")
    for side, y_score in scores.y_score.items():
        edges = _calibration_edges(y_score)
        place = np.digitize(y_score, edges[1:-1])
        n_rows = np.bincount(place)
        mean, share = (np.bincount(place, values) / n_rows for values in (y_score, scores.y_true))
        n_viral = np.bincount(place[scores.y_true], minlength=len(n_rows))
        counts = zip(n_viral, n_rows, strict=True)
        ends = [binomtest(k, n).proportion_ci(method="wilson") for k, n in counts]
        errors = np.abs(np.array([(end.low, end.high) for end in ends]).T - share)
        look = {"color": COLOURS[side], "label": _legend(source, side, "brier")}
        upper.errorbar(mean, share, errors, capsize=2, **look, **_MARKERS[side])
        lower.stairs(n_rows, edges, baseline=None, color=COLOURS[side], linestyle=_LINES[side])
    upper.set(ylim=(-0.03, 1.03), ylabel="Share that is viral")
    lower.set(yscale="log", xlim=(-0.02, 1.02), ylabel="Rows")
    lower.yaxis.set_major_formatter("{x:,.0f}")
    lower.yaxis.set_minor_formatter("")
    lower.set_ylim(bottom=1)
    lower.set(xlabel="Score (probability of viral); bars are 95% intervals")
    words = f"Calibration in bins of at least {LEAST_IN_BIN} rows, with 95% Wilson intervals. "
    return words + _finish(source, figure, "brier", "Brier score")


def _calibration_edges(y_score: Floats) -> list[float]:
    """Return the edges of bins of equal width, thin ones merged with the next, or the last one."""
    counts, cuts = np.histogram(y_score, np.linspace(0, 1, CALIBRATION_BINS + 1))
    edges, held = [0.0], 0
    for count, cut in zip(counts, cuts[1:], strict=True):
        held += int(count)
        if held >= LEAST_IN_BIN:
            edges.append(float(cut))
            held = 0
    return [*(edges[:-1] or edges), 1.0]


def draw_confusion(source: Source, figure: Figure) -> str | None:
    """Draw both confusion matrices side by side, counts and shares of the true class."""
    sides = source.verdict.sides.items()
    shown = {name: np.array(m, float) for name, side in sides if (m := side.confusion_matrix)}
    if not shown:
        return None
    figure.set_size_inches(WIDTH, MATRICES_HEIGHT)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (side, matrix) in zip(panels, shown.items(), strict=True):
        _draw_matrix(axes, matrix)
        axes.set_title(source.name(side).replace(": ", "\n", 1))
    return "; ".join(_confusion_words(side, matrix) for side, matrix in shown.items())


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


def _square_axes(figure: Figure) -> Axes:
    figure.set_size_inches(WIDTH, CURVES_HEIGHT)
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return axes


def _draw_curves(
    axes: Axes,
    source: Source,
    curves: Mapping[str, Sequence[Floats]],
    metric: str,
    *,
    corner: tuple[int, int],
) -> None:
    """Draw curves of sides, and the part near a corner once more, if they come near enough."""
    panels = [axes]
    distance = max(
        float(np.maximum(abs(x - corner[0]), abs(y - corner[1])).min()) for x, y in curves.values()
    )
    width = next((width for width in CORNERS if width >= 2 * distance), None)
    if width is not None:
        left = 0.36 if corner[0] == 0 else 0.1
        inset = axes.inset_axes((left, 0.12, 0.6, 0.6))
        inset.set(xlim=(0, width) if corner[0] == 0 else (1 - width, 1), ylim=(1 - width, 1))
        inset.tick_params(labelsize=8)
        inset.locator_params(nbins=4)
        axes.indicate_inset_zoom(inset, edgecolor=COLOURS["guide"])
        panels.append(inset)
    for side, (x, y) in curves.items():
        picks = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
        look = {"color": COLOURS[side], "linestyle": _LINES[side]}
        for panel in panels:
            panel.plot(x[picks], y[picks], **look, label=_legend(source, side, metric))


def _legend(source: Source, side: str, metric: str) -> str:
    number = source.verdict.sides[side].metrics.get(metric)
    return source.name(side) + (f" ({number:.4f})" if number is not None else "")


def _finish(source: Source, figure: Figure, metric: str, words: str) -> str:
    """Add the legend, and return the metric of both sides in words."""
    legend_below(figure)
    numbers = {name: side.metrics.get(metric) for name, side in source.verdict.sides.items()}
    found = [f"{side} {number:.4f}" for side, number in numbers.items() if number is not None]
    return f"{words}: {', '.join(found)}." if found else ""


def draw_scores(source: Source, figure: Figure) -> str | None:
    """Draw the candidate's score against the baseline's, row by row, one panel a class."""
    scores = source.scores
    if scores is None or len(scores.y_score) < len(SIDES):
        return None
    figure.set_size_inches(WIDTH, SCORES_HEIGHT)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, is_viral, words in zip(panels, (False, True), CLASSES, strict=True):
        chosen = scores.y_true == is_viral
        for line in (axes.axhline, axes.axvline):
            line(0.5, color=COLOURS["guide"], linewidth=0.8)
        _draw_dots(axes, *(scores.y_score[side][chosen] for side in SIDES), is_viral=is_viral)
        axes.set_title(f"{words} ({int(chosen.sum()):,} rows)")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_xlabel("Baseline's score (probability)")
    panels[0].set_ylabel("Candidate's score (probability)")
    legend_below(figure)
    differ = (scores.y_score["baseline"] > 0.5) != (scores.y_score["candidate"] > 0.5)
    return (
        f"Candidate's score against the baseline's for {len(scores.y_true):,} test rows; "
        f"{int(differ.sum()):,} lie on different sides of 0.5."
    )


def _draw_dots(axes: Axes, x: Floats, y: Floats, *, is_viral: bool) -> None:
    """Draw a dot a row; rows that only one model has right stand out by colour and shape."""
    is_right = [(score > 0.5) == is_viral for score in (x, y)]
    kinds = {
        "same decision": (is_right[0] == is_right[1], COLOURS["guide"], "o"),
        "only the baseline right": (is_right[0] & ~is_right[1], COLOURS["baseline"], "o"),
        "only the candidate right": (~is_right[0] & is_right[1], COLOURS["candidate"], "D"),
    }
    look: dict[str, Any] = {"s": min(LARGEST_DOT, DOTS_AREA / max(1, len(x))), "linewidths": 0}
    for name, (chosen, colour, marker) in kinds.items():
        dots = {"color": colour, "marker": marker, "label": name, "alpha": 0.7}
        axes.scatter(x[chosen], y[chosen], **dots, **look, rasterized=True)
