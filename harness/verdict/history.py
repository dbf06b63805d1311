"""The verdicts that were given on one test set: ``verdicts.jsonl``, one line each, kept beside it.

Every look at a test set wears it out, so they are counted. What is wrong with the history is a
warning in the report and never changes a verdict; how the trend is shown is the reports' matter.

One line of ``verdicts.jsonl``: a verdict that was given before, as a later run reads it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeGuard

from filelock import FileLock, Timeout

from harness.errors import ArtifactError
from harness.verdict.verdict import digest_verdict

__all__ = [
    "PastVerdict",
    "describe_looks",
    "note_looks",
    "parse_lines",
    "read_history",
    "remember",
    "with_warning",
]


# Embedder and head of the candidate, its drop and the bound: what one look can tell.
Look: TypeAlias = tuple[str | None, str | None, float, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVerdict:
    """One line of the history.

    Attributes
    ----------
    finished : str
        When the run ended, as ISO 8601 in UTC.
    verdict : str
        ``PASS`` or ``HALT``.
    profile : str
        ``tiny`` or ``production``.
    rehearsal : bool
        Whether the run could authorise nothing.
    candidate : str
        The candidate's name.
    model_sha256, checkpoint_sha256 : str or None
        Digests of the candidate's embedder weights and of its head.
    test_sha256 : str
        Digest of the test set's ids.
    drop_points, upper_bound_points : float or None
        The accuracy drop, judged or only shown, and the 95% bound on it, in percentage points;
        None if it is not known.
    time_ratio : float or None
        The candidate's embedding time over the baseline's; None if not judged.
    looks : int
        How often something new was seen of the candidate's accuracy on this test set, by this run
        included.
    digest : str
        The ``digest`` of the run's ``verdict.json``.
    """

    finished: str
    verdict: str
    profile: str
    rehearsal: bool
    candidate: str
    model_sha256: str | None
    checkpoint_sha256: str | None
    test_sha256: str
    drop_points: float | None
    upper_bound_points: float | None
    time_ratio: float | None
    looks: int
    digest: str

    @property
    def look(self) -> Look | None:
        """What the run learned of the candidate's accuracy on the test set; None if nothing."""
        if self.drop_points is None:
            return None
        judged = (self.model_sha256, self.checkpoint_sha256)
        return (*judged, self.drop_points, self.upper_bound_points)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read one line.

        Raises
        ------
        ValueError
            If it is no JSON object, or keys are missing, unknown or of another type.
        """
        content = json.loads(line)
        known = {item.name for item in fields(cls)}
        if not isinstance(content, dict) or set(content) != known:
            raise ValueError(f"expected an object with {', '.join(sorted(known))}")
        wrong = [name for name, value in content.items() if type(value) not in _TYPES[name]]
        if wrong:
            raise ValueError(f"{wrong[0]} is {content[wrong[0]]!r}")
        return cls(**content)


_TEXTS = ("finished", "verdict", "profile", "candidate", "test_sha256", "digest")
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, (str,)),
    **dict.fromkeys(("model_sha256", "checkpoint_sha256"), (str, type(None))),
    **dict.fromkeys(("drop_points", "upper_bound_points", "time_ratio"), (float, int, type(None))),
    "rehearsal": (bool,),
    "looks": (int,),
}


def parse_lines(text: str) -> list[PastVerdict | str]:
    """Return each line's verdict, or what is wrong with the line."""
    return [_parse(line) for line in text.removesuffix("\n").split("\n")] if text else []


def _parse(line: str) -> PastVerdict | str:
    try:
        return PastVerdict.from_json(line)
    except ValueError as error:
        return str(error)


HISTORY = "verdicts.jsonl"
# A line is written in no time; who waits longer waits for a process that hangs.
LOCK_TIMEOUT_SECONDS = 10
# Earlier verdicts that a new one repeats, so that its report can show the trend.
MOST_EARLIER = 50
# False passes at a true drop of exactly 5 points if the best of so many looks is taken; simulated.
FALSE_PASSES = {1: "5", 3: "14", 5: "23", 10: "40"}


