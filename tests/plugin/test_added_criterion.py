"""A criterion of another package, as docs/criteria.md says: one module and one entry."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.criteria.conftest import write_class_balance
from tests.plugin.conftest import ROOT, Project

ITS_TEST = """
import pandas as pd
from types import SimpleNamespace
from harness.criteria import find_criterion

@pytest.mark.criterion("class-balance")
def test_balance(record):
    rows = pd.DataFrame({"label": [1] * 19 + [0]})
    result = find_criterion("class-balance").judge(SimpleNamespace(predictions=lambda: rows))
    record(result)
    assert result.state is State.PASS
"""


@pytest.fixture
def added(bare_project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """Return a project in which all else passes, beside the package that adds a criterion."""
    package = tmp_path / "package"
    package.mkdir()
    write_class_balance(package)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package), str(ROOT)]))
    bare_project.write_passing()
    return bare_project


def test_gate_when_nothing_judges_an_added_criterion_then_it_halts(added: Project) -> None:
    """Once the package is installed, it is required."""
    added.run_apart()

    assert added.verdict["halted_by"] == ["class-balance: NOT_RUN"]


def test_gate_when_an_added_criterion_is_judged_then_the_report_shows_it(added: Project) -> None:
    """Its question, its comparison, and its evidence in a section of its own."""
    added.write(ITS_TEST)

    added.run_apart()

    report = (added.root / "reports" / "report.md").read_text()
    assert added.verdict["halted_by"] == ["class-balance: FAIL"]
    assert "| 95.00% | at most 90% |" in report
    assert "*Are both classes well represented in the test set?*" in report
    assert "| Larger class (%) | 95 |" in report.partition("## Class balance")[2]
