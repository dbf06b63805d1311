"""The summary at the end of a run: tables in a terminal, plain lines in a log."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.content.accuracy import metric_rows
from harness.report.content.contents import build_document
from harness.report.content.document import Criterion, Document
from harness.report.content.wording import side_name
from harness.report.escaping import visible

__all__ = ["render_terminal"]

_STYLES = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "ERROR": "bold red",
    "INCONCLUSIVE": "bold yellow",
    "NOT_RUN": "bold",
}
# Narrower than this no table can be read; the lines are then longer than the terminal is wide.
LEAST_WIDTH = 40


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
        Columns of the terminal; at least 40 are used.
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
    if document.criteria:
        console.print(_criteria_table(document.criteria, has_lines=has_lines))
    metrics = metric_rows(verdict)
    if metrics:
        console.print(_metrics_table(metrics, verdict, document, has_lines=has_lines))
    for criterion in document.blocking:
        for step in criterion.next_steps[:1]:
            console.print(_text(f"{criterion.id}: {step}"))
    for mark in document.outcome.marks:
        console.print(_text(mark, "bold"))


def _criteria_table(criteria: tuple[Criterion, ...], *, has_lines: bool) -> Table:
    table = _table("Criteria", has_lines=has_lines)
    table.add_column("Criterion", overflow="fold", min_width=20)
    table.add_column("State", overflow="fold", min_width=14)
    table.add_column("Value and limit", overflow="fold", ratio=2)
    table.add_column("What was found", overflow="fold", ratio=3)
    for row in criteria:
        state = _text(f"{row.symbol} {row.state_words}", _STYLES.get(row.state, "bold"))
        numbers = [row.value, f"limit: {row.limit}" if row.limit else ""]
        found = "\n".join([visible(row.detail), *(f"Warning: {visible(w)}" for w in row.warnings)])
        table.add_row(
            _text(row.id), state, _text("\n".join(filter(None, map(visible, numbers)))), Text(found)
        )
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
    names = [side_name(dict(verdict), side) for side in ("baseline", "candidate")]
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
        show_lines=has_lines,
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
