"""The committed sample reports: sound, complete, and without a trace of where they were made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.verdict.verdict import read_verdict

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
STATES = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE", "real": "PASS"}
FILES = {"verdict.json", "report.md", "report.html", "junit.xml", "benchmark.json", "figures"}
# Folders that a path from a real machine begins with, and fields that hold its name.
TRACES = re.compile(
    r"(?<![\w./])/(?:home|root|tmp|work|usr|opt|mnt|var|srv|Users|github|__w)/"
    r"|hostname|\"node\":|<a href=\"http"
)


@pytest.mark.parametrize("name", STATES)
def test_sample_is_a_sound_verdict_of_its_kind(name: str) -> None:
    """The digest and the schema hold, and one state besides PASS is shown."""
    verdict = read_verdict(SAMPLES / name / "verdict.json")
    states = {row.state for row in verdict.criteria}
    assert states | {"PASS"} == {"PASS", STATES[name]}
    assert verdict.rehearsal is True


@pytest.mark.parametrize("name", STATES)
def test_sample_tells_nothing_of_the_machine(name: str) -> None:
    """No absolute path, no host, no link to elsewhere."""
    texts = [path for path in (SAMPLES / name).iterdir() if path.is_file()]
    assert {path.name for path in (SAMPLES / name).iterdir()} == FILES
    found = {path.name: TRACES.search(path.read_text("utf-8")) for path in texts}
    assert not any(found.values()), found


@pytest.mark.parametrize("name", STATES)
def test_sample_report_has_its_figures(name: str) -> None:
    """Every figure that the markdown links is there, and no other."""
    linked = re.findall(
        r"\]\(<figures/([^>]+)>\)", (SAMPLES / name / "report.md").read_text("utf-8")
    )
    assert linked
    assert set(linked) == {path.name for path in (SAMPLES / name / "figures").iterdir()}


def test_samples_are_small() -> None:
    """A checkout stays quick to fetch."""
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 5_000_000
