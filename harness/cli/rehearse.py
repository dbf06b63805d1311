"""A rehearsal kit for the deployment gate, where no real weights can be had."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import open_progress

__all__ = ["rehearse"]

EMBEDDED_DATA = Path("acceptance/data")


class Size(StrEnum):
    """How large the models are."""

    FULL = "full"
    TINY = "tiny"


def rehearse(
    folder: Annotated[Path, typer.Argument(help="Where the kit goes; new, or empty.")],
    scale: Annotated[
        Size, typer.Option("--scale", help="The real shapes on a GPU, or a laptop's.")
    ] = Size.FULL,
    data: Annotated[
        Path, typer.Option("--data", help="The embedded data set.", metavar="DIR")
    ] = EMBEDDED_DATA,
) -> None:
    """Write models with random weights, real sequences and a gate.toml, to rehearse production."""
    from harness.pipeline.rehearsal import SCALES, write_kit

    size = SCALES[scale.value]
    typer.echo(f"{folder}: {size.needed_bytes() / 1e9:.1f} GB")
    for path in write_kit(folder, size, data=data, progress=open_progress()):
        typer.echo(f"  {path.name}")
    typer.echo(
        "The weights are random: the gate will say REHEARSAL, and `harness verify` will refuse.\n"
        f"Next: pytest acceptance/ -m gpu --gate-config {folder / 'gate.toml'}"
    )
