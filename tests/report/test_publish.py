"""The end of a run and the history of its test set: one more line, or a warning, never a break.

The files of a run's reports: the model card beside its checkpoint, and what fails.

The JUnit file: what a CI system reads of the verdict and its criteria, and of no host.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.artifacts import Artifact, ArtifactStore
from harness.criteria.result import CriterionResult, State
from harness.report.publish import Publication, ReportFiles, complete_junit, criterion_properties
from harness.verdict.contents import Verdict
from harness.verdict.history import read_history
from harness.verdict.ledger import Ledger
from harness.verdict.verdict import digest_verdict, open_verdict, read_verdict
from tests.report.conftest import Content, bare, typed


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
    assert written.split.looks == 0


def test_publish_when_the_history_cannot_be_kept_then_every_report_warns_and_nothing_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing about the candidate, so it must not halt a deployment."""
    (tmp_path / "verdicts.jsonl").mkdir()

    publication = publish(tmp_path / "reports", tmp_path, monkeypatch)

    verdict = read_verdict(tmp_path / "reports" / "verdict.json")
    assert "could not be added" in verdict.split.history_warning
    assert "could not be added" in (tmp_path / "reports" / "report.md").read_text()
    assert "Warning (history)" in publication.terminal_text
    assert all(reason.endswith("NOT_RUN") for reason in verdict.halted_by)


TEXTS = {"markdown": "report", "panel": "panel", "card": "card"}


def make_head(root: Path) -> Artifact:
    """Make or reopen an artifact that holds a checkpoint."""
    return ArtifactStore(root).obtain(
        "heads", {}, lambda folder: (folder / "head.safetensors").touch()
    )


def verdict_on(path: Path) -> Verdict:
    """Return a verdict that names its checkpoint."""
    return bare(artifacts={"checkpoint": {"path": str(path), "sha256": "ab" * 32}})


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
    files.write(TEXTS, verdict_on(head.path / "head.safetensors"), ledger)
    assert (head.path / "README.md").read_text() == "card"
    again = make_head(tmp_path)
    assert again.is_reused
    assert again.sha256 == head.sha256


def test_card_when_the_checkpoint_is_not_there_then_is_not_written(
    files: ReportFiles, ledger: Ledger, tmp_path: Path
) -> None:
    """A verdict from another machine leaves nothing behind."""
    files.write(TEXTS, verdict_on(tmp_path / "head.safetensors"), ledger)
    assert not (tmp_path / "README.md").exists()


def test_files_when_one_cannot_be_written_then_it_is_noted_once_and_the_others_are_there(
    files: ReportFiles, ledger: Ledger, tmp_path: Path
) -> None:
    """What has failed is not tried again."""
    for _ in range(2):
        files.write(TEXTS, bare(), ledger)
    (problem,) = ledger.problems()
    assert problem.startswith("completing the JUnit report raised ParseError")
    assert (tmp_path / "report.md").read_text() == "report"


WRITTEN = (
    '<testsuites><testsuite name="pytest" tests="1" hostname="node-7"><properties>'
    '<property name="branch" value="main" /></properties>'
    '<testcase name="a"><properties><property name="state" value="PASS" /></properties>'
    "</testcase></testsuite></testsuites>"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a JUnit file as pytest writes it."""
    path = tmp_path / "junit.xml"
    path.write_text(WRITTEN)
    return path


def suite_properties(path: Path) -> dict[str, str]:
    """Read the properties of the file's one suite."""
    found = ET.parse(path).findall("testsuite/properties/property")
    return {one.attrib["name"]: one.attrib["value"] for one in found}


def test_properties_when_a_criterion_was_judged_then_hold_its_numbers() -> None:
    """A CI system can plot the value against its limit."""
    result = CriterionResult(
        id="accuracy-drop",
        state=State.FAIL,
        value=Fraction(64, 9),
        limit=Fraction(5),
        unit="points",
        interval=(5.2, 9.4),
        detail="It loses.",
    )
    assert criterion_properties(result) == [
        ("criterion", "accuracy-drop"),
        ("state", "FAIL"),
        ("value", "7.1111"),
        ("limit", "5"),
        ("unit", "points"),
        ("interval", "5.2 to 9.4"),
    ]


def test_properties_when_nothing_was_measured_then_are_left_out() -> None:
    """An empty value could be read as zero."""
    result = CriterionResult(id="accuracy-drop", state=State.NOT_RUN, detail="No gate.toml.")
    assert criterion_properties(result) == [("criterion", "accuracy-drop"), ("state", "NOT_RUN")]


def test_file_when_completed_then_tells_the_verdict(path: Path, failed: Content) -> None:
    """Verdict, profile, rehearsal and reasons stand at the suite; what others set there stays."""
    complete_junit(path, typed(failed))
    assert suite_properties(path) == {
        "branch": "main",
        "verdict": "HALT",
        "profile": "tiny",
        "rehearsal": "true",
        "halted_by": "accuracy-drop: FAIL",
    }


def test_file_when_completed_twice_then_tells_the_last_verdict(
    path: Path, passed: Content, failed: Content
) -> None:
    """A reporter that fails later turns a PASS into a HALT."""
    complete_junit(path, typed(passed))
    complete_junit(path, typed(failed))
    assert path.read_text().count('name="verdict"') == 1
    assert suite_properties(path)["verdict"] == "HALT"


def test_file_when_completed_then_names_no_host_and_keeps_the_tests(
    path: Path, passed: Content
) -> None:
    """Reports are passed on; the name of the machine is nobody's business."""
    complete_junit(path, typed(passed))
    assert "node-7" not in path.read_text()
    assert ET.parse(path).find("testsuite/testcase/properties/property") is not None


def test_file_when_a_reason_holds_control_characters_then_stays_readable(
    path: Path, failed: Content
) -> None:
    """XML has no way to write them."""
    complete_junit(path, typed(failed | {"halted_by": ["\x00\x1b<b>"]}))
    assert suite_properties(path)["halted_by"] == "[U+0000][U+001B]<b>"
