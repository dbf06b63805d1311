"""The report on a verdict: the answer and the criteria on top, then the sections in their order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.criteria import CRITERIA, REQUIRED_CRITERIA
from harness.report.accuracy import accuracy_blocks, breakdown_blocks
from harness.report.document import (
    SYMBOLS,
    Block,
    Blocker,
    Criterion,
    Document,
    Figure,
    Gallery,
    Items,
    Outcome,
    Paragraph,
    Scale,
    Section,
    show_measure,
    show_moment,
    show_number,
    side_name,
)
from harness.report.effort import (
    environment_blocks,
    extraction_blocks,
    speed_blocks,
    stages_blocks,
    training_blocks,
)
from harness.report.evidence import dataset_blocks, evidence_blocks
from harness.verdict.contents import CriterionRow, Split, Verdict

__all__ = ["build_document", "read_blockers", "read_criteria", "read_outcome"]

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
_UNBOUNDED = {"-inf", "inf", "nan"}
READY = "Ready to deploy"
MINUS = "\N{MINUS SIGN}"
_FAILED_IN = re.compile(r"^Its test failed in \w+: ")
NO_CHECKPOINT = "The candidate's head was not trained here: there is no checkpoint to authorise."

# Drawn from the predictions table; without it the report says that they are missing.
_SCORE_FIGURES = ("roc", "precision-recall", "calibration", "scores")
NO_SCORES = (
    "The ROC and precision-recall curves, the calibration and the score scatter are not drawn: "
    "the predictions table that the verdict names is not at hand, or holds no such scores."
)
# Sections that show what the models did, so that a rehearsal must be marked.
_MODEL_NUMBERS = (
    *("Accuracy", "Where it lost and gained", "Speed", "Training", "Other criteria"),
    *(criterion.section for criterion in CRITERIA if not criterion.has_own_blocks),
)


def build_document(verdict: Verdict, figures: Sequence[Figure] = ()) -> Document:
    """Return the report on one verdict.

    Parameters
    ----------
    verdict : Verdict
        Of any run, however early it ended.
    figures : sequence of Figure
        What was drawn for it; each is put into the section it belongs to.

    Returns
    -------
    Document
        Only the sections that have something to show; the others are named in ``not_reached``.
    """
    criteria = read_criteria(verdict)
    blockers = read_blockers(criteria)
    drawn = {figure.name: figure for figure in figures}

    def pictures(*names: str) -> list[Block]:
        found = tuple(drawn[name] for name in names if name in drawn)
        return [Gallery(figures=found)] if found else []

    stores = evidence_blocks(verdict.evidence("embedding-integrity"), title="Stored embeddings")
    test_set = pictures("lineages", "length", "gc", "identity", "trend")
    contents = {
        "Accuracy": accuracy_blocks(verdict, pictures("seeds", *_SCORE_FIGURES, "confusion")),
        "Where it lost and gained": breakdown_blocks(verdict, pictures("drop", "false-positives")),
        "Speed": speed_blocks(verdict, pictures("timing")),
        "Test set": dataset_blocks(verdict, test_set),
        "Embeddings": stores + extraction_blocks(verdict),
        "Training": training_blocks(verdict, pictures("training")),
        "Stages and time": stages_blocks(verdict),
        "Environment and reproduction": environment_blocks(verdict),
    }
    for criterion in CRITERIA:
        if not criterion.has_own_blocks:
            tables = evidence_blocks(verdict.evidence(criterion.id), title=criterion.id)
            contents.setdefault(criterion.section, []).extend(tables)
    not_reached = tuple(title for title, blocks in contents.items() if not blocks)
    if contents["Accuracy"] and not drawn.keys() & set(_SCORE_FIGURES):
        contents["Accuracy"].append(Paragraph(text=NO_SCORES))
    contents["Other criteria"] = [
        block
        for row in verdict.criteria
        if row.id not in REQUIRED_CRITERIA
        for block in evidence_blocks(row.evidence, title=row.id)
    ]
    contents["Next steps"] = _next_steps(blockers)
    return Document(
        outcome=read_outcome(verdict),
        criteria=criteria,
        blockers=blockers,
        sections=tuple(_section(title, blocks) for title, blocks in contents.items() if blocks),
        not_reached=not_reached,
    )


def read_outcome(verdict: Verdict) -> Outcome:
    """Return the verdict as a sentence, with what must be known before it is believed."""
    criteria = read_criteria(verdict)
    rows = {f"{criterion.id}: {criterion.state}" for criterion in criteria}
    problems = tuple(reason for reason in verdict.halted_by if reason not in rows)
    answer, is_pass = _answer(verdict), verdict.verdict == "PASS"
    return Outcome(
        candidate=side_name(verdict, "candidate"),
        baseline=side_name(verdict, "baseline"),
        test_set=_test_set(verdict.split),
        verdict=verdict.verdict,
        symbol={"PASS": "✓", "HALT": "✗"}.get(verdict.verdict, "…"),
        answer=answer,
        may_deploy=answer == READY,
        because=_because(criteria, problems),
        problems=problems,
        marks=(
            *_marks(verdict),
            *([NO_CHECKPOINT] if is_pass and "checkpoint" not in verdict.artifacts else []),
        ),
        short_mark=_short_mark(verdict),
        profile=verdict.profile,
        started=show_moment(verdict.started),
        finished=show_moment(verdict.finished or ""),
    )


def read_criteria(verdict: Verdict) -> tuple[Criterion, ...]:
    """Return the criteria in the order of the verdict, with their units in the text."""
    return tuple(map(_criterion, verdict.criteria))


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


def _section(title: str, blocks: list[Block]) -> Section:
    return Section(
        title=title,
        anchor=title.lower().replace(" ", "-"),
        blocks=tuple(blocks),
        has_model_numbers=title in _MODEL_NUMBERS,
    )


def _next_steps(blockers: Sequence[Blocker]) -> list[Block]:
    """Return what to do about every criterion that is not PASS."""
    blocks: list[Block] = []
    for blocker in blockers:
        names = ", ".join(blocker.criteria)
        blocks.append(Paragraph(text=f"{names} ({blocker.state_words}): {blocker.detail}"))
        blocks += [Items(items=blocker.next_steps)] if blocker.next_steps else []
    return blocks or [Paragraph(text="Nothing is open: no criterion asks for anything.")]


def _cause(row: Criterion) -> tuple[str, ...]:
    """Return what tells causes apart: for an exception not the test or the phase it hit."""
    if row.state != "ERROR":
        return (row.detail, *row.next_steps)
    return (_FAILED_IN.sub("", row.detail),)


def _because(criteria: Sequence[Criterion], problems: Sequence[str]) -> str:
    parts = []
    for state, told in _TOLD.items():
        rows = [row for row in criteria if row.state == state]
        if len(rows) > MOST_NAMES:
            parts.append(f"{told}: {len(rows)} of {len(criteria)} criteria")
        elif rows:
            parts.append(f"{told}: {', '.join(map(_name_and_value, rows))}")
    parts += [f"also: {problem}" for problem in problems[:1]]
    parts += [f"and {len(problems) - 1} more"] if len(problems) > 1 else []
    return "; ".join(parts)


def _name_and_value(row: Criterion) -> str:
    """Return the criterion with its value and limit, the unit once."""
    if not (row.value and row.limit):
        return row.id
    limit = row.limit.removesuffix(row.value.partition(" ")[2]).strip()
    return f"{row.id} ({row.value}; limit: {limit})"


def _answer(verdict: Verdict) -> str:
    if verdict.verdict == "HALT":
        return "Deployment halted"
    if verdict.verdict != "PASS":
        return "Run incomplete: deployment halted"
    if verdict.rehearsal:
        return "Rehearsal passed"
    if verdict.looser_than_deployment:
        return "Passed under looser limits"
    return READY if "checkpoint" in verdict.artifacts else "Passed, with no checkpoint to deploy"


def _marks(verdict: Verdict) -> list[str]:
    marks = []
    if verdict.rehearsal:
        reasons = "; ".join(verdict.rehearsal_reasons)
        because = f" ({reasons})" if reasons else ""
        marks.append(f"REHEARSAL{because}: it authorises no deployment.")
    if loose := ", ".join(verdict.looser_than_deployment):
        marks.append(f"Looser than a deployment allows: {loose}. It authorises no deployment.")
    return [*marks, *verdict.reservations]


def _short_mark(verdict: Verdict) -> str:
    marks = {
        "REHEARSAL": verdict.rehearsal,
        "random weights": any(side.is_random for side in verdict.sides.values()),
        "looser limits": verdict.looser_than_deployment,
    }
    return " · ".join(text for text, holds in marks.items() if holds)


def _test_set(split: Split) -> str:
    if split.n_test is None:
        return "not drawn"
    counts = {"viral": split.test_viral, "not viral": split.test_nonviral}
    known = [f"{show_number(n)} {name}" for name, n in counts.items() if n is not None]
    return f"{show_number(split.n_test)} rows" + (f" ({', '.join(known)})" if known else "")


def _criterion(row: CriterionRow) -> Criterion:
    comparison = _COMPARISONS.get(row.id)
    ends = row.interval if row.interval and not set(row.interval) & _UNBOUNDED else ()
    value = show_measure(row.value, row.unit, row.limit) if row.value else ""
    interval = " to ".join(show_measure(end, row.unit, row.limit) for end in ends)
    limit = row.limit.replace("-", MINUS) if row.limit else ""
    shown = {
        "value": _with_unit(value, row.unit),
        "limit": " ".join(filter(None, (limit and comparison, _with_unit(limit, row.unit)))),
        "interval": _with_unit(interval, row.unit),
    }
    return Criterion(
        id=row.id,
        state=row.state,
        symbol=SYMBOLS[row.state],
        question=_QUESTIONS.get(row.id, ""),
        **shown,
        scale=_scale(row, ends, shown) if row.value and row.limit and comparison else None,
        detail=row.detail,
        warnings=row.warnings,
        next_steps=row.next_steps,
    )


def _scale(row: CriterionRow, ends: Sequence[str], shown: Mapping[str, str]) -> Scale:
    """Lay out value, limit and interval on a line that shows some of the failing side as well."""
    value, limit = float(row.value or 0), float(row.limit or 0)
    bounds = sorted(map(float, ends))
    low, high = min(value, limit, *bounds), max(value, limit, *bounds)
    is_floor = _COMPARISONS[row.id] == "lower end above"
    if is_floor:
        low = min(low, limit - ((high - limit) / 3 or max(1, abs(limit))))
    else:
        low = min(low, 0)
        high = max(high, limit + ((limit - low) / 3 or max(1, abs(limit))))
    margin = (high - low) / 16

    def place(number: float) -> float:
        return round(100 * (number - low + margin) / (high - low + 2 * margin), 2)

    return Scale(
        value=place(value),
        limit=place(limit),
        zero=place(0),
        passing=(place(limit), 100) if is_floor else (0, place(limit)),
        interval=(place(bounds[0]), place(bounds[1])) if bounds else None,
        limit_text=(row.limit or "").replace("-", MINUS),
        alt="; ".join(f"{name}: {text}" for name, text in shown.items() if text),
    )


def _with_unit(number: str, unit: str) -> str:
    return f"{number}{'%' if unit == 'percent' else f' {unit}'}".strip() if number else ""
