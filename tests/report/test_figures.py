"""The figures: which are drawn, from what, and that the same input gives the same bytes.

The figure of best-hit identities.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import StepPatch
from matplotlib.text import Text

from harness.artifacts import digest_file
from harness.report.figures import Figure, draw_figures
from harness.report.figures.decisions import draw_calibration, draw_precision_recall, draw_roc
from harness.report.figures.samples import draw_gc
from harness.report.figures.style import Scores, Source, read_source, save_figure
from harness.report.pages import criteria_panel
from harness.verdict.contents import Verdict
from harness.verdict.verdict import read_verdict
from tests.report.conftest import Content, bare, criterion, typed

Drawn = tuple[Verdict, list[Figure]]
SavePredictions = Callable[..., dict[str, str]]

ROOT = Path(__file__).parents[2]
SCORE_FIGURES = {"roc", "precision-recall", "calibration", "scores"}


def _with_predictions(entry: dict[str, str]) -> Verdict:
    return bare(artifacts={"predictions": entry})


def _names(verdict: Verdict, folder: Path) -> set[str]:
    return {figure.name for figure in draw_figures(verdict, folder)}


def _rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Verdict:
    change(pd.read_parquet(path)).to_parquet(path)
    return _with_predictions({"path": str(path), "sha256": digest_file(path)})


def _timing(name: str = "ESM2") -> Verdict:
    seconds = {"baseline_seconds": [2.0, 2.1], "candidate_seconds": [0.5, 0.6]}
    return bare(timing=seconds, baseline={"name": name})


@pytest.fixture
def _unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw, but do not write: rendering takes most of the time."""
    nowhere = (Path("x.svg"), Path("x.png"))
    monkeypatch.setattr("harness.report.figures.save_figure", lambda *_: nowhere)


def test_figures_of_a_full_run_are_all_drawn(drawn: Drawn) -> None:
    """A complete verdict has every figure, as SVG and PNG, in the order of the report."""
    figures = drawn[1]
    assert [figure.name for figure in figures] == [
        "roc", "precision-recall", "calibration", "scores", "confusion", "drop", "timing",
        "lineages", "length", "gc", "training",
    ]  # fmt: skip
    assert all(path.is_file() for figure in figures for path in (figure.svg, figure.png))


