"""A tiny rehearsal kit from the command line to a verdict, each step in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.criteria import REQUIRED_CRITERIA

ROOT = Path(__file__).parents[2]
DATA = ROOT / "acceptance" / "data"
HARNESS = [sys.executable, "-c", "from harness.cli import main; main()"]
GATE = [sys.executable, "-m", "pytest", "acceptance/", "-m", "gpu", "-p", "no:randomly"]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's root, as a user would."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_kit_when_the_production_profile_runs_on_it_then_it_is_judged_and_authorises_nothing(
    tmp_path: Path,
) -> None:
    """All criteria pass, reports say REHEARSAL, `harness verify` refuses, no code was run."""
    kit, reports = tmp_path / "kit", tmp_path / "reports"
    rehearse = ["rehearse", str(kit), "--scale", "tiny", "--data", str(DATA)]
    assert run(*HARNESS, *rehearse).returncode == 0
    settings = kit / "gate.toml"
    places = ["--work-dir", str(tmp_path / "work"), "--report-dir", str(reports)]

    gate = run(*GATE, "--gate-config", str(settings), *places)

    verdict = json.loads((reports / "verdict.json").read_text())
    assert {row["id"]: row["state"] for row in verdict["criteria"]} == dict.fromkeys(
        REQUIRED_CRITERIA, "PASS"
    ), gate.stdout
    assert gate.returncode == 0
    assert (verdict["profile"], verdict["rehearsal"]) == ("production", True)
    for name in ("report.md", "report.html"):
        assert "REHEARSAL" in (reports / name).read_text()
    verify = ["verify", verdict["artifacts"]["checkpoint"]["path"]]
    refusal = run(*HARNESS, *verify, "--verdict", str(reports / "verdict.json"))
    assert refusal.returncode == 1
    assert "the run was a rehearsal" in refusal.stderr
    assert not list(kit.rglob("EXECUTED"))
