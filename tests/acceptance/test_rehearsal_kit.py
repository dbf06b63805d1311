"""A tiny rehearsal kit from the command line to a verdict, each step in a process of its own."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.criteria import REQUIRED_CRITERIA

ROOT = Path(__file__).parents[2]
DATA = ROOT / "acceptance" / "data"
HARNESS = [sys.executable, "-c", "from harness.cli import main; main()"]
GATE = [sys.executable, "-m", "pytest", "acceptance/", "-m", "gpu", "-p", "no:randomly"]
QUICK_TRAINING = '\n[training]\nepochs = 6\nlearning_rate = "0.002"\n'


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's root, as a user would."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def write_part_of_data(folder: Path) -> Path:
    """Write two of five records of the embedded data set: as few as can be judged."""
    folder.mkdir()
    shutil.copy(DATA / "taxonomy.tsv", folder)
    for path in DATA.glob("*.fa.gz"):
        records = gzip.decompress(path.read_bytes()).split(b">")[1:]
        kept = [record for number, record in enumerate(records) if number % 5 < 2]
        (folder / path.name).write_bytes(gzip.compress(b">" + b">".join(kept)))
    return folder


@pytest.mark.slow
def test_kit_when_the_production_profile_runs_on_it_then_it_is_judged_and_authorises_nothing(
    tmp_path: Path,
) -> None:
    """Reports say REHEARSAL; `harness verify` refuses; no code was run.

    On 180 test rows random weights may lose too much accuracy, and a lineage could be missing
    unnoticed; everything else passes.
    """
    kit, reports = tmp_path / "kit", tmp_path / "reports"
    data = write_part_of_data(tmp_path / "data")
    rehearse = ["rehearse", str(kit), "--scale", "tiny", "--data", str(data)]
    assert run(*HARNESS, *rehearse).returncode == 0
    settings = kit / "gate.toml"
    quick = settings.read_text().replace("sequences = 1000", "sequences = 50") + QUICK_TRAINING
    settings.write_text(quick)
    places = ["--work-dir", str(tmp_path / "work"), "--report-dir", str(reports)]

    gate = run(*GATE, "--gate-config", str(settings), *places)

    verdict = json.loads((reports / "verdict.json").read_text())
    states = {row["id"]: row["state"] for row in verdict["criteria"]}
    assert {*states} == {*REQUIRED_CRITERIA}
    assert states.pop("accuracy-drop") in ("PASS", "FAIL", "INCONCLUSIVE"), gate.stdout
    assert states.pop("representative-split") in ("PASS", "INCONCLUSIVE"), gate.stdout
    assert {*states.values()} == {"PASS"}, gate.stdout
    assert gate.returncode == (0 if verdict["verdict"] == "PASS" else 1)
    assert (verdict["profile"], verdict["rehearsal"]) == ("production", True)
    for name in ("report.md", "report.html"):
        assert "REHEARSAL" in (reports / name).read_text()
    verify = ["verify", verdict["artifacts"]["checkpoint"]["path"]]
    refusal = run(*HARNESS, *verify, "--verdict", str(reports / "verdict.json"))
    assert refusal.returncode == 1
    assert "the run was a rehearsal" in refusal.stderr or "HALT" in refusal.stderr
    assert not list(kit.rglob("EXECUTED"))
