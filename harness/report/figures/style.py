"""What all figures share: one look, colours that colour-blind readers tell apart, same bytes.

Here, too, is what they are drawn from: the verdict, and the predictions table that it names.
"""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import digest_file
from harness.report.document import visible
from harness.report.outcome import read_outcome
from harness.verdict.contents import SIDES, ArtifactEntry, Verdict

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = [
    "CLASSES",
    "COLOURS",
    "FORMATS",
    "Scores",
    "Source",
    "can_be_drawn",
    "label_text",
    "legend_below",
    "new_figure",
    "read_source",
    "save_figure",
    "set_title",
    "style",
    "write_figure",
]


# Okabe and Ito's palette; in all figures the same thing has the same colour.
COLOURS = {
    "baseline": "#0072B2",
    "candidate": "#D55E00",
    "train": "#009E73",
    "test": "#CC79A7",
    "limit": "#000000",
    "guide": "#8A8A8A",
}
CLASSES = ("not viral", "viral")
# What a file says of its making is left out, so that the same figure gives the same bytes.
FORMATS: dict[str, Any] = {
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}
PNG_DPI = 130
COLOURS_IN_PNG = 256
LABEL_CHARACTERS = 30
TITLE_CHARACTERS_PER_INCH, LINE_INCHES = 11, 0.18  # of DejaVu Sans at 11 points

_SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.dpi": PNG_DPI,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "path.simplify": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "virnucpro-harness",  # ids in the file depend on its content alone
    "text.parse_math": False,  # a dollar sign in a name is no formula
}


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in the common style; settings from elsewhere have no say."""
    backend = os.environ.pop("MPLBACKEND", None)  # importing would refuse one that is not here
    try:
        import matplotlib as mpl
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    settings: Any = mpl.rcParamsDefault | _SETTINGS | {"backend": "agg"}
    with mpl.rc_context(settings):
        yield


def new_figure() -> Figure:
    """Return an empty figure that no global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a figure as SVG and PNG; the same figure gives the same bytes.

    Returns
    -------
    tuple of Path
        The SVG file and the PNG file.
    """
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    layout = figure.get_layout_engine()
    if layout is not None:  # once for both files: laying out takes as long as drawing
        layout.execute(figure)
        figure.set_layout_engine("none")
    write_figure(figure, svg)
    write_figure(figure, png)
    return svg, png


def write_figure(figure: Figure, path: Path) -> None:
    """Write one file; a PNG has at most 256 colours, a third of the size and to the eye the same.

    Parameters
    ----------
    figure : Figure
        What is drawn.
    path : Path
        In one of the ``FORMATS``.
    """
    if path.suffix == ".svg":
        figure.savefig(path, metadata=FORMATS[".svg"])
        return
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=PNG_DPI, metadata=FORMATS[".png"])
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(COLOURS_IN_PNG).save(path, format="png", optimize=True)


def set_title(figure: Figure, title: str) -> None:
    """Write a title over a figure, in as many lines as its width asks for."""
    lines = textwrap.wrap(title, int(TITLE_CHARACTERS_PER_INCH * figure.get_figwidth()))
    figure.set_figheight(figure.get_figheight() + LINE_INCHES * (len(lines) - 1))
    figure.suptitle("\n".join(lines), fontsize=11)


def legend_below(figure: Figure, *, columns: int = 1) -> None:
    """Put the legend under the axes, where it covers nothing; the first axes' entries."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def can_be_drawn(number: float) -> bool:
    """Say whether a number is of a size that an axis can show; no measurement is beyond it."""
    return number == 0 or 1e-12 < abs(number) < 1e12


def label_text(text: str, most: int = LABEL_CHARACTERS) -> str:
    """Return a name short enough for a label, in characters that the font has."""
    shown = "".join(
        c if ord(c) in _glyphs() else "\N{REPLACEMENT CHARACTER}" for c in visible(text)
    )
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Labels and scores of test rows.

    Attributes
    ----------
    y_true : array of bool, shape (n,)
        Whether a row is viral.
    y_score : dict of side to array of float, shape (n,)
        The probability of the viral class, in [0, 1]; only sides that have scores.
    """

    y_true: np.ndarray[Any, np.dtype[np.bool_]]
    y_score: dict[str, np.ndarray[Any, np.dtype[np.float64]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A verdict and the scores behind it, None where there are none."""

    verdict: Verdict
    scores: Scores | None
    mark: str

    def name(self, side: str) -> str:
        """Return what a side is called in a legend; random weights are told in the title."""
        name = label_text(self.verdict.sides[side].name, 40)
        return f"{side}: {name}" if name else side

    def limit(self, criterion: str) -> float | None:
        """Return what a criterion was judged by; None where it was not judged."""
        row = self.verdict.rows.get(criterion)
        limit = float(row.limit) if row and row.limit else None
        return limit if limit is not None and can_be_drawn(limit) else None


def read_source(verdict: Verdict) -> Source:
    """Return what can be drawn from.

    The predictions are used only if they are the file that the verdict names, by its digest.
    """
    entry = verdict.artifacts.get("predictions")
    scores = None if entry is None else _scores(entry)
    return Source(verdict=verdict, scores=scores, mark=read_outcome(verdict).short_mark)


def _scores(entry: ArtifactEntry) -> Scores | None:
    import pandas as pd

    path = Path(entry.path)
    if not path.is_file() or digest_file(path) != entry.sha256:
        return None
    table = pd.read_parquet(path)
    columns = {side: f"{side}_score" for side in SIDES if f"{side}_score" in table}
    return Scores(
        y_true=table["label"].to_numpy() == 1,
        y_score={side: table[name].to_numpy(float) for side, name in columns.items()},
    )
