"""The verdict of a run: opened, concluded, written, read back, and what it authorises.

``verdict.json`` is the one source of truth that every report is rendered from. What it holds is
:mod:`harness.verdict.contents`' matter, how a criterion came out is settled by
:mod:`harness.verdict.ledger`, and which facts a run reports is up to the stages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.artifacts import digest_file, digest_json, write_atomically
from harness.config import DEPLOYMENT_RUNS, DEPLOYMENT_SEQUENCES
from harness.criteria import CRITERIA, REQUIRED_CRITERIA
from harness.criteria.result import State
from harness.documents import read_json
from harness.errors import ArtifactError, HarnessError, MissingInput
from harness.verdict.consistency import find_contradictions
from harness.verdict.contents import (
    SIDES,
    ArtifactEntry,
    CriterionRow,
    Json,
    Timing,
    Verdict,
    build,
    find_fault,
    parse_verdict,
)

__all__ = [
    "NotAuthorised",
    "authorise",
    "build_verdict",
    "check_facts",
    "conclude",
    "digest_verdict",
    "find_judged",
    "open_verdict",
    "read_verdict",
    "write_verdict",
]

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


def _refuse_second(name: str, kept: Mapping[str, Any]) -> None:
    if name in kept:
        raise ValueError("it was reported twice")


def _check_fact(name: str, value: Any) -> Any:
    if name not in FACTS:
        raise ValueError(f"known are {', '.join(FACTS)}")
    plain = _plain(value)
    if fault := find_fault({name: plain}, "facts"):
        raise ValueError(fault)
    return plain


SCHEMA_VERSION = 1
VERDICT = "verdict.json"
THIS_RUN = "the verdict of this run"
# An older run's reports must not stand beside this run's verdict.
OTHER_REPORTS = ("report.md", "report.html", "junit.xml", "benchmark.json")


def open_verdict(
    folder: Path, *, profile: str, started: str, command: str
) -> tuple[dict[str, Any], FileLock]:
    """Take a report directory for one run and put INCOMPLETE in place of any older verdict.

    Returns
    -------
    opening : dict of JSON values
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
        opening = _incomplete(profile=profile, started=started, command=command)
        write_verdict(folder / VERDICT, parse_verdict(opening, origin=THIS_RUN))
    except Timeout as error:
        raise ArtifactError(f"{folder} belongs to another run, which has not ended") from error
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error}") from error
    return opening, lock


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
    opening: Json,
    *,
    rows: Sequence[Json],
    problems: Iterable[str],
    facts: Json,
    environment: Json,
    finished: str,
) -> Verdict:
    """Put the verdict of a run that has ended together, conclude and check it.

    Parameters
    ----------
    opening : mapping
        The run's incomplete verdict, as JSON.
    rows : sequence of mappings
        One row per criterion, as JSON.
    problems : iterable of str
        Everything else that went wrong in the run; each one blocks.
    facts : mapping
        What the stages report, as ``check_facts`` returned it. A run is a rehearsal unless they
        say, by an empty ``rehearsal_reasons``, that it is none.
    environment : mapping
        What it ran on.
    finished : str
        When it ended, as ISO 8601 in UTC.

    Raises
    ------
    ArtifactError
        If the schema does not allow it.
    """
    reasons = list(facts.get("rehearsal_reasons", ["nothing was evaluated"]))
    if opening["profile"] == "tiny":
        reasons.insert(0, "the tiny profile proves the gate, not a model")
    content = {**opening, **facts}
    content |= {"verdict": "HALT", "rehearsal": bool(reasons), "rehearsal_reasons": reasons}
    content |= {"looser_than_deployment": list(facts.get("looser_than_deployment", []))}
    content |= {"finished": finished, "halted_by": [], "criteria": [*rows]}
    told = [sentence for row in rows for sentence in row.get("reservations", ())]
    content |= {"reservations": [*facts.get("reservations", []), *told]}
    draft = parse_verdict(_plain(content | {"environment": environment}), origin=THIS_RUN)
    word, halted_by = conclude(draft.criteria, [*problems, *find_contradictions(draft)])
    said = {"verdict": word, "halted_by": halted_by}
    return build(Verdict, {**draft.content, **said})


