"""What a terminal or a log shows: the summary of a run, and the verdicts on a test set so far.

Here, too, is the report for other programs: the answer and the numbers as JSON, without evidence.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.report.accuracy import metric_rows
from harness.report.document import (
    ABSENT,
    Blocker,
    Criterion,
    Document,
    show_fixed,
    show_moment,
    show_number,
    side_name,
    visible,
)
from harness.report.outcome import build_document, read_outcome
from harness.verdict.contents import SIDES, PastVerdict, Verdict
from harness.verdict.history import describe_looks

__all__ = ["render_json", "render_terminal", "render_trend"]

_CRITERION_KEYS = ("state", "value", "limit", "unit", "interval", "detail", "next_steps")
_STYLES = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "ERROR": "bold red",
    "INCONCLUSIVE": "bold yellow",
    "NOT_RUN": "bold",
}
# Steps shown for each blocker; all of them stand in the report.
MOST_STEPS = 2
# A criterion's name up to this width is never broken.
NAME_WIDTH = 20
# Narrower than this no table can be read; the lines are then longer than the terminal is wide.
LEAST_WIDTH = 60
LEAST_TREND_WIDTH = 80
DIGEST_CHARACTERS = 8


def render_json(verdict: Verdict) -> str:
    """Return one JSON object: verdict, answer, criteria by id, metrics by side."""
    content = {
        "verdict": verdict.verdict,
        "answer": read_outcome(verdict).answer,
        "rehearsal": verdict.rehearsal,
        "profile": verdict.profile,
        "halted_by": verdict.halted_by,
        "criteria": {
            row.id: {key: getattr(row, key) for key in _CRITERION_KEYS} for row in verdict.criteria
        },
        "metrics": {name: side.metrics for name, side in verdict.sides.items()},
    }
    return json.dumps(content, indent=2) + "\n"


def render_terminal(
    verdict: Verdict, *, width: int, is_terminal: bool, use_colour: bool, report_path: str
) -> str:
    """Return the summary for a terminal or a log.

    Parameters
    ----------
    verdict : Verdict
        Of any run, however early it ended.
    width : int
        Columns of the terminal; at least 60 are used.
    is_terminal : bool
        Draw tables with lines; otherwise plain text.
    use_colour : bool
        Whether escape codes for colours may be used.
    report_path : str
        The report to name in the last line.

    Returns
    -------
    str
        Lines without trailing blanks; the last one is the verdict and the report's path, and is
        the only one that may be wider than ``width`` (a path is not broken).
    """
    document = build_document(verdict)
    console = Console(
        file=io.StringIO(),
        width=max(width, LEAST_WIDTH),
        force_terminal=is_terminal and use_colour,
        color_system="standard" if is_terminal and use_colour else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    outcome = document.outcome
    models = f"{outcome.candidate} against {outcome.baseline}"
    console.print(_text(f"{models}; test set: {outcome.test_set}"))
    if outcome.verdict != "PASS":
        console.print(_text(f"{outcome.symbol} {outcome.answer}", "bold red"))
    if document.criteria:
        console.print(_criteria_table(document.criteria, has_lines=is_terminal))
    if any(side.metrics for side in verdict.sides.values()):
        console.print(_metrics_table(verdict, document, has_lines=is_terminal))
    _print_words(console, document, verdict)
    mark = f" ({outcome.short_mark})" if outcome.short_mark else ""
    style = "bold green" if outcome.verdict == "PASS" else "bold red"
    line = _text(f"{outcome.verdict}{mark}: {outcome.answer}", style)
    console.print(Text.assemble(line, _text(f" - {report_path}")), soft_wrap=True)
    return _lines(console)


def render_trend(past: Sequence[PastVerdict], *, width: int, is_terminal: bool) -> str:
    """Return the verdicts as a table for each test set, and how often each was judged.

    Parameters
    ----------
    past : sequence of PastVerdict
        Oldest first.
    width : int
        Columns of the terminal; at least 80 are used.
    is_terminal : bool
        Draw tables with lines; otherwise plain text.
    """
    width = max(width, LEAST_TREND_WIDTH)
    console = Console(file=io.StringIO(), width=width, highlight=False, emoji=False)
    for test_sha256 in dict.fromkeys(entry.test_sha256 for entry in past):
        entries = [entry for entry in past if entry.test_sha256 == test_sha256]
        console.print(_trend_table(entries, has_lines=is_terminal))
        if looks := entries[-1].looks:
            console.print(Text(describe_looks(looks)))
    return f"{_lines(console)}\n"


def _print_words(console: Console, document: Document, verdict: Verdict) -> None:
    for criterion in document.criteria:
        for warning in criterion.warnings:
            console.print(_text(f"Warning ({criterion.id}): {warning}", "yellow"))
    for blocker in document.blockers:
        _print_blocker(console, blocker)
    for problem in document.outcome.problems:
        console.print(_text(f"Halted by: {problem}", "bold red"))
    for mark in document.outcome.marks:
        console.print(_text(mark, "bold"))
    if verdict.split.looks:
        console.print(_text(describe_looks(verdict.split.looks)))
    if warning := verdict.split.history_warning:
        console.print(_text(f"Warning (history): {warning}", "yellow"))


def _print_blocker(console: Console, blocker: Blocker) -> None:
    names = ", ".join(blocker.criteria)
    console.print(_text(f"{blocker.symbol} {names} ({blocker.state_words})", "bold"))
    for text in (blocker.detail, *(f"Next: {step}" for step in blocker.next_steps[:MOST_STEPS])):
        console.print(Padding(_text(text), (0, 0, 0, 2)))


def _criteria_table(criteria: Sequence[Criterion], *, has_lines: bool) -> Table:
    rows = [
        (row.id, _text(f"{row.symbol} {row.state_words}", _STYLES[row.state]), row.value, row.limit)
        for row in criteria
    ]
    table = _table("Criteria", ("Criterion", "State", "Value", "Limit"), rows, has_lines=has_lines)
    longest = max(cell_len(visible(row.id)) for row in criteria)
    table.columns[0].min_width = min(longest, NAME_WIDTH)
    table.columns[1].no_wrap = True
    return table


def _metrics_table(verdict: Verdict, document: Document, *, has_lines: bool) -> Table:
    mark = document.outcome.short_mark
    heads = ("Metric", *(side_name(verdict, side) for side in SIDES), "Difference")
    rows = [[value.partition(" (")[0] for value in row] for row in metric_rows(verdict)]
    title = f"Test set ({mark})" if mark else "Test set"
    return _table(title, heads, rows, has_lines=has_lines)


def _trend_table(entries: Sequence[PastVerdict], *, has_lines: bool) -> Table:
    heads = ("Finished", "Verdict", "Candidate", "#Drop", "#Bound", "#Ratio", "#Look")
    title = f"Test set {entries[0].test_sha256[:DIGEST_CHARACTERS]}"
    return _table(title, heads, map(_trend_row, entries), has_lines=has_lines)


def _trend_row(entry: PastVerdict) -> tuple[str, ...]:
    return (
        show_moment(entry.finished),
        f"{entry.verdict} (rehearsal)" if entry.rehearsal else entry.verdict,
        entry.candidate,
        *map(show_fixed, (entry.drop_points, entry.upper_bound_points)),
        show_number(entry.time_ratio),
        str(entry.looks) if entry.look else ABSENT,
    )


def _table(
    title: str, heads: Iterable[str], rows: Iterable[Sequence[str | Text]], *, has_lines: bool
) -> Table:
    """Return a table; a head that begins with # is of numbers, which are never broken."""
    box_ = box.ROUNDED if has_lines else None
    table = Table(title=_text(title, "bold"), title_justify="left", box=box_, pad_edge=has_lines)
    for head in heads:
        name, is_number = _text(head.removeprefix("#")), head[:1] == "#"
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=is_number)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else _text(cell) for cell in row))
    return table


def _lines(console: Console) -> str:
    file: Any = console.file  # the StringIO that it was made with
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _text(text: str, style: str = "") -> Text:
    return Text("\n".join(visible(line) for line in text.split("\n")), style=style)
