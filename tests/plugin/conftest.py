"""A small project with an acceptance/ of its own, and pytest run inside pytest on it."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# Imported here, since pytester forgets after each inner run what that run has imported.
import harness.criteria.speed
import harness.progress
import harness.report.pages
import harness.report.publish
import harness.report.terminal  # noqa: F401
from harness.criteria import REQUIRED_CRITERIA
from harness.verdict.contents import Verdict

ROOT = Path(__file__).parents[2]
RENDERERS = (
    "pages.criteria_panel",
    "pages.render_model_card",
    "pages.render_markdown",
    "pages.render_step_summary",
    "terminal.render_terminal",
)
# Plugins that a process of its own would spend most of its start on.
LEAN = [f"-pno:{name}" for name in ("randomly", "hypothesispytest", "xdist", "pytest_cov", "anyio")]
PRELUDE = """
import os
import pytest
from harness.errors import MissingInput
from harness.criteria.result import CriterionResult, State

def result(criterion, state=State.PASS):
    return CriterionResult(id=criterion, state=state, detail="As planned.")
"""


class Project:
    """A project whose acceptance tests are written by the test at hand."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        self.verdict_path = self.root / "reports" / "verdict.json"
        (self.root / "pytest.ini").write_text((ROOT / "pytest.ini").read_text())
        (self.root / "acceptance").mkdir()

    def write(self, source: str, name: str = "test_more.py") -> None:
        """Write a file of acceptance/; a test file can use ``result`` and pytest."""
        prelude = "" if name == "conftest.py" else PRELUDE
        path = self.root / "acceptance" / name
        path.write_text(prelude + textwrap.dedent(source), encoding="utf-8")

    def write_passing(self, *, without: Iterable[str] = ()) -> None:
        """Write a passing test for each required criterion, but for those left out."""
        present = [name for name in REQUIRED_CRITERIA if name not in set(without)]
        self.write("\n".join(map(passing_test, present)), "test_criteria.py")

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest on acceptance/ in this process."""
        return self.run_bare("acceptance", *arguments)

    def run_bare(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in this process, with these arguments alone."""
        return self.pytester.runpytest_inprocess(*arguments, no_reraise_ctrlc=True)

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """Run pytest on acceptance/ in a process of its own, which may die."""
        return self.pytester.runpytest_subprocess("acceptance", *LEAN, *arguments)

    def leave_older_pass(self) -> None:
        """Leave behind what an earlier run that passed has written."""
        self.verdict_path.parent.mkdir()
        self.verdict_path.write_text('{"verdict": "PASS"}')
        for name in ("report.md", "report.html", "junit.xml", "benchmark.json"):
            self.verdict_path.with_name(name).write_text("PASS")

    @property
    def verdict(self) -> dict[str, Any]:
        """What the run has written."""
        verdict: dict[str, Any] = json.loads(self.verdict_path.read_text())
        return verdict

    def row(self, criterion: str) -> dict[str, Any]:
        """Return the criterion's row of the verdict."""
        rows = [row for row in self.verdict["criteria"] if row["id"] == criterion]
        assert len(rows) == 1, f"{len(rows)} rows for {criterion}"
        row: dict[str, Any] = rows[0]
        return row

    def state(self, criterion: str = "accuracy-drop") -> str:
        """Return how the criterion came out."""
        return str(self.row(criterion)["state"])


def brief(verdict: Verdict, *arguments: Any, **options: Any) -> str:
    """Stand in for a renderer."""
    return f"It is a {verdict.verdict}."


def passing_test(criterion: str) -> str:
    """Return the source of a test that records PASS."""
    return (
        f"@pytest.mark.criterion('{criterion}')\n"
        f"def test_{criterion.replace('-', '_')}(record):\n"
        f"    record(result('{criterion}'))\n"
    )


@pytest.fixture
def bare_project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return an empty project, shielded from what the outer run is told."""
    for name in ("GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    return Project(pytester)


@pytest.fixture
def project(bare_project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return an empty project whose reports are one word, since rendering is tested elsewhere."""
    for renderer in RENDERERS:
        monkeypatch.setattr(f"harness.report.{renderer}", brief)
    no_figures = SimpleNamespace(draw_figures=lambda verdict, folder: [])
    monkeypatch.setitem(sys.modules, "harness.report.figures", no_figures)
    return bare_project


@pytest.fixture
def passing(project: Project) -> Project:
    """Return a project in which every required criterion passes."""
    project.write_passing()
    return project