def note_looks(facts: Mapping[str, Any], criteria: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts with the number of looks at the test set, this run's included.

    Parameters
    ----------
    facts : mapping
        What the stages report; ``split`` tells the directory and the digest of the test ids.
    criteria : sequence of mappings
        The rows of the verdict. A run that tells nothing of the candidate's accuracy, be it
        judged or only shown among the metrics, has not looked.

    Returns
    -------
    dict
        The same facts, with ``looks``, ``earlier_verdicts`` and, if something is wrong,
        ``history_warning`` in ``split``. A damaged line counts as a look: some run has written it.
    """
    split = facts.get("split", {})
    if "directory" not in split:
        return dict(facts)
    path = Path(split["directory"]) / HISTORY
    try:
        lines = parse_lines(_read_text(path))
    except OSError as error:
        warning = f"The earlier verdicts on this test set cannot be read: {error}"
        return with_warning({**facts, "split": {**split, "looks": None}}, warning)
    looks = _count([*lines, _line(facts, criteria)], _test_sha256(split))
    earlier = [asdict(line) for line in lines if _is_on(line, _test_sha256(split))][-MOST_EARLIER:]
    noted = {**facts, "split": {**split, "looks": looks, "earlier_verdicts": earlier}}
    damaged = [str(number) for number, line in enumerate(lines, 1) if isinstance(line, str)]
    if damaged:
        return with_warning(noted, f"{path}: damaged, and counted as looks: {', '.join(damaged)}")
    return noted


def remember(verdict: Mapping[str, Any]) -> str:
    """Add a finished verdict to the history of its test set.

    Returns
    -------
    str
        Why it could not be added; empty if it was, or if the run did not get to a test set.
    """
    split = verdict.get("split", {})
    if "directory" not in split:
        return ""
    directory = Path(split["directory"])
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
                f"{path}: line {number} is damaged: {line}. Restore it from a copy, or delete the "
                "line; it counts as a look as long as it stands there"
            )
    return [line for line in lines if isinstance(line, PastVerdict)]


def describe_looks(looks: int) -> str:
    """Say how often a test set was judged, and why that matters."""
    times = "once" if looks == 1 else f"{looks:,} times"
    numbers, shares = "/".join(map(str, FALSE_PASSES)), "/".join(FALSE_PASSES.values())
    return (
        f"This test set has been judged {times}. At a true drop of 5 points, looking {numbers} "
        f"times passes {shares}% of the time."
    )


def _append(path: Path, verdict: Mapping[str, Any]) -> None:
    """Write one line; one that an interrupted run left unfinished stays by itself."""
    before = _read_text(path)
    entry = _entry(verdict, parse_lines(before))
    gap = "\n" if before and not before.endswith("\n") else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{gap}{json.dumps(asdict(entry), allow_nan=False)}\n")
        file.flush()
        os.fsync(file.fileno())


def _entry(verdict: Mapping[str, Any], lines: Sequence[PastVerdict | str]) -> PastVerdict:
    line = _line(verdict, verdict["criteria"])
    looks = _count([*lines, line], line.test_sha256)
    return replace(line, looks=looks, digest=digest_verdict(verdict))


def _line(facts: Mapping[str, Any], criteria: Sequence[Mapping[str, Any]]) -> PastVerdict:
    """Return what a run's line says, as far as it is known before the verdict is whole."""
    candidate = facts.get("candidate", {})
    return PastVerdict(
        finished=facts.get("finished", ""),
        verdict=facts.get("verdict", ""),
        profile=facts.get("profile", ""),
        rehearsal=facts.get("rehearsal", False),
        candidate=candidate.get("name") or "",
        model_sha256=candidate.get("model_sha256"),
        checkpoint_sha256=facts.get("artifacts", {}).get("checkpoint", {}).get("sha256"),
        test_sha256=_test_sha256(facts["split"]),
        drop_points=_drop(facts, criteria),
        upper_bound_points=_upper_end(criteria, "accuracy-drop"),
        time_ratio=_value(criteria, "embedding-time"),
        looks=0,
        digest="",
    )


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


def _test_sha256(split: Mapping[str, Any]) -> str:
    return str(split.get("ids_sha256", {}).get("test", ""))


def _value(criteria: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row["value"] for row in criteria if row["id"] == name]
    return _finite(values[0]) if values else None


def _drop(facts: Mapping[str, Any], criteria: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the drop in points that was judged, else the one that the metrics tell, if any."""
    judged = _value(criteria, "accuracy-drop")
    shown = facts.get("differences", {}).get("accuracy", {}).get("value")
    return -100 * shown if judged is None and shown is not None else judged


def _upper_end(criteria: Sequence[Mapping[str, Any]], name: str) -> float | None:
    intervals = [row["interval"] for row in criteria if row["id"] == name]
    return _finite(intervals[0][1]) if intervals and intervals[0] else None


def _finite(text: str | None) -> float | None:
    number = math.nan if text is None else float(text)
    return number if math.isfinite(number) else None
