"""Curves of the scores: ROC, precision-recall, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.content.reading import as_mapping, as_number
from harness.report.plots.source import SIDES, Source
from harness.report.plots.style import COLOURS, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_calibration", "draw_precision_recall", "draw_roc"]

# A curve of more points looks the same, and only makes the file large.
CURVE_POINTS = 400
CALIBRATION_BINS = 10

Floats = np.ndarray[Any, np.dtype[np.float64]]

_LINES = {"baseline": "-", "candidate": "--"}


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
    legend_below(figure)
    return f"ROC curves. {_metric_words(source, 'roc_auc', 'ROC-AUC')}"


def draw_precision_recall(source: Source, figure: Figure) -> str | None:
    """Draw the precision-recall curves of both models."""
    from sklearn.metrics import precision_recall_curve

    scores = source.scores
    if scores is None or not scores.y_true.any():
        return None
    axes = _square_axes(figure, "Recall (share of viral)", "Precision (share of calls)")
    share = float(scores.y_true.mean())
    axes.axhline(share, color=COLOURS["guide"], linestyle=":", label=f"chance ({share:.2f})")
    for side, y_score in scores.y_score.items():
        precision, recall, _ = precision_recall_curve(scores.y_true, y_score)
        _curve(axes, source, side, recall, precision, "average_precision")
    legend_below(figure)
    words = _metric_words(source, "average_precision", "Average precision")
    return f"Precision-recall curves. {words}"


def draw_calibration(source: Source, figure: Figure) -> str | None:
    """Draw how often rows of a given score are viral."""
    from sklearn.calibration import calibration_curve

    if source.scores is None:
        return None
    axes = _square_axes(figure, "Mean score (probability of viral)", "Share that is viral")
    axes.plot([0, 1], [0, 1], color=COLOURS["guide"], linestyle=":", label="calibrated")
    for side, y_score in source.scores.y_score.items():
        share, mean = calibration_curve(source.scores.y_true, y_score, n_bins=CALIBRATION_BINS)
        axes.plot(
            mean,
            share,
            marker="o",
            markersize=4,
            color=COLOURS[side],
            linestyle=_LINES[side],
            label=source.name(side),
        )
    legend_below(figure)
    return f"Calibration in {CALIBRATION_BINS} bins of equal width. " + _metric_words(
        source, "brier", "Brier score"
    )


def _square_axes(figure: Figure, xlabel: str, ylabel: str) -> Axes:
    figure.set_size_inches(4.6, 5.0)
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel=xlabel, ylabel=ylabel)
    return axes


def _curve(axes: Axes, source: Source, side: str, x: Floats, y: Floats, metric: str) -> None:
    picks = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
    number = as_number(as_mapping(as_mapping(source.verdict.get(side)).get("metrics")).get(metric))
    known = f" ({number:.4f})" if number is not None else ""
    axes.plot(
        x[picks],
        y[picks],
        color=COLOURS[side],
        linestyle=_LINES[side],
        label=f"{source.name(side)}{known}",
    )


def _metric_words(source: Source, metric: str, words: str) -> str:
    found = []
    for side in SIDES:
        metrics = as_mapping(as_mapping(source.verdict.get(side)).get("metrics"))
        number = as_number(metrics.get(metric))
        found += [f"{side} {number:.4f}"] if number is not None else []
    return f"{words}: {', '.join(found)}." if found else ""
