"""The verdict: concluding, checking, writing and reading ``verdict.json``.

The one source of truth that every report is rendered from. How the criteria came out is settled by
:mod:`harness.gate.proof.ledger`; which facts a run reports is up to the stages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.artifacts import digest_json, write_atomically
from harness.errors import ArtifactError
from harness.gate.proof.schema import check_schema
from harness.gate.result import REQUIRED_CRITERIA

__all__ = [
    "build_verdict",
    "conclude",
    "digest_verdict",
    "open_verdict",
    "read_verdict",
    "write_verdict",
]

SCHEMA_VERSION = 1
VERDICT = "verdict.json"
# An older run's reports must not stand beside this run's verdict.
OTHER_REPORTS = ("report.md", "report.html", "junit.xml", "benchmark.json")


def open_verdict(
    folder: Path, *, profile: str, started: str, command: str
) -> tuple[dict[str, Any], FileLock]:
    """Take a report directory for one run and put INCOMPLETE in place of any older verdict.

    Returns
    -------
    verdict : dict
        The incomplete verdict; a killed run leaves it behind.
    lock : FileLock
        Held; to be released when the run has ended.

    Raises
    ------
    ArtifactError
        If another run holds the directory, or it cannot be written.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        for name in OTHER_REPORTS:
            (folder / name).unlink(missing_ok=True)
        verdict = _incomplete(profile=profile, started=started, command=command)
        write_verdict(folder / VERDICT, verdict)
    except Timeout as error:
        raise ArtifactError(f"{folder} belongs to another run, which has not ended") from error
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error}") from error
    return verdict, lock


def _incomplete(*, profile: str, started: str, command: str) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": "INCOMPLETE",
        "rehearsal": True,
        "rehearsal_reasons": ["the run has not ended"],
        "profile": profile,
        "started": started,
        "finished": None,
        "command": command,
        "halted_by": ["the run has not ended"],
        "criteria": [],
    }


def build_verdict(
    opening: Mapping[str, Any],
    *,
    rows: Sequence[Mapping[str, Any]],
    problems: Iterable[str],
    facts: Mapping[str, Any],
    environment: Mapping[str, Any],
    finished: str,
) -> dict[str, Any]:
    """Put the verdict of a run that has ended together and conclude it.

    Parameters
    ----------
    opening : mapping
        The run's incomplete verdict.
    rows : sequence of mappings
        One row per criterion.
    problems : iterable of str
        Everything else that went wrong in the run; each one blocks.
    facts : mapping
        What the stages report, as ``check_facts`` returned it. A run is a rehearsal unless they
        say, by an empty ``rehearsal_reasons``, that it is none.
    environment : mapping
        What it ran on.
    finished : str
        When it ended, as ISO 8601 in UTC.
    """
    reasons = list(facts.get("rehearsal_reasons", ["nothing was evaluated"]))
    if opening["profile"] == "tiny":
        reasons.insert(0, "the tiny profile proves the gate, not a model")
    verdict, halted_by = conclude(rows, [*problems, *_contradictory_metrics(facts)])
    return {
        **opening,
        **facts,
        "verdict": verdict,
        "rehearsal": bool(reasons),
        "rehearsal_reasons": reasons,
        "looser_than_deployment": list(facts.get("looser_than_deployment", [])),
        "finished": finished,
        "halted_by": halted_by,
        "criteria": [dict(row) for row in rows],
        "environment": dict(environment),
    }


def conclude(
    rows: Sequence[Mapping[str, Any]], problems: Iterable[str] = ()
) -> tuple[str, list[str]]:
    """Return PASS or HALT, and the reasons for HALT.

    PASS takes every required criterion and every other one at PASS, and no problem besides.

    Examples
    --------
    >>> conclude([{"id": name, "state": "PASS"} for name in REQUIRED_CRITERIA])
    ('PASS', [])
    """
    present = {row["id"] for row in rows}
    halted_by = [f"{row['id']}: {row['state']}" for row in rows if row["state"] != "PASS"]
    halted_by += [f"{name}: NOT_RUN" for name in REQUIRED_CRITERIA if name not in present]
    halted_by += problems
    return ("HALT" if halted_by else "PASS"), halted_by


def write_verdict(path: Path, verdict: Mapping[str, Any]) -> None:
    """Check a verdict against the schema and write it atomically, with its own digest."""
    signed = {**verdict, "digest": digest_verdict(verdict)}
    check_schema(signed, origin="the verdict of this run")
    write_atomically(path, json.dumps(signed, indent=1, allow_nan=False) + "\n")


def digest_verdict(verdict: Mapping[str, Any]) -> str:
    """Return the sha256 of a verdict's canonical JSON; it stands as ``digest`` in its file."""
    return digest_json(json.loads(json.dumps(verdict)))


def read_verdict(path: Path) -> dict[str, Any]:
    """Read a verdict back, as it was when it was written: without its digest.

    Raises
    ------
    ArtifactError
        If it is not there, is no verdict, was edited since it was written, or says PASS where its
        own contents say otherwise.
    """
    remedy = "Run pytest acceptance/ to obtain one"
    try:
        verdict = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: no verdict can be read ({error}). {remedy}") from error
    check_schema(verdict, origin=str(path))
    if (stated := verdict.pop("digest")) != (found := digest_verdict(verdict)):
        raise ArtifactError(
            f"{path}: was edited since it was written: its contents have the digest {found}, but "
            f"it states {stated}. {remedy}"
        )
    if verdict["verdict"] == "PASS":
        problems = [*verdict["halted_by"], *_contradictory_metrics(verdict)]
        _, contradictions = conclude(verdict["criteria"], problems)
        if contradictions:
            raise ArtifactError(
                f"{path}: says PASS, but holds {'; '.join(contradictions)}. {remedy}"
            )
    checked: dict[str, Any] = verdict
    return checked


def _contradictory_metrics(facts: Mapping[str, Any]) -> list[str]:
    """Recompute the metrics from each confusion matrix and name those that differ."""
    return [
        f"{side}: {name} is {stated!r}, but its confusion matrix gives {exact!r}"
        for side in ("baseline", "candidate")
        for name, exact in _metrics_of(facts.get(side, {}).get("confusion_matrix"))
        if (stated := facts[side].get("metrics", {}).get(name)) is not None
        and not math.isclose(stated, exact, abs_tol=1e-9)
    ]


def _metrics_of(matrix: Sequence[Sequence[int]] | None) -> list[tuple[str, float]]:
    """Return the metrics that a confusion matrix determines; 0 where a ratio is undefined."""
    if matrix is None:
        return []
    (true_negative, false_positive), (false_negative, true_positive) = matrix
    correct = true_negative + true_positive
    ratios = {
        "accuracy": (correct, correct + false_positive + false_negative),
        "precision": (true_positive, true_positive + false_positive),
        "recall": (true_positive, true_positive + false_negative),
        "f1": (2 * true_positive, 2 * true_positive + false_positive + false_negative),
    }
    return [(name, part / whole if whole else 0.0) for name, (part, whole) in ratios.items()]
