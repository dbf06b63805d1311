"""The answer: the verdict in a sentence, its marks, and one row for each criterion."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.criteria import CRITERIA
from harness.report.document import Blocker, Criterion, Outcome, show_moment
from harness.report.reading import as_mapping, as_pair, as_rows, as_text, as_texts

__all__ = [
    "SYMBOLS",
    "read_blockers",
    "read_criteria",
    "read_outcome",
]


# Each state has a word, a symbol and a colour, so that no reader depends on the colour.
SYMBOLS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "NOT_RUN": "○", "ERROR": "!"}

# How each criterion's value is compared with its limit, and what it asks.
_COMPARISONS = {criterion.id: criterion.comparison for criterion in CRITERIA}
_QUESTIONS = {criterion.id: criterion.question for criterion in CRITERIA}

# How the states are told in a sentence, worst first.
_TOLD = {
    "ERROR": "broke down",
    "FAIL": "failed",
    "INCONCLUSIVE": "inconclusive",
    "NOT_RUN": "not run",
}
MOST_NAMES = 3
_FAILED_IN = re.compile(r"^Its test failed in \w+: ")
NO_CHECKPOINT = "The candidate's head was not trained here: there is no checkpoint to authorise."


def read_outcome(verdict: Mapping[str, Any]) -> Outcome:
    """Return the verdict as a sentence, with what must be known before it is believed."""
    criteria = read_criteria(verdict)
    rows = {f"{criterion.id}: {criterion.state}" for criterion in criteria}
    reasons = as_texts(verdict.get("halted_by"))
    problems = tuple(reason for reason in reasons if reason not in rows)
    word = as_text(verdict.get("verdict")) or "INCOMPLETE"
    is_rehearsal = verdict.get("rehearsal") is not False
    loose = as_texts(verdict.get("looser_than_deployment"))
    has_checkpoint = _names_checkpoint(verdict)
    may_deploy = word == "PASS" and not is_rehearsal and not loose and has_checkpoint
    return Outcome(
        verdict=word,
        symbol={"PASS": "✓", "HALT": "✗"}.get(word, "…"),
        answer=_answer(
            word, is_rehearsal=is_rehearsal, is_loose=bool(loose), may_deploy=may_deploy
        ),
        may_deploy=may_deploy,
        because=_because(criteria, problems),
        problems=problems,
        marks=(
            *_marks(verdict, is_rehearsal=is_rehearsal, loose=loose),
            *([NO_CHECKPOINT] if word == "PASS" and not has_checkpoint else []),
        ),
        short_mark=_short_mark(verdict, is_rehearsal=is_rehearsal, loose=loose),
        profile=as_text(verdict.get("profile")),
        started=show_moment(as_text(verdict.get("started"))),
        finished=show_moment(as_text(verdict.get("finished"))),
    )


def read_criteria(verdict: Mapping[str, Any]) -> tuple[Criterion, ...]:
    """Return the criteria in the order of the verdict, with their units in the text."""
    return tuple(_criterion(row) for row in as_rows(verdict.get("criteria")))


def read_blockers(criteria: Sequence[Criterion]) -> tuple[Blocker, ...]:
    """Return what keeps criteria from passing, each thing once."""
    groups: dict[tuple[str, ...], list[Criterion]] = {}
    for row in criteria:
        if row.state != "PASS":
            groups.setdefault((row.state, *_cause(row)), []).append(row)
    return tuple(
        Blocker(
            criteria=tuple(row.id for row in rows),
            state_words=rows[0].state_words,
            symbol=rows[0].symbol,
            detail=rows[0].detail,
            next_steps=rows[0].next_steps,
        )
        for rows in groups.values()
    )


def _cause(row: Criterion) -> tuple[str, ...]:
    """Return what tells causes apart: for an exception not the test or the phase it hit."""
    if row.state != "ERROR":
        return (row.detail, *row.next_steps)
    return (_FAILED_IN.sub("", row.detail),)


def _because(criteria: Sequence[Criterion], problems: Sequence[str]) -> str:
    parts = []
    for state, words in _TOLD.items():
        rows = [row for row in criteria if row.state == state]
        if len(rows) > MOST_NAMES:
            parts.append(f"{words}: {len(rows)} of {len(criteria)} criteria")
        elif rows:
            parts.append(f"{words}: {', '.join(map(_name_and_value, rows))}")
    parts += [f"also: {problem}" for problem in problems[:1]]
    parts += [f"and {len(problems) - 1} more"] if len(problems) > 1 else []
    return "; ".join(parts)


def _name_and_value(row: Criterion) -> str:
    """Return the criterion with its value and limit, the unit once."""
    if not (row.value and row.limit):
        return row.id
    limit = row.limit.removesuffix(row.value.partition(" ")[2]).strip()
    return f"{row.id} ({row.value}; limit: {limit})"


def _answer(word: str, *, is_rehearsal: bool, is_loose: bool, may_deploy: bool) -> str:
    if word == "HALT":
        return "Deployment halted"
    if word != "PASS":
        return "Run incomplete: deployment halted"
    if may_deploy:
        return "Ready to deploy"
    if is_rehearsal:
        return "Rehearsal passed"
    return "Passed under looser limits" if is_loose else "Passed, with no checkpoint to deploy"


def _names_checkpoint(verdict: Mapping[str, Any]) -> bool:
    """Whether the candidate's head was trained here, so that there is a file to deploy."""
    checkpoint = as_mapping(as_mapping(verdict.get("artifacts")).get("checkpoint"))
    return bool(as_text(checkpoint.get("sha256")))


