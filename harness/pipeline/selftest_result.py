"""What a self-test found, and where it is kept for the verdicts of the same configuration."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.artifacts import digest_json, write_atomically
from harness.config import GateConfig
from harness.errors import ArtifactError
from harness.gate.result import State

__all__ = ["FaultOutcome", "SelfTestResult", "keep_selftest", "summarise_kept_selftest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOutcome:
    """How the gate took one planted fault.

    Attributes
    ----------
    fault, criterion : str
        What was planted; which criterion had to notice.
    expected : tuple of State
        How the criterion had to come out.
    found : State
        How it did.
    detail : str
        What it said.
    is_caught : bool
        Whether state and evidence are as expected.
    """

    fault: str
    criterion: str
    expected: tuple[State, ...]
    found: State
    detail: str
    is_caught: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestResult:
    """All faults of one self-test, and when it ended (ISO 8601, UTC)."""

    outcomes: tuple[FaultOutcome, ...]
    finished: str

    @property
    def failed(self) -> int:
        """How many faults were not taken as expected."""
        return sum(not outcome.is_caught for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, with the version of the project that was tested."""
        total = len(self.outcomes)
        return {
            "version": __version__,
            "passed": total - self.failed,
            "failed": self.failed,
            "total": total,
            "finished": self.finished,
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
        }


def keep_selftest(result: SelfTestResult, work_dir: Path, config: GateConfig) -> Path:
    """Keep a result, in place of an older one of the same configuration; return its file."""
    path = _path(work_dir, config)
    write_atomically(path, json.dumps(result.to_dict(), indent=1) + "\n")
    return path


def summarise_kept_selftest(work_dir: Path, config: GateConfig) -> dict[str, Any] | None:
    """Return passed, failed, total and finished of the kept self-test of a configuration.

    Returns
    -------
    dict of JSON values, or None
        None if there is none, or if it tested another version of this project.

    Raises
    ------
    ArtifactError
        If the file is damaged.
    """
    path = _path(work_dir, config)
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        summary = {name: kept[name] for name in ("passed", "failed", "total", "finished")}
        return summary if kept["version"] == __version__ else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: no result of a self-test ({error!r}). Delete it, or run harness selftest"
        ) from error


def _path(work_dir: Path, config: GateConfig) -> Path:
    return work_dir / "selftest" / f"{digest_json(config.to_dict())[:16]}.json"
