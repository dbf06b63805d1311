"""The JUnit file: what a CI system reads of the verdict and its criteria, and of no host."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.report.publish import complete_junit, criterion_properties

Verdict = dict[str, Any]

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


def test_properties_when_a_criterion_was_judged_then_hold_its_numbers(failed: Verdict) -> None:
    """A CI system can plot the value against its limit."""
    assert criterion_properties(failed["criteria"][0]) == [
        ("criterion", "accuracy-drop"),
        ("state", "FAIL"),
        ("value", "7.1111"),
        ("limit", "5"),
        ("unit", "points"),
        ("interval", "5.2 to 9.4"),
    ]


def test_properties_when_nothing_was_measured_then_are_left_out(halted: Verdict) -> None:
    """An empty value could be read as zero."""
    names = [name for name, _ in criterion_properties(halted["criteria"][0])]
    assert names == ["criterion", "state"]


def test_file_when_completed_then_tells_the_verdict(path: Path, failed: Verdict) -> None:
    """Verdict, profile, rehearsal and reasons stand at the suite; what others set there stays."""
    complete_junit(path, failed)
    assert suite_properties(path) == {
        "branch": "main",
        "verdict": "HALT",
        "profile": "tiny",
        "rehearsal": "true",
        "halted_by": "accuracy-drop: FAIL",
    }


def test_file_when_completed_twice_then_tells_the_last_verdict(
    path: Path, passed: Verdict, failed: Verdict
) -> None:
    """A reporter that fails later turns a PASS into a HALT."""
    complete_junit(path, passed)
    complete_junit(path, failed)
    assert path.read_text().count('name="verdict"') == 1
    assert suite_properties(path)["verdict"] == "HALT"


def test_file_when_completed_then_names_no_host_and_keeps_the_tests(
    path: Path, passed: Verdict
) -> None:
    """Reports are passed on; the name of the machine is nobody's business."""
    complete_junit(path, passed)
    assert "node-7" not in path.read_text()
    assert ET.parse(path).find("testsuite/testcase/properties/property") is not None


def test_file_when_a_reason_holds_control_characters_then_stays_readable(
    path: Path, failed: Verdict
) -> None:
    """XML has no way to write them."""
    complete_junit(path, failed | {"halted_by": ["\x00\x1b<b>"]})
    assert suite_properties(path)["halted_by"] == "[U+0000][U+001B]<b>"
