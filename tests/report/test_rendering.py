"""Every renderer on every kind of verdict: it answers, it marks, it never raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.report.figures import draw_figures
from harness.report.html import criteria_panel
from harness.report.markdown import render_markdown
from harness.report.modelcard import render_model_card
from harness.report.summary import render_step_summary
from harness.report.terminal import render_terminal


def _all_reports(verdict: dict[str, Any], folder: Path) -> dict[str, str]:
    figures = draw_figures(verdict, folder / "figures")
    terminal = render_terminal(
        verdict, width=80, is_terminal=True, use_colour=False, report_path="report.html"
    )
    return {
        "markdown": render_markdown(verdict, figures, folder=folder),
        "html": criteria_panel(verdict, figures),
        "terminal": terminal,
        "summary": render_step_summary(verdict),
        "card": render_model_card(verdict),
    }


def test_reports_of_any_verdict_name_every_criterion(
    verdict: dict[str, Any], tmp_path: Path
) -> None:
    """Whatever came of the run, each criterion has its row in each report."""
    for report in _all_reports(verdict, tmp_path).values():
        assert all(row["id"] in report for row in verdict["criteria"])
