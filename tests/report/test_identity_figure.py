"""The figure of best-hit identities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.report.figures import draw_figures


def verdict_with(identity: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a verdict that knows nothing but the identities."""
    row = {"id": "split-integrity", "state": "PASS", "evidence": {"identity": identity}}
    return {"verdict": "HALT", "criteria": [row]}


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