def test_figures_when_drawn_then_no_text_leaves_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Titles that tell of random weights are long, and figures narrow."""
    cut: list[str] = []

    def measure(figure: matplotlib.figure.Figure, folder: Path, name: str) -> tuple[Path, Path]:
        paths = save_figure(figure, folder, name)
        ticks = [tick for axes in figure.axes for tick in axes.get_xticklabels(which="both")]
        ticks += [tick for axes in figure.axes for tick in axes.get_yticklabels(which="both")]
        for text in set(figure.findobj(Text)) - set(ticks):  # some ticks are never drawn
            box = text.get_window_extent()
            outside = box.x0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
            if text.get_visible() and text.get_text() and outside:
                cut.append(f"{name}: {text.get_text()}")
        return paths

    monkeypatch.setattr("harness.report.figures.save_figure", measure)

    figures = draw_figures(read_verdict(ROOT / "docs/samples/real/verdict.json"), tmp_path)

    assert {"seeds", "false-positives", "timing", "lineages"} <= {each.name for each in figures}
    assert cut == []


def test_figures_say_in_words_what_they_show(drawn: Drawn) -> None:
    """A reader who cannot see the curves gets their numbers."""
    alt = {figure.name: figure.alt for figure in drawn[1]}
    assert "15 not viral called viral" in alt["confusion"]
    assert "baseline 0.9731, candidate 0.9731" in alt["roc"]
    assert "largest: Plastid with 4.00 points" in alt["drop"]
    assert "baseline 2.1 s and candidate 0.45 s" in alt["timing"]
    assert "lowest validation loss 0.223 at epoch 30" in alt["training"]


def test_figures_hold_nothing_from_outside(drawn: Drawn) -> None:
    """No SVG names a host, a path or a date; namespaces are no links."""
    for figure in drawn[1]:
        svg = re.sub(r'xmlns(:\w+)?="[^"]+"|<!DOCTYPE[^>]+>', "", figure.svg.read_text("utf-8"))
        assert not re.search(r"(href|src)=\"(?!#|data:)|<dc:date|<script", svg)


def test_figures_of_the_same_verdict_have_the_same_bytes(tmp_path: Path) -> None:
    """Rendering again changes nothing, whatever settings matplotlib has in this process."""
    (first,) = draw_figures(_timing(), tmp_path / "1")
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "savefig.dpi": 20}):
        (second,) = draw_figures(_timing(), tmp_path / "2")
        assert mpl.rcParams["font.size"] == 30
    assert first.svg.read_bytes() == second.svg.read_bytes()
    assert first.png.read_bytes() == second.png.read_bytes()


def test_figures_of_nothing_leave_no_folder(halted: Content, tmp_path: Path) -> None:
    """A run that measured nothing draws nothing."""
    assert draw_figures(typed(halted), tmp_path / "figures") == []
    assert not (tmp_path / "figures").exists()


@pytest.mark.filterwarnings("error")
def test_figures_with_hostile_names_are_drawn(tmp_path: Path) -> None:
    """Formulas, missing glyphs, control characters and long names are only text."""
    assert _names(_timing("$\\frac{1}{$ \u202e\U00012345\x00 蛋白" + "x" * 500), tmp_path) == {
        "timing"
    }


@pytest.mark.parametrize("fault", ["other bytes", "no file"])
def test_scores_of_another_file_are_not_drawn(
    fault: str, tmp_path: Path, save_predictions: SavePredictions
) -> None:
    """Only the predictions that the verdict names by digest are shown."""
    path = tmp_path / "predictions.parquet"
    entry = save_predictions(path, 20)
    if fault == "other bytes":
        save_predictions(path, 20, seed=1)
    else:
        path.unlink()
    assert _names(_with_predictions(entry), tmp_path) == set()


def test_scores_of_one_class_have_no_roc(tmp_path: Path, save_predictions: SavePredictions) -> None:
    """A curve that is undefined is left out; the others stay."""
    save_predictions(path := tmp_path / "p.parquet", 40)
    verdict = _rewrite(path, lambda table: table[table["label"] == 1])
    assert _names(verdict, tmp_path) == SCORE_FIGURES - {"roc"}


@pytest.mark.usefixtures("_unsaved")
def test_scores_of_the_candidate_alone_are_drawn(
    tmp_path: Path, save_predictions: SavePredictions
) -> None:
    """A baseline of bare metrics has no curve, and no scatter beside it."""
    save_predictions(path := tmp_path / "p.parquet", 40)
    verdict = _rewrite(path, lambda table: table.drop(columns="baseline_score"))
    assert _names(verdict, tmp_path) == SCORE_FIGURES - {"scores"}


def source(y_true: list[int], y_score: list[float]) -> Source:
    """Return a candidate's scores as the figures read them."""
    scores = Scores(y_true=np.array(y_true) == 1, y_score={"candidate": np.array(y_score)})
    return Source(verdict=bare(), scores=scores, mark="")


def test_calibration_when_few_rows_have_a_score_then_they_share_a_bin() -> None:
    """Single rows make no point of their own; each point has its interval and its count below."""
    figure = mpl.figure.Figure()
    draw_calibration(
        source([0] * 50 + [0, 1] * 10 + [1] * 50, [0.01] * 50 + [0.45] * 20 + [0.99] * 50), figure
    )
    upper, lower = figure.axes
    ((points, _, (bars,)),) = upper.containers
    assert np.asarray(points.get_xdata()).tolist() == pytest.approx([0.01, 0.45, 0.99])
    low, high = bars.get_segments()[1][:, 1]
    assert (low, high) == pytest.approx((0.299, 0.701), abs=0.001)  # Wilson, 10 of 20
    (counts,) = lower.findobj(StepPatch)
    assert isinstance(counts, StepPatch)
    assert list(counts.get_data()[0]) == [50, 20, 50]


@pytest.mark.parametrize(("draw", "left"), [(draw_roc, 0), (draw_precision_recall, 0.9)])
def test_curves_when_they_pass_near_a_corner_then_it_is_drawn_larger(
    draw: Callable[[Source, mpl.figure.Figure], str | None], left: float
) -> None:
    """Of good models the whole square shows nothing but its edge; of poor ones it suffices."""
    good, poor = mpl.figure.Figure(), mpl.figure.Figure()
    draw(source([0, 1] * 100, [0.1, 0.9] * 96 + [0.9, 0.1] * 4), good)
    draw(source([0, 1] * 100, [0.5, 0.5] * 100), poor)
    (corner,) = good.axes[0].child_axes
    assert corner.get_xlim() == pytest.approx((left, left + 0.1))
    assert corner.get_ylim() == pytest.approx((0.9, 1))
    assert poor.axes[0].child_axes == []


