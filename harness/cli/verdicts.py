"""What is done with a finished verdict, and a test of the gate itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.options import (
    GATE_TOML,
    VERDICT,
    WORK,
    ConfigOption,
    VerdictOption,
    WorkOption,
    open_pipeline,
    open_progress,
)
from harness.errors import MissingInput

__all__ = ["history", "report", "selftest", "verify"]

TINY = Path("acceptance/profiles/tiny.toml")


class Format(StrEnum):
    """How a verdict is rendered."""

    MARKDOWN = "markdown"
    JSON = "json"
    TERMINAL = "terminal"


def report(
    verdict: Annotated[Path, typer.Argument(help="A verdict.json.")] = VERDICT,
    fmt: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.MARKDOWN,
) -> None:
    """Render a verdict again, without running anything."""
    from harness.gate.proof.verdict import read_verdict
    from harness.report.figures import draw_figures
    from harness.report.machine import render_json
    from harness.report.markdown import render_markdown
    from harness.report.terminal import render_terminal

    content = read_verdict(verdict)
    if fmt is Format.JSON:
        typer.echo(render_json(content), nl=False)
    elif fmt is Format.TERMINAL:
        console = Console()
        text = render_terminal(
            content,
            width=console.width,
            is_terminal=console.is_terminal,
            use_colour=console.is_terminal and not console.no_color,
            report_path=str(verdict.parent / "report.html"),
        )
        typer.echo(text, nl=False)
    else:
        figures = draw_figures(content, verdict.parent / "figures")
        typer.echo(render_markdown(content, figures, folder=verdict.parent), nl=False)


def verify(
    checkpoint: Annotated[Path, typer.Argument(help="The head that is to be deployed.")],
    verdict: VerdictOption = VERDICT,
) -> None:
    """Exit 0 only if a verdict authorises this very file."""
    from harness.gate.proof.authorisation import authorise

    authorise(checkpoint, verdict)
    typer.echo(f"{checkpoint}: authorised by {verdict}")


def history(
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw it, too: an .svg or .png.", metavar="PATH")
    ] = None,
) -> None:
    """Show the verdicts on this test set so far, and how often it was judged."""
    from harness.gate.proof.history import read_history
    from harness.report.trend import FORMATS, draw_trend, render_trend

    if figure is not None and figure.suffix not in FORMATS:
        raise typer.BadParameter(f"{figure}: expected a name in {' or '.join(FORMATS)}")
    directory = open_pipeline(gate_config, work_dir).samples.directory()
    past = read_history(directory)
    if not past:
        raise MissingInput(
            f"No verdict on the test set in {directory}", remedy="Run the gate: pytest acceptance/"
        )
    console = Console()
    typer.echo(render_trend(past, width=console.width, is_terminal=console.is_terminal), nl=False)
    if figure is not None:
        draw_trend(past, figure)
        typer.echo(f"figure: {figure}")


def selftest(gate_config: ConfigOption = TINY, work_dir: WorkOption = WORK) -> None:
    """Plant known faults in copies of a run; exit 0 only if the gate notices each."""
    from harness.pipeline.selftest import run_selftest, show_selftest

    progress = open_progress()
    result = run_selftest(open_pipeline(gate_config, work_dir), work_dir, progress=progress)
    show_selftest(result, Console())
    if result.failed:
        raise typer.Exit(1)
