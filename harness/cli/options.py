"""What several commands share: their options, and the pipeline of a ``gate.toml``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.config import load_config
from harness.errors import MissingInput

if TYPE_CHECKING:
    from harness.embedding.ranks import Ranks
    from harness.pipeline import Pipeline
    from harness.progress import Progress

__all__ = ["ConfigOption", "VerdictOption", "WorkOption", "open_pipeline", "open_progress"]

ConfigOption = Annotated[
    Path, typer.Option("--gate-config", help="Settings of the run.", metavar="PATH")
]
WorkOption = Annotated[
    Path, typer.Option("--work-dir", help="Where artifacts are kept.", metavar="DIR")
]
VerdictOption = Annotated[Path, typer.Option("--verdict", help="The verdict.", metavar="PATH")]

GATE_TOML, WORK, VERDICT = Path("gate.toml"), Path("work"), Path("reports/verdict.json")


def open_pipeline(gate_config: Path, work_dir: Path, *, ranks: Ranks | None = None) -> Pipeline:
    """Return the stages of the run that a ``gate.toml`` describes, for one of several ranks.

    Raises
    ------
    MissingInput
        If there is no such file.
    """
    from harness.pipeline import Pipeline

    if not gate_config.is_file():
        raise MissingInput(
            f"There is no {gate_config}",
            remedy="Write one (see README.md), or name it with --gate-config",
        )
    config = load_config(gate_config)
    return Pipeline(config, work_dir, progress=open_progress(), ranks=ranks)


def open_progress() -> Progress:
    """Return what shows progress on stderr: moving bars in a terminal, else lines."""
    from harness.progress import Progress

    return Progress(sys.stderr, is_live=sys.stderr.isatty())
