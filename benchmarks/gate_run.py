"""One run of the gate on a rehearsal kit, as a user would start it, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["BASELINE", "CANDIDATE", "Bench", "Run", "run_gate"]

ROOT = Path(__file__).parents[1]
BASELINE, CANDIDATE = "esm2_t36_3B_UR50D", "FastESM2_650"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the faults are planted in.

    Attributes
    ----------
    kit, work : Path
        The rehearsal kit, and the work directory of a finished run on it.
    scratch : Path
        Takes what a fault writes, and the reports.
    """

    kit: Path
    work: Path
    scratch: Path

    def config(self, *changes: tuple[str, str]) -> Path:
        """Return the kit's settings with some text replaced; each must be there."""
        text = (self.kit / "gate.toml").read_text(encoding="utf-8")
        text = text.replace('"data/', f'"{self.kit}/data/')
        for name in (BASELINE, CANDIDATE):
            text = text.replace(f'model = "{name}"', f'model = "{self.kit / name}"')
        for old, new in changes:
            if old not in text:
                raise ValueError(f"{self.kit / 'gate.toml'} does not say {old!r}")
            text = text.replace(old, new)
        path = self.scratch / "gate.toml"
        path.write_text(text, encoding="utf-8")
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run of the gate.

    Attributes
    ----------
    exit_code : int
        pytest's.
    verdict : dict
        The content of ``verdict.json``.
    text : str
        What the run said: its output, its log and its report.
    elapsed_seconds : float
        Wall clock of the whole process.
    """

    exit_code: int
    verdict: dict[str, Any]
    text: str
    elapsed_seconds: float

    def row(self, criterion: str) -> dict[str, Any]:
        """Return a criterion's row of the verdict."""
        return next(row for row in self.verdict["criteria"] if row["id"] == criterion)


def run_gate(
    bench: Bench,
    config: Path,
    tests: str,
    *,
    work: Path | None = None,
    **environment: str,
) -> Run:
    """Run some of the gate's tests in a fresh process, and read what they wrote.

    Parameters
    ----------
    bench : Bench
        Takes log and reports.
    config : Path
        The run's ``gate.toml``.
    tests : str
        A pytest ``-k`` expression.
    work : Path, optional
        The work directory, if not the bench's.
    **environment : str
        More variables of the environment.
    """
    reports, log = bench.scratch / "reports", bench.scratch / "log.txt"
    command = [sys.executable, "-m", "pytest", "acceptance/", "-m", "gpu", "-k", tests]
    command += ["--gate-config", str(config), "--work-dir", str(work or bench.work)]
    command += ["--report-dir", str(reports), "--log-file", str(log), "--log-file-level=WARNING"]
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    elapsed_seconds = time.perf_counter() - started
    verdict = reports / "verdict.json"
    if not verdict.is_file():
        raise SystemExit(f"{' '.join(command)} left no verdict:\n{done.stdout}\n{done.stderr}")
    texts = [path.read_text(encoding="utf-8") for path in (log, reports / "report.md")]
    return Run(
        exit_code=done.returncode,
        verdict=json.loads(verdict.read_text(encoding="utf-8")),
        text="\n".join([*texts, done.stdout, done.stderr]),
        elapsed_seconds=elapsed_seconds,
    )
