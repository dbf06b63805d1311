"""The figures of a report: which there are, and where their files go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.report.document import Figure
from harness.report.figures.decisions import (
    draw_calibration,
    draw_confusion,
    draw_precision_recall,
    draw_roc,
    draw_scores,
)
from harness.report.figures.runs import (
    draw_drop,
    draw_false_positives,
    draw_seeds,
    draw_timing,
    draw_training,
    draw_trend,
)
from harness.report.figures.samples import draw_gc, draw_identity, draw_length, draw_lineages
from harness.report.figures.style import (
    Source,
    new_figure,
    read_source,
    save_figure,
    set_title,
    style,
)
from harness.verdict.contents import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Figure", "draw_figures"]


Draw = Callable[["Source", "Canvas"], str | None]

# Each draws on an empty canvas and says in words what it shows; None where there is nothing.
_FIGURES: dict[str, tuple[str, Draw]] = {
    "seeds": ("Accuracy drop by seed, on the test rows", draw_seeds),
    "roc": ("ROC curves", draw_roc),
    "precision-recall": ("Precision and recall", draw_precision_recall),
    "calibration": ("Calibration", draw_calibration),
    "scores": ("Scores, row by row", draw_scores),
    "confusion": ("Confusion matrices", draw_confusion),
    "drop": ("Accuracy drop by lineage", draw_drop),
    "false-positives": ("Called viral wrongly, by kind of source", draw_false_positives),
    "timing": ("Timed rounds", draw_timing),
    "lineages": ("Lineage shares, train and test", draw_lineages),
    "length": ("Lengths, train and test", draw_length),
    "gc": ("GC content, train and test", draw_gc),
    "identity": ("Identity of test to training proteins", draw_identity),
    "trend": ("Verdicts on this test set", draw_trend),
    "training": ("Loss and learning rate", draw_training),
}


def draw_figures(verdict: Verdict, folder: Path) -> list[Figure]:
    """Draw whatever the verdict and its predictions table allow.

    Parameters
    ----------
    verdict : Verdict
        Of any run, however early it ended.
    folder : Path
        Where the SVG and PNG files go; created if there is anything to draw.

    Returns
    -------
    list of Figure
        In the order of the report; empty where there is nothing to draw. The same input gives
        the same bytes.
    """
    source = read_source(verdict)
    drawn = []
    with style():
        for name, (title, draw) in _FIGURES.items():
            figure = _draw(source, folder, name, title, draw)
            if figure is not None:
                drawn.append(figure)
    return drawn


def _draw(source: Source, folder: Path, name: str, title: str, draw: Draw) -> Figure | None:
    canvas = new_figure()
    alt = draw(source, canvas)
    if alt is None:
        return None
    set_title(canvas, f"{title} · {source.mark}" if source.mark else title)
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = save_figure(canvas, folder, name)
    return Figure(name=name, title=title, alt=alt, svg=svg, png=png)
