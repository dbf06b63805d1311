"""What a deployment is told: yes for the judged file alone, and why not for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest_file
from harness.errors import ArtifactError, MissingInput
from harness.gate.authorisation import NotAuthorised, authorise
from harness.gate.result import REQUIRED_CRITERIA


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """Return a file to deploy."""
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"weights")
    return path


def write_verdict(head: Path, **changes: Any) -> Path:
    """Write a verdict that authorises the head, but for some changes."""
    criterion = dict.fromkeys(("value", "numerator", "denominator", "limit", "interval", "test"))
    verdict: dict[str, Any] = {
        "schema_version": 1,
        "verdict": "PASS",
        "rehearsal": False,
        "rehearsal_reasons": [],
        "looser_than_deployment": [],
        "profile": "production",
        "started": "2026-11-01T00:00:00+00:00",
        "halted_by": [],
        "criteria": [
            {"id": name, "state": "PASS", "unit": "", "detail": "", "next_steps": [], **criterion}
            for name in REQUIRED_CRITERIA
        ],
        "artifacts": {"checkpoint": {"path": str(head), "sha256": digest_file(head)}},
    }
    path = head.with_name("verdict.json")
    path.write_text(json.dumps(verdict | changes))
    return path


def test_authorise_when_the_judged_file_passed_then_nothing_is_raised(head: Path) -> None:
    """A PASS on deployment limits, no rehearsal, this very file."""
    authorise(head, write_verdict(head))

    assert head.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "HALT", "halted_by": ["accuracy-drop: FAIL"]}, "HALT .accuracy-drop: FAIL"),
        ({"verdict": "INCOMPLETE"}, "the verdict is INCOMPLETE"),
        ({"rehearsal": True, "rehearsal_reasons": ["random"]}, "was a rehearsal .random"),
        ({"looser_than_deployment": ["max_time_ratio"]}, "looser .* allows: max_time_ratio"),
        ({"artifacts": {}}, "names no checkpoint"),
    ],
)
def test_authorise_when_the_verdict_is_not_enough_then_the_reason_is_given(
    head: Path, changes: dict[str, Any], message: str
) -> None:
    """Everything but a full PASS is refused."""
    with pytest.raises(NotAuthorised, match=message):
        authorise(head, write_verdict(head, **changes))


def test_authorise_when_one_byte_changed_then_refused(head: Path) -> None:
    """The judged file, not one like it."""
    verdict = write_verdict(head)
    head.write_bytes(b"weightz")

    with pytest.raises(NotAuthorised, match="is not the one that was judged"):
        authorise(head, verdict)


def test_authorise_when_a_criterion_is_missing_then_the_pass_is_not_believed(head: Path) -> None:
    """A verdict whose contents contradict its word is no verdict."""
    with pytest.raises(ArtifactError, match="says PASS, but holds"):
        authorise(head, write_verdict(head, criteria=[]))


def test_authorise_when_there_is_no_file_then_missing(head: Path) -> None:
    """Nothing to deploy, nothing to authorise."""
    verdict = write_verdict(head)

    with pytest.raises(MissingInput, match="There is no"):
        authorise(head.with_name("other"), verdict)