@pytest.mark.slow
def test_figures_of_210_000_rows_stay_small(
    passed: Content, tmp_path: Path, save_predictions: SavePredictions
) -> None:
    """The published test set's size makes no larger report: curves are thinned, dots no shapes."""
    passed["artifacts"]["predictions"] = save_predictions(tmp_path / "p.parquet", 210_000)
    figures = draw_figures(typed(passed), tmp_path)
    assert max(figure.svg.stat().st_size for figure in figures) < 300_000
    assert len(criteria_panel(typed(passed), figures)) < 2_000_000


@pytest.mark.slow
def test_figures_load_matplotlib_late_and_as_it_comes(tmp_path: Path) -> None:
    """Importing costs no plotting library; a notebook's backend and settings have no say."""
    code = (
        "import os, sys, pathlib, harness.report.figures as f\n"
        "from harness.verdict.verdict import read_verdict\n"
        "assert 'matplotlib' not in sys.modules\n"
        "verdict = read_verdict(pathlib.Path('docs/samples/pass/verdict.json'))\n"
        "assert f.draw_figures(verdict, pathlib.Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert os.environ['MPLBACKEND'] == 'module://not.installed'\n"
    )
    rc = tmp_path / "matplotlibrc"
    rc.write_text("text.usetex: True\nbackend: module://not.installed\n")
    foreign = {"MPLBACKEND": "module://not.installed", "MATPLOTLIBRC": str(rc)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | foreign,
    )
    assert done.returncode == 0, done.stderr


def test_histograms_of_both_classes_fit_their_axes(passed: Content) -> None:
    """The axis that both share reaches up to the higher of the two."""
    low, high = ({"gc": {"edges": [0, 0.5, 1], "train": [x, 0], "test": [x, 0]}} for x in (0.1, 1))
    passed["criteria"][2]["evidence"]["histograms"] = {"0": low, "1": high}
    figure = mpl.figure.Figure()
    draw_gc(read_source(typed(passed)), figure)
    assert all(axes.get_ylim()[0] == 0 for axes in figure.axes)
    assert all(axes.get_ylim()[1] >= 100 for axes in figure.axes)


def verdict_with(identity: list[Content]) -> Verdict:
    """Return a verdict that knows nothing but the identities."""
    return bare(criteria=[criterion("split-integrity", evidence={"identity": identity})])


def test_false_positives_when_judged_then_the_figure_says_each_kinds_shares(tmp_path: Path) -> None:
    """Who is called viral wrongly is read out, both sides."""
    percents = {"baseline_percent": 5.0, "candidate_percent": 20.0}
    gain = {"gained_points": 15.0, "interval": [-3.8, 36.3]}
    evidence = {"window_false_positives": [{"source_kind": "plasmid", "n": 40} | percents | gain]}
    verdict = bare(criteria=[criterion("accuracy-drop", evidence=evidence)])

    (figure,) = draw_figures(verdict, tmp_path)

    assert figure.name == "false-positives"
    assert "plasmid 5.0% by the baseline, 20.0% by the candidate, +15.0 points (-3.8 to 36.3)" in (
        figure.alt
    )


def test_identity_when_measured_then_the_figure_says_each_bins_share(tmp_path: Path) -> None:
    """The bars are read out in the alternative text."""
    bins = [{"bin": "<30 %", "n": 3, "share": 0.75}, {"bin": ">=90 %", "n": 1, "share": 0.25}]

    (figure,) = draw_figures(verdict_with(bins), tmp_path)

    assert figure.name == "identity"
    assert "<30 % 75.0 percent, >=90 % 25.0 percent" in figure.alt
    assert figure.png.is_file()


def test_identity_when_not_measured_then_there_is_no_figure(tmp_path: Path) -> None:
    """Without MMseqs2 nothing is made up."""
    assert draw_figures(verdict_with([]), tmp_path) == []


SEEDS = [
    {
        "seed": seed,
        "drop_points": 1.5,
        "lower_bound_points": -1.0,
        "upper_bound_points": seed - 39.25,
    }
    for seed in (42, 43)
]


@pytest.mark.usefixtures("_unsaved")
@pytest.mark.parametrize(("n_seeds", "names"), [(1, set()), (2, {"seeds"})])
def test_seeds_are_drawn_where_there_are_several(
    n_seeds: int, names: set[str], tmp_path: Path
) -> None:
    """Each pair of heads with its bound, the one that ships first."""
    row = criterion("accuracy-drop", limit="5", evidence={"seeds": SEEDS[:n_seeds]})
    figures = draw_figures(bare(criteria=[row]), tmp_path)
    assert {figure.name for figure in figures} == names
    assert all("1.50 (at most 2.75), 1.50 (at most 3.75)" in one.alt for one in figures)
