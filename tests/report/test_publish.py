"""The end of a run and the history of its test set: one more line, or a warning, never a break."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report.publish import Publication
from harness.verdict.history import read_history
from harness.verdict.ledger import Ledger
from harness.verdict.verdict import digest_verdict, open_verdict, read_verdict


def publish(reports: Path, test_set: Path, monkeypatch: pytest.MonkeyPatch) -> Publication:
    """End a run that drew a test set and got no further."""
    monkeypatch.setattr("harness.report.figures.draw_figures", lambda *_: [])
    opening, lock = open_verdict(reports, profile="tiny", started="now", command="pytest")
    lock.release()
    publication = Publication(Ledger(), opening, reports)
    publication.gather([lambda: {"split": {"directory": str(test_set)}}], reports)
    publication.publish()
    return publication


def test_publish_when_a_run_ends_then_its_verdict_is_in_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the very verdict that was written."""
    publish(tmp_path / "reports", tmp_path, monkeypatch)

    written = read_verdict(tmp_path / "reports" / "verdict.json")
    assert [entry.digest for entry in read_history(tmp_path)] == [digest_verdict(written)]
    assert written["split"]["looks"] == 0


def test_publish_when_the_history_cannot_be_kept_then_every_report_warns_and_nothing_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing about the candidate, so it must not halt a deployment."""
    (tmp_path / "verdicts.jsonl").mkdir()

    publication = publish(tmp_path / "reports", tmp_path, monkeypatch)

    verdict = read_verdict(tmp_path / "reports" / "verdict.json")
    assert "could not be added" in verdict["split"]["history_warning"]
    assert "could not be added" in (tmp_path / "reports" / "report.md").read_text()
    assert "Warning (history)" in publication.terminal_text
    assert all(reason.endswith("NOT_RUN") for reason in verdict["halted_by"])