def conclude(rows: Sequence[CriterionRow], problems: Iterable[str] = ()) -> tuple[str, list[str]]:
    """Return PASS or HALT, and the reasons for HALT.

    PASS takes every required criterion and every other one at PASS, and no problem besides.
    """
    present = {row.id for row in rows}
    halted_by = [f"{row.id}: {row.state}" for row in rows if row.state is not State.PASS]
    halted_by += [f"{name}: NOT_RUN" for name in REQUIRED_CRITERIA if name not in present]
    halted_by += problems
    return ("HALT" if halted_by else "PASS"), halted_by


def write_verdict(path: Path, verdict: Verdict) -> None:
    """Write a verdict atomically, with its own digest."""
    signed = {**verdict.content, "digest": digest_verdict(verdict)}
    write_atomically(path, json.dumps(signed, indent=1, allow_nan=False) + "\n")


def digest_verdict(verdict: Verdict) -> str:
    """Return the sha256 of a verdict's canonical JSON; it stands as ``digest`` in its file."""
    return digest_json(dict(verdict.content))


def read_verdict(path: Path) -> Verdict:
    """Read a verdict back, as it was when it was written.

    Raises
    ------
    ArtifactError
        If it is not there, is no verdict, was edited since it was written, says PASS where its own
        contents say otherwise, or holds parts that contradict each other.
    """
    remedy = "Run pytest acceptance/ to obtain one"
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: no verdict can be read ({error}). {remedy}") from error
    stated = content.pop("digest", None) if isinstance(content, dict) else None
    verdict = parse_verdict(content, origin=str(path))
    if stated != (found := digest_verdict(verdict)):
        raise ArtifactError(
            f"{path}: was edited since it was written: its contents have the digest {found}, but "
            f"it states {stated}. {remedy}"
        )
    if verdict.verdict == "PASS":
        said = conclude(verdict.criteria, verdict.halted_by)[1]
    else:
        said = [] if verdict.halted_by or verdict.finished is None else ["no reason for it"]
    unsaid = [what for what in find_contradictions(verdict) if what not in verdict.halted_by]
    if reasons := [*said, *unsaid]:
        holds = f"says {verdict.verdict}, but holds {'; '.join(reasons)}"
        raise ArtifactError(f"{path}: {holds}. {remedy}")
    return verdict


def _plain(value: object) -> Any:
    """Return what a file would give back, such as lists for tuples; NaN raises ValueError."""
    return json.loads(json.dumps(value, allow_nan=False))


EXPORTED_SUFFIX = ".pth"


class NotAuthorised(HarnessError):  # noqa: N818 - says what is so, not what broke
    """The file may not be deployed on the strength of this verdict."""


def authorise(
    checkpoint: Path, verdict_path: Path, *, is_history_lost_known: bool = False
) -> Verdict:
    """Return a verdict that is a PASS, no rehearsal, on deployment limits, for this very head.

    Parameters
    ----------
    checkpoint : Path
        The head that is to be deployed: the judged file, or a ``.pth`` that was exported from it.
    verdict_path : Path
        A ``verdict.json``.
    is_history_lost_known : bool
        Whether whoever asks knows that earlier verdicts on the test set were lost, if they were.

    Raises
    ------
    MissingInput
        If the checkpoint is not there, or the judged head that a ``.pth`` is to be compared with.
    ArtifactError
        If the verdict cannot be read, was edited, or contradicts itself.
    NotAuthorised
        For every other reason; all that hold are said.
    """
    if not checkpoint.is_file():
        raise MissingInput(f"There is no {checkpoint}", remedy="Name the head's file")
    verdict = read_verdict(verdict_path)
    reasons = list(_objections(verdict))
    if (lost := verdict.split.history_lost) and not is_history_lost_known:
        reasons.append(
            f"{lost} earlier verdicts on its test set were lost, so it was looked at more often "
            "than its history tells. Find out why, then say --history-lost"
        )
    if reasons:
        raise NotAuthorised(f"{verdict_path}: {'; '.join(reasons)}")
    judged = _judged_entry(verdict, verdict_path)
    if (found := digest_file(checkpoint)) == judged.sha256:
        return verdict
    if checkpoint.suffix != EXPORTED_SUFFIX:
        raise NotAuthorised(
            f"{checkpoint}: sha256 {found} is not the one that was judged, {judged.sha256}. "
            "Deploy the judged file, or run the gate on this one"
        )
    from harness.training.foreign import is_same_head

    original = find_judged(verdict, verdict_path)
    if not is_same_head(checkpoint, original):
        raise NotAuthorised(
            f"{checkpoint}: does not hold exactly the tensors of the judged head, {original}. "
            "Export that one, or run the gate on this one"
        )
    return verdict


