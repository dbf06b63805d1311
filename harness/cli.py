"""The command ``harness``: the stages one by one, and what is done with a finished verdict.

For work that takes hours the stages can be run ahead of the gate; ``pytest acceptance/`` then finds
their artifacts in the work directory.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from harness.config import load_config
from harness.errors import HarnessError, MissingInput

if TYPE_CHECKING:
    from harness.pipeline import Pipeline, Side
    from harness.progress import Progress

__all__ = ["app", "main"]

app = typer.Typer(
    help="The acceptance gate for a new protein embedder in VirNucPro.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path, typer.Option("--gate-config", help="Settings of the run.", metavar="PATH")
]
WorkOption = Annotated[
    Path, typer.Option("--work-dir", help="Where artifacts are kept.", metavar="DIR")
]
VerdictOption = Annotated[Path, typer.Option("--verdict", help="The verdict.", metavar="PATH")]

GATE_TOML, WORK, VERDICT = Path("gate.toml"), Path("work"), Path("reports/verdict.json")
TINY = Path("acceptance/profiles/tiny.toml")


class Which(StrEnum):
    """Which side a stage is run for."""

    BOTH = "both"
    BASELINE = "baseline"
    CANDIDATE = "candidate"


class Format(StrEnum):
    """How a verdict is rendered."""

    MARKDOWN = "markdown"
    JSON = "json"
    TERMINAL = "terminal"


@app.command()
def prepare(gate_config: ConfigOption = GATE_TOML, work_dir: WorkOption = WORK) -> None:
    """Read the sequences into one record table; what cannot be used stands in rejected.csv."""
    pipeline = _pipeline(gate_config, work_dir)
    folder = pipeline.samples.folder()
    typer.echo((folder / "summary.txt").read_text(encoding="utf-8").rstrip())
    typer.echo(f"records: {folder}")


@app.command()
def split(
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Replace the test set; its seed stays on record.")
    ] = False,
) -> None:
    """Draw the test set, and the validation part from the rest; what was drawn before stays."""
    pipeline = _pipeline(gate_config, work_dir)
    drawn = pipeline.samples.split(redraw=redraw)
    for name in ("train", "validation", "test"):
        typer.echo(f"{name}: {len(getattr(drawn, name)):,} records")
    typer.echo(f"split: {pipeline.cache.artifacts['split'].path}")


@app.command()
def embed(
    which: Annotated[Which, typer.Argument()] = Which.BOTH,
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
) -> None:
    """Embed all records; an interrupted extraction goes on where it stopped."""
    from harness.pipeline import compute_threads

    pipeline = _pipeline(gate_config, work_dir)
    with compute_threads(pipeline.config.threads):
        pipeline.vectors.nucleotide_embeddings()
        for side in _sides(which):
            store = pipeline.vectors.embeddings(side)
            typer.echo(f"{side}: {len(store):,} x {store.dim} in {store.folder}")


@app.command()
def train(
    which: Annotated[Which, typer.Argument()] = Which.BOTH,
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
) -> None:
    """Train the heads on the training part, as the gate would."""
    from harness.pipeline import compute_threads

    pipeline = _pipeline(gate_config, work_dir)
    with compute_threads(pipeline.config.threads):
        for side in _sides(which):
            facts = pipeline.training(side)
            folder = pipeline.cache.artifacts[f"head {side}"].path
            typer.echo(f"{side}: {facts['epochs_run']} epochs; {folder / 'head.safetensors'}")


@app.command()
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


@app.command()
def verify(
    checkpoint: Annotated[Path, typer.Argument(help="The head that is to be deployed.")],
    verdict: VerdictOption = VERDICT,
) -> None:
    """Exit 0 only if a verdict authorises this very file."""
    from harness.gate.proof.authorisation import authorise

    authorise(checkpoint, verdict)
    typer.echo(f"{checkpoint}: authorised by {verdict}")


@app.command()
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
    directory = _pipeline(gate_config, work_dir).samples.directory()
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


@app.command()
def selftest(gate_config: ConfigOption = TINY, work_dir: WorkOption = WORK) -> None:
    """Plant known faults in copies of a run; exit 0 only if the gate notices each."""
    from harness.pipeline.selftest import run_selftest, show_selftest

    progress = _progress()
    result = run_selftest(_pipeline(gate_config, work_dir), work_dir, progress=progress)
    show_selftest(result, Console())
    if result.failed:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; an expected error is one line and exit code 1."""
    try:
        app()
    except MissingInput as error:
        _fail(f"{error.what}.\n{error.remedy}.")
    except HarnessError as error:
        _fail(str(error))


def _pipeline(gate_config: Path, work_dir: Path) -> Pipeline:
    from harness.pipeline import Pipeline

    if not gate_config.is_file():
        raise MissingInput(
            f"There is no {gate_config}",
            remedy="Write one (see README.md), or name it with --gate-config",
        )
    return Pipeline(load_config(gate_config), work_dir, progress=_progress())


def _progress() -> Progress:
    from harness.progress import Progress

    return Progress(sys.stderr, is_live=sys.stderr.isatty())


def _sides(which: Which) -> tuple[Side, ...]:
    sides: dict[Which, tuple[Side, ...]] = {
        Which.BOTH: ("baseline", "candidate"),
        Which.BASELINE: ("baseline",),
        Which.CANDIDATE: ("candidate",),
    }
    return sides[which]


def _fail(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(message, markup=False)
    raise SystemExit(1)
