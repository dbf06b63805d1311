"""The markdown report: its order, its links, its figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.report.document import Figure
from harness.report.pages import render_markdown
from tests.report.conftest import Content, typed


def _render(content: Content, figures: Sequence[Figure] = (), folder: Path = Path()) -> str:
    return render_markdown(typed(content), figures, folder=folder)


def _headings(report: str) -> list[tuple[int, str]]:
    found = re.findall(r"^(#+) (.+)$", report, flags=re.MULTILINE)
    return [(len(marks), title) for marks, title in found]


def test_markdown_of_a_halt_begins_with_it(halted: Content) -> None:
    """The first heading under the models is the answer, and the criteria follow at once."""
    report = _render(halted)
    assert _headings(report)[1] == (2, "⛔ Deployment halted")
    assert report.index("| `accuracy-drop` | ⬜&nbsp;NOT RUN |") < report.index("## Contents")


def test_markdown_sections_stand_in_the_order_of_the_argument(passed: Content) -> None:
    """A reader finds accuracy first and the next steps last; no heading level is skipped."""
    headings = _headings(_render(passed))
    assert [title for level, title in headings if level == 2] == [
        "☑️ Rehearsal passed", "Contents", "Accuracy", "Where it lost and gained", "Speed",
        "Test set", "Embeddings", "Training", "Stages and time",
        "Environment and reproduction", "Next steps",
    ]  # fmt: skip
    assert {level for level, _ in headings} == {1, 2}


def test_markdown_contents_link_to_every_section(passed: Content) -> None:
    """Each link of the contents list leads to a heading, as GitHub makes their anchors."""
    report = _render(passed)
    anchors = [title.lower().replace(" ", "-") for level, title in _headings(report) if level == 2]
    assert re.findall(r"\]\(#([^)]+)\)", report) == anchors[2:]


def test_markdown_marks_every_section_with_model_numbers(passed: Content) -> None:
    """In a rehearsal no table of the models' numbers stands without its mark."""
    report = _render(passed)
    sections = re.split(r"^## ", report, flags=re.MULTILINE)
    marked = {text.split("\n")[0] for text in sections if "these numbers authorise nothing" in text}
    assert marked == {"Accuracy", "Where it lost and gained", "Speed", "Training"}


def test_markdown_names_each_side_with_its_random_weights(passed: Content) -> None:
    """The heads of the number columns say that the weights are random."""
    report = _render(passed)
    assert "Baseline: ESM2, 6 layers (random weights) |" in report


def test_markdown_gives_numbers_with_units_intervals_and_differences(passed: Content) -> None:
    """Accuracy stands with both models' intervals and the difference in points."""
    row = (
        "| Accuracy | 93.11% (91.11 to 95.11%) | 92.44% (90.44 to 94.44%) "
        "| −0.67 points (−2.91 to 0.52) |"  # noqa: RUF001 - a minus sign
    )
    assert row in _render(passed)


def test_markdown_calls_out_a_metric_that_moved(passed: Content) -> None:
    """Recall fell by more than 5 points while accuracy held: the report says so."""
    assert "Recall (viral) moved by" in _render(passed)


def test_markdown_shows_confusion_matrices_side_by_side(passed: Content) -> None:
    """Both matrices stand in one table, truth by row."""
    report = _render(passed)
    assert "| not viral | 210 | 15 | 208 | 17 |\n| viral | 16 | 209 | 17 | 208 |" in report


def test_markdown_figures_are_linked_relative_to_the_report(
    passed: Content, tmp_path: Path
) -> None:
    """A report folder can be moved: links hold no absolute path, and blanks do not end them."""
    svg = tmp_path / "all figures" / "roc.svg"
    figure = Figure(name="roc", title="ROC", alt="[two] curves", svg=svg, png=svg)
    report = _render(passed, [figure], tmp_path)
    assert r"![\[two\] curves](<all figures/roc.svg>)" in report
    assert str(tmp_path) not in report


def test_markdown_without_predictions_says_what_is_not_drawn(passed: Content) -> None:
    """Missing curves are explained, not silently left out."""
    assert "precision-recall curves, the calibration" in _render(passed)


def test_markdown_of_an_early_halt_names_what_was_not_reached(halted: Content) -> None:
    """Nothing measured leaves no empty sections, but a line that names them."""
    report = _render(halted)
    assert "Nothing to show in this run for: Accuracy, " in report
    assert "## Accuracy" not in report


def test_markdown_tells_a_common_reason_once(halted: Content) -> None:
    """Six criteria without gate.toml make one thing to do."""
    report = _render(halted)
    todo = report.split("## What to do\n")[1].split("## ")[0]
    assert todo.count("Write gate.toml") == 1


def test_markdown_gives_the_command_that_reproduces_the_run(passed: Content) -> None:
    """The command stands as code, alone on its line."""
    assert "\n    pytest acceptance/\n" in _render(passed)


def test_markdown_shows_evidence_of_a_criterion_it_does_not_know(passed: Content) -> None:
    """A criterion added by a project has its evidence in the report as well."""
    added = passed["criteria"][0] | {
        "id": "calibration", "evidence": {"bins": [{"low": 0.25, "share": 0.5}], "ece": 0.031}
    }  # fmt: skip
    report = _render(passed | {"criteria": [*passed["criteria"], added]})
    assert "## Other criteria" in report
    assert "| 0.25 | 0.5 |" in report
