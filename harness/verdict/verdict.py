"""The verdict: concluding, checking, writing and reading ``verdict.json``.

The one source of truth that every report is rendered from. How the criteria came out is settled by
:mod:`harness.verdict.ledger`; which facts a run reports is up to the stages.

The published schema of ``verdict.json``, and what the stages may put into it.

Whether a verdict authorises a file: what a deployment asks before it ships a head.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
from filelock import FileLock, Timeout

from harness.artifacts import digest_file, digest_json, write_atomically
from harness.config import (
    DEPLOYMENT_DROP_POINTS,
    DEPLOYMENT_RUNS,
    DEPLOYMENT_SEQUENCES,
    DEPLOYMENT_TIME_RATIO,
)
from harness.criteria.result import REQUIRED_CRITERIA
from harness.errors import ArtifactError, HarnessError, MissingInput

__all__ = [
    "NotAuthorised",
    "authorise",
    "build_verdict",
    "check_facts",
    "check_schema",
    "conclude",
    "digest_verdict",
    "open_verdict",
    "read_verdict",
    "write_verdict",
]


SCHEMA_PATH = Path(__file__).with_name("verdict.schema.json")

# What the stages may report; the rest of a verdict is the gate's own.
FACTS = (
    "baseline",
    "candidate",
    "differences",
    "breakdowns",
    "data",
    "split",
    "training",
    "timing",
    "extraction",
    "stages",
    "peak_memory_bytes",
    "artifacts",
    "rehearsal_reasons",
    "reservations",
    "looser_than_deployment",
    "selftest",
)


def check_facts(parts: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Join what the stages report, and keep what a verdict can hold.

    Parameters
    ----------
    parts : iterable of mappings
        What each provider reports, by top-level key of the verdict.

    Returns
    -------
    kept : dict of JSON values
        The usable facts, with tuples turned into lists.
    problems : list of str
        One line for each fact that is unknown, told twice, no JSON, or against the schema.
    """
    kept: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in (item for part in parts for item in part.items()):
        try:
            _refuse_second(name, kept)
            kept[name] = _check_fact(name, value)
        except (TypeError, ValueError) as error:
            problems.append(f"the reported {name!r} cannot be used: {error}")
    return kept, problems


def check_schema(verdict: Any, *, origin: str) -> None:
    """Raise ArtifactError, naming the origin, unless this is a verdict."""
    error = jsonschema.exceptions.best_match(_validator(_schema()).iter_errors(verdict))
    if error is not None:
        raise ArtifactError(f"{origin}: not a verdict: {error.json_path}: {error.message}")


def _refuse_second(name: str, kept: Mapping[str, Any]) -> None:
    if name in kept:
        raise ValueError("it was reported twice")


def _check_fact(name: str, value: Any) -> Any:
    if name not in FACTS:
        raise ValueError(f"known are {', '.join(FACTS)}")
    plain = json.loads(json.dumps(value, allow_nan=False))
    schema = {**_schema(), "required": []}
    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors({name: plain}))
    if error is not None:
        raise ValueError(f"{error.json_path}: {error.message}")
    return plain


@functools.cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    return schema


def _validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema)


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


DEPLOYMENT_LIMITS = {
    "accuracy-drop": DEPLOYMENT_DROP_POINTS,
    "embedding-time": DEPLOYMENT_TIME_RATIO,
}


class NotAuthorised(HarnessError):  # noqa: N818 - says what is so, not what broke
    """The file may not be deployed on the strength of this verdict."""


def authorise(checkpoint: Path, verdict_path: Path) -> None:
    """Raise unless the verdict is a PASS, no rehearsal, on deployment limits, for this very file.

    Parameters
    ----------
    checkpoint : Path
        The head that is to be deployed.
    verdict_path : Path
        A ``verdict.json``.

    Raises
    ------
    MissingInput
        If the checkpoint is not there.
    ArtifactError
        If the verdict cannot be read, was edited, or contradicts itself.
    NotAuthorised
        For every other reason; all that hold are said.
    """
    if not checkpoint.is_file():
        raise MissingInput(f"There is no {checkpoint}", remedy="Name the head's file")
    verdict = read_verdict(verdict_path)
    if reasons := list(_objections(verdict)):
        raise NotAuthorised(f"{verdict_path}: {'; '.join(reasons)}")
    expected = verdict.get("artifacts", {}).get("checkpoint", {}).get("sha256")
    if expected is None:
        raise NotAuthorised(
            f"{verdict_path}: names no checkpoint, since the candidate's head was not trained by "
            "that run; it authorises none"
        )
    if (found := digest_file(checkpoint)) != expected:
        raise NotAuthorised(
            f"{checkpoint}: sha256 {found} is not the one that was judged, {expected}. "
            "Deploy the judged file, or run the gate on this one"
        )


def _objections(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a verdict authorises nothing, whatever the file."""
    if verdict["verdict"] != "PASS":
        reasons = "; ".join(verdict["halted_by"]) or "the run has not ended"
        yield f"the verdict is {verdict['verdict']} ({reasons})"
        return  # what was not reached need not be listed
    if verdict["profile"] != "production":
        yield f"the profile is {verdict['profile']}; only the production profile judges a model"
    if verdict["rehearsal"]:
        yield f"the run was a rehearsal ({'; '.join(verdict.get('rehearsal_reasons', []))})"
    if loose := verdict.get("looser_than_deployment"):
        yield f"looser than a deployment allows: {', '.join(loose)}"
    yield from _loose_limits(verdict)
    yield from _missing_rounds(verdict.get("timing", {}))
    yield from _missing_sequences(verdict)


def _loose_limits(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Yield the limits that were really used and are looser, whatever the settings are said to be.

    A limit is rounded for display, so the value that passed, which is exact, is compared as well.
    """
    rows = {row["id"]: row for row in verdict["criteria"]}
    for name, allowed in DEPLOYMENT_LIMITS.items():
        row = rows[name]
        limit = _decimal(row["limit"])
        if limit is None or None in (row["numerator"], row["denominator"]):
            yield f"{name} names no limit or no value"
        elif limit > allowed:
            yield f"{name} was judged by {row['limit']}, and a deployment allows {float(allowed):g}"
        elif Fraction(row["numerator"], row["denominator"] or 1) > allowed:
            yield f"{name} is {row['value']}, over the {float(allowed):g} that a deployment allows"


def _missing_rounds(timing: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sides with fewer timed rounds than a deployment asks for."""
    for side in ("baseline", "candidate"):
        rounds = [x for x in timing.get(f"{side}_seconds", []) if _is_duration(x)]
        if len(rounds) < DEPLOYMENT_RUNS:
            yield f"the {side} has {len(rounds)} timed rounds of at least {DEPLOYMENT_RUNS}"


def _missing_sequences(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Yield that fewer sequences were timed than a deployment asks for, or than there are."""
    timed = verdict.get("timing", {}).get("n_sequences", 0)
    fewest = min(DEPLOYMENT_SEQUENCES, verdict.get("split", {}).get("n_test", DEPLOYMENT_SEQUENCES))
    if timed < fewest:
        yield f"{timed:,} sequences were timed of at least {fewest:,}"


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0


def _decimal(text: str | None) -> Fraction | None:
    try:
        return None if text is None else Fraction(text)
    except ValueError:
        return None