def _marks(
    verdict: Mapping[str, Any], *, is_rehearsal: bool, loose: tuple[str, ...]
) -> tuple[str, ...]:
    marks = []
    if is_rehearsal:
        reasons = "; ".join(as_texts(verdict.get("rehearsal_reasons")))
        because = f" ({reasons})" if reasons else ""
        marks.append(f"REHEARSAL{because}: it authorises no deployment.")
    if loose:
        marks.append(
            f"Looser than a deployment allows: {', '.join(loose)}. It authorises no deployment."
        )
    return tuple(marks)


def _short_mark(verdict: Mapping[str, Any], *, is_rehearsal: bool, loose: tuple[str, ...]) -> str:
    words = ["REHEARSAL"] if is_rehearsal else []
    words += ["random weights"] if _random_sides(verdict) else []
    words += ["looser limits"] if loose else []
    return " · ".join(words)


def _random_sides(verdict: Mapping[str, Any]) -> list[str]:
    sides = ("baseline", "candidate")
    return [side for side in sides if as_mapping(verdict.get(side)).get("is_random") is True]


def _criterion(row: Mapping[str, Any]) -> Criterion:
    name, state, unit = (as_text(row.get(key)) for key in ("id", "state", "unit"))
    limit, ends = as_text(row.get("limit")), as_pair(row.get("interval"))
    low_high = [end.replace("-", "\N{MINUS SIGN}") for end in as_texts(row.get("interval"))]
    return Criterion(
        id=name,
        state=state,
        symbol=SYMBOLS.get(state, "!"),
        question=_QUESTIONS.get(name, ""),
        value=_with_unit(as_text(row.get("value")).replace("-", "\N{MINUS SIGN}"), unit),
        limit=" ".join(filter(None, (_COMPARISONS.get(name), _with_unit(limit, unit))))
        if limit
        else "",
        interval=_with_unit(" to ".join(low_high), unit) if ends else "",
        detail=as_text(row.get("detail")),
        warnings=as_texts(row.get("warnings")),
        next_steps=as_texts(row.get("next_steps")),
    )


def _with_unit(number: str, unit: str) -> str:
    return f"{number} {unit}".strip() if number else ""
