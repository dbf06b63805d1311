"""A small project with an acceptance/ of its own, and pytest run inside pytest on it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

# Imported here, since pytester forgets after each inner run what that run has imported.
import harness.gate.timing
import harness.gate.verdict
import harness.report.publish  # noqa: F401
from harness.gate.result import REQUIRED_CRITERIA

ROOT = Path(__file__).parents[2]
PRELUDE = """
import os
import pytest
from harness.errors import MissingInput
from harness.gate.result import CriterionResult, State

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
        for name in REQUIRED_CRITERIA:
            if name not in set(without):
                self.write(passing_test(name), f"test_{name.replace('-', '_')}.py")

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest on acceptance/ in this process."""
        return self.run_bare("acceptance", *arguments)

    def run_bare(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in this process, with these arguments alone."""
        return self.pytester.runpytest_inprocess(*arguments)

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


def passing_test(criterion: str) -> str:
    """Return the source of a test that records PASS."""
    return f"""
        @pytest.mark.criterion("{criterion}")
        def test_{criterion.replace("-", "_")}(record):
            record(result("{criterion}"))
        """


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return an empty project, shielded from what the outer run is told."""
    for name in ("GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    return Project(pytester)


@pytest.fixture
def passing(project: Project) -> Project:
    """Return a project in which every required criterion passes."""
    project.write_passing()
    return project