def find_judged(verdict: Verdict, verdict_path: Path) -> Path:
    """Return the head that was judged: where the verdict names it, or beside the verdict.

    Raises
    ------
    NotAuthorised
        If the verdict names none.
    MissingInput
        If it is in neither place, or another file is.
    """
    judged = _judged_entry(verdict, verdict_path)
    named = Path(judged.path)
    beside = verdict_path.with_name(named.name)
    for path in (named, beside):
        if path.is_file() and digest_file(path) == judged.sha256:
            return path
    raise MissingInput(
        f"The head that was judged is neither {named} nor {beside}",
        remedy=f"Put {named.name} (sha256 {judged.sha256}) beside the verdict",
    )


def _judged_entry(verdict: Verdict, verdict_path: Path) -> ArtifactEntry:
    if judged := verdict.artifacts.get("checkpoint"):
        return judged
    raise NotAuthorised(
        f"{verdict_path}: names no checkpoint, since the candidate's head was not trained by "
        "that run; it authorises none"
    )


def _objections(verdict: Verdict) -> Iterator[str]:
    """Yield why a verdict authorises nothing, whatever the file."""
    if verdict.verdict != "PASS":
        reasons = "; ".join(verdict.halted_by) or "the run has not ended"
        yield f"the verdict is {verdict.verdict} ({reasons})"
        return  # what was not reached need not be listed
    if verdict.profile != "production":
        yield f"the profile is {verdict.profile}; only the production profile judges a model"
    if verdict.rehearsal:
        yield f"the run was a rehearsal ({'; '.join(verdict.rehearsal_reasons)})"
    if loose := verdict.looser_than_deployment:
        yield f"looser than a deployment allows: {', '.join(loose)}"
    yield from _loose_limits(verdict)
    yield from _missing_rounds(verdict.timing)
    yield from _missing_sequences(verdict)


def _loose_limits(verdict: Verdict) -> Iterator[str]:
    """Yield the limits that were really used and are looser, whatever the settings are said to be.

    A limit is rounded for display, so the value that passed, which is exact, is compared as well.
    """
    for name, allowed in ((c.id, c.deployment_limit) for c in CRITERIA):
        if allowed is None:
            continue
        row = verdict.rows[name]
        if row.limit is None or row.numerator is None or row.denominator is None:
            yield f"{name} names no limit or no value"
        elif Fraction(row.limit) > allowed:
            yield f"{name} was judged by {row.limit}, and a deployment allows {float(allowed):g}"
        elif Fraction(row.numerator, row.denominator) > allowed:
            yield f"{name} is {row.value}, over the {float(allowed):g} that a deployment allows"


def _missing_rounds(timing: Timing) -> Iterator[str]:
    """Yield the sides with fewer timed rounds than a deployment asks for."""
    rounds = zip(SIDES, (timing.baseline_seconds, timing.candidate_seconds), strict=True)
    for side, seconds in rounds:
        if (n := sum(one > 0 for one in seconds)) < DEPLOYMENT_RUNS:
            yield f"the {side} has {n} timed rounds of at least {DEPLOYMENT_RUNS}"


def _missing_sequences(verdict: Verdict) -> Iterator[str]:
    """Yield that fewer sequences were timed than a deployment asks for, or than there are."""
    timed, n_test = verdict.timing.n_sequences or 0, verdict.split.n_test
    fewest = DEPLOYMENT_SEQUENCES if n_test is None else min(DEPLOYMENT_SEQUENCES, n_test)
    if timed < fewest:
        yield f"{timed:,} sequences were timed of at least {fewest:,}"
