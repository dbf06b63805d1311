"""What is done with a finished verdict, and a test of the gate itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

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
    HTML = "html"
    JSON = "json"
    TERMINAL = "terminal"
    MODEL_CARD = "model-card"


def report(
    verdict: Annotated[Path, typer.Argument(help="A verdict.json.")] = VERDICT,
    fmt: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.MARKDOWN,
) -> None:
    """Render a verdict again, without running anything.

    The figures that markdown names are drawn beside the verdict.
    """
    from harness.gate.proof.verdict import read_verdict

    typer.echo(_render(read_verdict(verdict), fmt, verdict.parent), nl=False)


def _render(content: dict[str, Any], fmt: Format, folder: Path) -> str:
    from harness.report.figures import draw_figures
    from harness.report.html import panel_page
    from harness.report.machine import render_json
    from harness.report.markdown import render_markdown
    from harness.report.modelcard import render_model_card

    if fmt is Format.JSON:
        return render_json(content)
    if fmt is Format.MODEL_CARD:
        return render_model_card(content)
    if fmt is Format.TERMINAL:
        return _render_terminal(content, folder)
    if fmt is Format.HTML:
        with TemporaryDirectory() as drawn:
            return panel_page(content, draw_figures(content, Path(drawn)))
    return render_markdown(content, draw_figures(content, folder / "figures"), folder=folder)


def _render_terminal(content: dict[str, Any], folder: Path) -> str:
    from harness.report.terminal import render_terminal

    console = Console()
    text = render_terminal(
        content,
        width=console.width,
        is_terminal=console.is_terminal,
        use_colour=console.is_terminal and not console.no_color,
        report_path=str(folder / "report.html"),
    )
    return f"{text}\n"


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
