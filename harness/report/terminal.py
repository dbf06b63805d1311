"""The summary at the end of a run: tables in a terminal, plain lines in a log.

The report for other programs: the answer and the numbers, without the evidence.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.report.accuracy import metric_rows
from harness.report.contents import build_document
from harness.report.document import Blocker, Criterion, Document, side_name, visible
from harness.report.outcome import read_outcome
from harness.report.reading import as_json, as_mapping, as_number, as_rows, as_text, as_texts
from harness.verdict.history import describe_looks

__all__ = [
    "render_json",
    "render_terminal",
]


_CRITERION_KEYS = ("state", "value", "limit", "unit", "interval", "detail", "next_steps")


def render_json(verdict: Mapping[str, Any]) -> str:
    """Return one JSON object: verdict, answer, criteria by id, metrics by side.

    Notes
    -----
    The evidence stays in ``verdict.json``. A value that is not a finite number becomes null, so
    that any JSON parser can read the result.
    """
    verdict = as_json(verdict)
    outcome = read_outcome(verdict)
    content = {
        "verdict": outcome.verdict,
        "answer": outcome.answer,
        "rehearsal": verdict.get("rehearsal") is not False,
        "profile": outcome.profile,
        "halted_by": list(as_texts(verdict.get("halted_by"))),
        "criteria": {
            str(row.get("id")): {key: row.get(key) for key in _CRITERION_KEYS}
            for row in as_rows(verdict.get("criteria"))
        },
        "metrics": {side: _metrics(verdict, side) for side in ("baseline", "candidate")},
    }
    return json.dumps(content, indent=2) + "\n"


def _metrics(verdict: Mapping[str, Any], side: str) -> dict[str, float | None]:
    metrics = as_mapping(as_mapping(verdict.get(side)).get("metrics"))
    return {name: as_number(number) for name, number in metrics.items()}


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


def render_terminal(
    verdict: Mapping[str, Any],
    *,
    width: int,
    is_terminal: bool,
    use_colour: bool,
    report_path: str,
    is_quiet: bool = False,
) -> str:
    """Return the summary for a terminal or a log.

    Parameters
    ----------
    verdict : mapping
        What ``verdict.json`` holds; any part that the schema does not require may be missing.
    width : int
        Columns of the terminal; at least 60 are used.
    is_terminal : bool
        Draw tables with lines; otherwise plain text.
    use_colour : bool
        Whether escape codes for colours may be used.
    report_path : str
        The report to name in the last line.
    is_quiet : bool
        Leave the tables out.

    Returns
    -------
    str
        Lines without trailing blanks; the last one is the verdict and the report's path, and is
        the only one that may be wider than ``width`` (a path is not broken).
    """
    verdict = as_json(verdict)
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
    if not is_quiet:
        _print_tables(console, document, verdict, has_lines=is_terminal)
    _print_last_line(console, document, report_path)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    return "\n".join(line.rstrip() for line in text.splitlines())


def _print_tables(
    console: Console, document: Document, verdict: Mapping[str, Any], *, has_lines: bool
) -> None:
    if document.outcome.verdict != "PASS":
        console.print(_text(f"{document.outcome.symbol} {document.outcome.answer}", "bold red"))
    if document.criteria:
        console.print(_criteria_table(document.criteria, has_lines=has_lines))
    metrics = metric_rows(verdict)
    if metrics:
        console.print(_metrics_table(metrics, verdict, document, has_lines=has_lines))
    for criterion in document.criteria:
        for warning in criterion.warnings:
            console.print(_text(f"Warning ({criterion.id}): {warning}", "yellow"))
    for blocker in document.blockers:
        _print_blocker(console, blocker)
    for problem in document.outcome.problems:
        console.print(_text(f"Halted by: {problem}", "bold red"))
    for mark in document.outcome.marks:
        console.print(_text(mark, "bold"))
    _print_looks(console, as_mapping(verdict.get("split")))


def _print_looks(console: Console, split: Mapping[str, Any]) -> None:
    if looks := as_number(split.get("looks")):
        console.print(_text(describe_looks(int(looks))))
    if warning := as_text(split.get("history_warning")):
        console.print(_text(f"Warning (history): {warning}", "yellow"))


def _print_blocker(console: Console, blocker: Blocker) -> None:
    names = ", ".join(blocker.criteria)
    console.print(_text(f"{blocker.symbol} {names} ({blocker.state_words})", "bold"))
    console.print(Padding(_text(blocker.detail), (0, 0, 0, 2)))
    for step in blocker.next_steps[:MOST_STEPS]:
        console.print(Padding(_text(f"Next: {step}"), (0, 0, 0, 2)))


def _criteria_table(criteria: tuple[Criterion, ...], *, has_lines: bool) -> Table:
    table = _table("Criteria", has_lines=has_lines)
    longest = max(cell_len(visible(row.id)) for row in criteria)
    table.add_column("Criterion", overflow="fold", min_width=min(longest, NAME_WIDTH))
    table.add_column("State", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("Limit", overflow="fold")
    for row in criteria:
        state = _text(f"{row.symbol} {row.state_words}", _STYLES.get(row.state, "bold"))
        table.add_row(_text(row.id), state, _text(row.value), _text(row.limit))
    return table


def _metrics_table(
    metrics: list[tuple[str, str, str, str]],
    verdict: Mapping[str, Any],
    document: Document,
    *,
    has_lines: bool,
) -> Table:
    mark = document.outcome.short_mark
    table = _table(f"Test set ({mark})" if mark else "Test set", has_lines=has_lines)
    names = [side_name(verdict, side) for side in ("baseline", "candidate")]
    for head in ("Metric", *names, "Difference"):
        table.add_column(_text(head), overflow="fold")
    for row in metrics:
        table.add_row(*(_text(value.partition(" (")[0]) for value in row))
    return table


def _table(title: str, *, has_lines: bool) -> Table:
    return Table(
        title=_text(title, "bold"),
        title_justify="left",
        box=box.ROUNDED if has_lines else None,
        pad_edge=has_lines,
    )


def _print_last_line(console: Console, document: Document, report_path: str) -> None:
    outcome = document.outcome
    mark = f" ({outcome.short_mark})" if outcome.short_mark else ""
    style = "bold green" if outcome.verdict == "PASS" else "bold red"
    line = Text.assemble(
        _text(f"{outcome.verdict}{mark}: {outcome.answer}", style), _text(f" - {report_path}")
    )
    console.print(line, soft_wrap=True)


def _text(text: str, style: str = "") -> Text:
    return Text("\n".join(visible(line) for line in text.split("\n")), style=style)
