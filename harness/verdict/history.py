"""The verdicts that were given on one test set: ``verdicts.jsonl``, one line each, kept beside it.

Every look at a test set wears it out, so they are counted. What is wrong with the history is a
warning in the report and never changes a verdict; how the trend is shown is the reports' matter.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeGuard

from filelock import FileLock, Timeout

from harness.artifacts import write_atomically
from harness.documents import parse_json, read_text
from harness.errors import ArtifactError
from harness.verdict.contents import PastVerdict, Verdict, build, find_fault
from harness.verdict.verdict import digest_verdict

__all__ = [
    "PastVerdict",
    "describe_looks",
    "note_looks",
    "read_history",
    "remember",
    "summarise",
    "with_warning",
]
HISTORY = "verdicts.jsonl"
# A line is written in no time; who waits longer waits for a process that hangs.
LOCK_TIMEOUT_SECONDS = 10
# Earlier verdicts that a new one repeats, so that its report can show the trend.
MOST_EARLIER = 50
# False passes, in percent, at a true drop of exactly the limit if the best of so many looks is
# taken; simulated.
FALSE_PASSES = {1: "5", 3: "14", 5: "23", 10: "40"}


def parse_lines(text: str) -> list[PastVerdict | str]:
    """Return each line's verdict, or what is wrong with the line."""
    return [_parse(line) for line in text.removesuffix("\n").split("\n")] if text else []


def _parse(line: str) -> PastVerdict | str:
    try:
        content = parse_json(line)
    except ValueError as error:
        return str(error)
    return find_fault(content, "past") or build(PastVerdict, content)


