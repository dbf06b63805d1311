"""The commands around a run: doctor and rehearse before it, report, verify and history after it.

``harness selftest`` tries the gate itself. What they print is made elsewhere; here it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.stages import (
    GATE_TOML,
    VERDICT,
    WORK,
    ConfigOption,
    WorkOption,
    from_root,
    open_pipeline,
    open_progress,
)
from harness.errors import MissingInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.pipeline.doctor import Check
    from harness.verdict.contents import Verdict

__all__ = [
    "doctor",
    "history",
    "rehearse",
    "report",
    "selftest",
    "verify",
]


TINY = Path("acceptance/profiles/tiny.toml")
_COLOURS = {"ok": "green", "note": "yellow", "missing": "bold red"}


def doctor(gate_config: ConfigOption = GATE_TOML, work_dir: WorkOption = WORK) -> None:
    """Open all that a run will open, and say what it will take; exit 0 only if it could start."""
    try:
        from harness.pipeline.doctor import State
        from harness.pipeline.outlook import examine
    except (ImportError, OSError) as error:  # OSError: a broken shared library
        typer.echo(f"The gate cannot start: a package does not load: {error}")
        typer.echo("Run `pip install -e .` in the project's folder")
        raise typer.Exit(1) from error

    console = Console(highlight=False)
    checks = examine(gate_config, work_dir)
    if console.is_terminal:
        console.print(_tabulate(checks))
    else:
        typer.echo(_list(checks), nl=False)
    missing = [check.name for check in checks if check.state is State.MISSING]
    if missing:
        typer.echo(f"The gate cannot start: {', '.join(missing)}")
        raise typer.Exit(1)
    typer.echo("The gate could start")


def _tabulate(checks: Sequence[Check]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        text = Text(check.detail)
        if check.remedy:
            text.append(f"\n{check.remedy}", style="dim")
        table.add_row(Text(check.state, style=_COLOURS[check.state]), Text(check.name), text)
    return table


def _list(checks: Sequence[Check]) -> str:
    """Return one line a check, and one for each remedy, for logs and programs."""
    lines = []
    for check in checks:
        lines.append(f"{check.state:<8}{check.name}: {check.detail}")
        lines += [f"{'':<8}{check.remedy}"] if check.remedy else []
    return "".join(f"{line}\n" for line in lines)


def rehearse(
    folder: Annotated[Path, typer.Argument(help="Where the kit goes; new, or empty.")],
    scale: Annotated[
        Literal["full", "tiny"],
        typer.Option("--scale", help="The real shapes on a GPU, or a laptop's."),
    ] = "full",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Another data set than the embedded one.", metavar="DIR"),
    ] = None,
) -> None:
    """Write models with random weights, sequences, a gate.toml and the gate, to rehearse with."""
    from harness.pipeline.rehearsal import SCALES, SUITE, find_suite, write_kit

    data = data or find_suite() / SUITE / "data"
    size = SCALES[scale]
    typer.echo(f"{folder}: {size.needed_bytes() / 1e9:.1f} GB")
    for path in write_kit(folder, size, data=data, progress=open_progress()):
        typer.echo(f"  {path.name}")
    typer.echo(
        "The weights are random: the gate will say REHEARSAL, and `harness verify` will refuse.\n"
        f"Next: cd {folder} && pytest acceptance/ -m gpu"
    )


Format = Literal["markdown", "html", "json", "terminal", "model-card"]


def report(
    verdict: Annotated[Path, typer.Argument(callback=from_root, help="A verdict.json.")] = VERDICT,
    fmt: Annotated[Format, typer.Option("--format", help="What to print.")] = "markdown",
) -> None:
    """Render a verdict again, without running anything.

    The figures that markdown names are drawn beside the verdict.
    """
    from harness.verdict.verdict import read_verdict

    typer.echo(_render(read_verdict(verdict), fmt, verdict.parent), nl=False)


def _render(verdict: Verdict, fmt: Format, folder: Path) -> str:
    from harness.report.figures import draw_figures
    from harness.report.pages import panel_page, render_markdown, render_model_card
    from harness.report.terminal import render_json

    if fmt == "json":
        return render_json(verdict)
    if fmt == "model-card":
        return render_model_card(verdict)
    if fmt == "terminal":
        return _render_terminal(verdict, folder)
    if fmt == "html":
        with TemporaryDirectory() as drawn:
            return panel_page(verdict, draw_figures(verdict, Path(drawn)))
    return render_markdown(verdict, draw_figures(verdict, folder / "figures"), folder=folder)


def _render_terminal(verdict: Verdict, folder: Path) -> str:
    from harness.report.terminal import render_terminal

    console = Console()
    text = render_terminal(
        verdict,
        width=console.width,
        is_terminal=console.is_terminal,
        use_colour=console.is_terminal and not console.no_color,
        report_path=str(folder / "report.html"),
    )
    return f"{text}\n"


def verify(
    checkpoint: Annotated[Path, typer.Argument(help="The head that is to be deployed.")],
    verdict: Annotated[
        Path,
        typer.Option("--verdict", callback=from_root, help="The verdict.", metavar="PATH"),
    ] = VERDICT,
    history_lost: Annotated[
        bool, typer.Option("--history-lost", help="You know why earlier verdicts were lost.")
    ] = False,
) -> None:
    """Exit 0 only if a verdict authorises this very file."""
    from harness.verdict.verdict import authorise

    authorise(checkpoint, verdict, is_history_lost_known=history_lost)
    typer.echo(f"{checkpoint}: authorised by {verdict}")


def history(
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw it, too: an .svg or .png.", metavar="PATH")
    ] = None,
) -> None:
    """Show the verdicts on this test set so far, and how often it was judged."""
    from harness.report.figures.runs import draw_past
    from harness.report.figures.style import FORMATS
    from harness.report.terminal import render_trend
    from harness.verdict.history import read_history

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
        draw_past(past, figure)
        typer.echo(f"figure: {figure}")


def selftest(gate_config: ConfigOption = TINY, work_dir: WorkOption = WORK) -> None:
    """Plant known faults in copies of a run; exit 0 only if the gate notices each."""
    from harness.pipeline.selftest import run_selftest, show_selftest

    progress = open_progress()
    result = run_selftest(open_pipeline(gate_config, work_dir), work_dir, progress=progress)
    show_selftest(result, Console())
    if result.failed:
        raise typer.Exit(1)
