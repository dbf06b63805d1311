"""The files of a run's reports: the model card beside its checkpoint, and what fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import Artifact, ArtifactStore
from harness.report.publish import ReportFiles
from harness.verdict.ledger import Ledger

TEXTS = {"markdown": "report", "panel": "panel", "card": "card"}


def make_head(root: Path) -> Artifact:
    """Make or reopen an artifact that holds a checkpoint."""
    return ArtifactStore(root).obtain(
        "heads", {}, lambda folder: (folder / "head.safetensors").touch()
    )


def verdict_on(path: Path) -> dict[str, Any]:
    """Return as much of a verdict as names its checkpoint."""
    return {"artifacts": {"checkpoint": {"path": str(path)}}}


@pytest.fixture
def ledger() -> Ledger:
    """Return the ledger that failures are noted in."""
    return Ledger()


@pytest.fixture
def files(tmp_path: Path) -> ReportFiles:
    """Return the files of a run whose JUnit report is broken."""
    (tmp_path / "junit.xml").write_text("<testsuites>")
    return ReportFiles(tmp_path, html_path=None, xml_path=str(tmp_path / "junit.xml"))


def test_card_when_there_is_a_checkpoint_then_lies_beside_it_and_the_artifact_stays_sound(
    files: ReportFiles, ledger: Ledger, tmp_path: Path
) -> None:
    """The card is no part of the artifact, which is reused as before."""
    head = make_head(tmp_path)
    files.write(TEXTS, verdict_on(head.path / "head.safetensors"), guard=ledger.guard)
    assert (head.path / "README.md").read_text() == "card"
    again = make_head(tmp_path)
    assert again.is_reused
    assert again.sha256 == head.sha256


def test_card_when_the_checkpoint_is_not_there_then_is_not_written(
    files: ReportFiles, ledger: Ledger, tmp_path: Path
) -> None:
    """A verdict from another machine leaves nothing behind."""
    files.write(TEXTS, verdict_on(tmp_path / "head.safetensors"), guard=ledger.guard)
    assert not (tmp_path / "README.md").exists()


def test_files_when_one_cannot_be_written_then_it_is_noted_once_and_the_others_are_there(
    files: ReportFiles, ledger: Ledger, tmp_path: Path
) -> None:
    """What has failed is not tried again."""
    for _ in range(2):
        files.write(TEXTS, {}, guard=ledger.guard)
    (problem,) = ledger.problems()
    assert problem.startswith("completing the JUnit report raised ParseError")
    assert (tmp_path / "report.md").read_text() == "report"