def note_looks(facts: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    """Return the facts with the number of looks at the test set, this run's included.

    Parameters
    ----------
    facts : mapping
        What the stages report.
    verdict : Verdict
        What it comes to so far; its split tells the directory and the digest of the test ids. A
        run that tells nothing of the candidate's accuracy, be it judged or only shown among the
        metrics, has not looked.

    Returns
    -------
    dict
        The same facts, with ``looks``, ``history_lost`` (verdicts that were given and stand there
        no longer), ``earlier_verdicts`` and, if something is wrong,
        ``history_warning`` in ``split``. A damaged line counts as a look: some run has written it.
    """
    if verdict.split.directory is None:
        return dict(facts)
    split, test_sha256 = facts["split"], _test_sha256(verdict)
    path = Path(verdict.split.directory) / HISTORY
    try:
        lines = parse_lines(_read_text(path))
    except OSError as error:
        warning = f"The earlier verdicts on this test set cannot be read: {error}"
        return with_warning({**facts, "split": {**split, "looks": None}}, warning)
    lost = _count_lost(path, lines)
    looks = summarise(verdict, lines).looks + lost
    earlier = [asdict(line) for line in lines if _is_on(line, test_sha256)][-MOST_EARLIER:]
    found = {"looks": looks, "history_lost": lost, "earlier_verdicts": earlier}
    noted = {**facts, "split": {**split, **found}}
    if lost:
        warning = (
            f"{path}: the history was lost: {lost} verdicts on this test set no longer stand "
            "there, and are counted as looks. Restore it from a copy"
        )
        noted = with_warning(noted, warning)
    damaged = [str(number) for number, line in enumerate(lines, 1) if isinstance(line, str)]
    if damaged:
        return with_warning(noted, f"{path}: damaged, and counted as looks: {', '.join(damaged)}")
    return noted


def remember(verdict: Verdict) -> str:
    """Add a finished verdict to the history of its test set.

    Returns
    -------
    str
        Why it could not be added; empty if it was, or if the run did not get to a test set.
    """
    if verdict.split.directory is None:
        return ""
    directory = Path(verdict.split.directory)
    lock = FileLock(directory / f".{HISTORY}.lock", timeout=LOCK_TIMEOUT_SECONDS)
    try:
        with lock:
            _append(directory / HISTORY, verdict)
    except (OSError, Timeout) as error:
        return f"This verdict could not be added to {directory / HISTORY}: {error}"
    return ""


def with_warning(facts: Mapping[str, Any], warning: str) -> dict[str, Any]:
    """Return the facts with one more warning about the history."""
    split = facts["split"]
    warnings = filter(None, (split.get("history_warning"), warning))
    return {**facts, "split": {**split, "history_warning": ". ".join(warnings)}}


def read_history(directory: Path) -> list[PastVerdict]:
    """Return all verdicts on the test sets of a directory, oldest first; empty if there is none.

    Raises
    ------
    ArtifactError
        If the file cannot be read, or holds a damaged line, which is named.
    """
    path = directory / HISTORY
    try:
        lines = parse_lines(_read_text(path))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if isinstance(line, str):
            raise ArtifactError(
                f"{path}: line {number} is damaged: {line}. Restore it from a copy; till then it "
                "counts as a look"
            )
    return [line for line in lines if isinstance(line, PastVerdict)]


def describe_looks(looks: int) -> str:
    """Say how often a test set was judged, and why that matters."""
    times = "once" if looks == 1 else f"{looks:,} times"
    numbers, shares = "/".join(map(str, FALSE_PASSES)), "/".join(FALSE_PASSES.values())
    return (
        f"This test set has been judged {times}. At a true drop of exactly the limit, looking "
        f"{numbers} times passes {shares}% of the time."
    )


def summarise(verdict: Verdict, lines: Sequence[PastVerdict | str] = ()) -> PastVerdict:
    """Return a verdict as the history keeps it, after these lines."""
    drop, test_sha256 = _drop(verdict), _test_sha256(verdict)
    checkpoint, judged = verdict.artifacts.get("checkpoint"), verdict.rows.get("accuracy-drop")
    time = verdict.rows.get("embedding-time")
    line = PastVerdict(
        finished=verdict.finished or "",
        verdict=verdict.verdict,
        profile=verdict.profile,
        rehearsal=verdict.rehearsal,
        candidate=verdict.candidate.name,
        model_sha256=verdict.candidate.model_sha256,
        checkpoint_sha256=None if checkpoint is None else checkpoint.sha256,
        test_sha256=test_sha256,
        drop_points=drop,
        upper_bound_points=_finite(judged.interval[1]) if judged and judged.interval else None,
        time_ratio=_finite(time.value) if time else None,
        looks=0,
        digest=digest_verdict(verdict),
    )
    return replace(line, looks=_count([*lines, line], test_sha256))


def _append(path: Path, verdict: Verdict) -> None:
    """Write one line; one that an interrupted run left unfinished stays by itself."""
    before = _read_text(path)
    lines = parse_lines(before)
    lost = _count_lost(path, lines)
    entry = summarise(verdict, lines)
    entry = replace(entry, looks=entry.looks + lost)
    gap = "\n" if before and not before.endswith("\n") else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{gap}{json.dumps(asdict(entry), allow_nan=False)}\n")
        file.flush()
        os.fsync(file.fileno())
    write_atomically(_tally(path), f"{len(lines) + lost + 1}\n")


def _tally(path: Path) -> Path:
    """Return the file beside a test set's folder that says how many verdicts were given on it."""
    return path.parent.with_name(f"{path.parent.name}.verdicts")


def _count_lost(path: Path, lines: Sequence[PastVerdict | str]) -> int:
    """Return how many verdicts were given that no longer stand in the history."""
    try:
        given = int(read_text(_tally(path)))
    except FileNotFoundError:
        return 0
    except ValueError:
        return 1  # some run has written it
    return max(0, given - len(lines))


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _count(lines: Sequence[PastVerdict | str], test_sha256: str) -> int:
    """Count the looks at one test set; a damaged line may have been one.

    The same head judged again with the same result, as when only the time is measured again, tells
    nothing new. Predictions that were brought have no head to know them by: each counts.
    """
    looks = [line.look for line in lines if _is_on(line, test_sha256) and line.look]
    known = {look for look in looks if look[1] is not None}
    n_damaged = sum(isinstance(line, str) for line in lines)
    return n_damaged + len(known) + sum(look[1] is None for look in looks)


def _is_on(line: PastVerdict | str, test_sha256: str) -> TypeGuard[PastVerdict]:
    return isinstance(line, PastVerdict) and line.test_sha256 == test_sha256


def _test_sha256(verdict: Verdict) -> str:
    return verdict.split.ids_sha256.get("test", "")


def _drop(verdict: Verdict) -> float | None:
    """Return the drop in points that was judged, else the one that the metrics tell, if any."""
    judged = verdict.rows.get("accuracy-drop")
    if judged is not None and judged.value is not None:
        return float(judged.value)
    shown = verdict.differences.get("accuracy")
    return None if shown is None or shown.value is None else -100 * shown.value


def _finite(text: str | None) -> float | None:
    number = math.nan if text is None else float(text)
    return number if math.isfinite(number) else None
