"""``harness export``: a head in the form that another program reads.

What is given decides what is exported: a ``.safetensors`` file is a head. Each pair of source and
format has one function; a new form is one more entry of ``_EXPORTERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import MissingInput

__all__ = ["export"]


class Format(StrEnum):
    """Who is to read it."""

    VIRNUCPRO = "virnucpro"
    ONNX = "onnx"


class Source(StrEnum):
    """What can be exported."""

    HEAD = "head"


def export(
    source: Annotated[Path, typer.Argument(help="A head: a .safetensors file.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    fmt: Annotated[Format, typer.Option("--format", help="Who is to read it.")],
) -> None:
    """Write a head as VirNucPro's predictor takes it, or as ONNX."""
    kind = _kind_of(source)
    exporter = _EXPORTERS.get((kind, fmt))
    if exporter is None:
        known = ", ".join(form for of, form in _EXPORTERS if of is kind)
        raise typer.BadParameter(f"{source} is a {kind}: its formats are {known}; got {fmt}")
    exporter(source, target)
    typer.echo(f"{fmt}: {target}")


def _kind_of(source: Path) -> Source:
    if not source.exists():
        raise MissingInput(
            f"There is no {source}", remedy="Name a head, such as `harness train` prints"
        )
    if source.is_dir():
        raise typer.BadParameter(f"{source} is a folder; expected a head: a .safetensors file")
    return Source.HEAD


def _head_for_virnucpro(source: Path, target: Path) -> None:
    from harness.training.foreign import export_virnucpro

    written = datetime.fromtimestamp(source.stat().st_mtime, UTC)
    export_virnucpro(source, target, training_date=written.date().isoformat())


def _head_as_onnx(source: Path, target: Path) -> None:
    from harness.training.onnx_export import export_onnx

    export_onnx(source, target)


_EXPORTERS: Mapping[tuple[Source, Format], Callable[[Path, Path], None]] = {
    (Source.HEAD, Format.VIRNUCPRO): _head_for_virnucpro,
    (Source.HEAD, Format.ONNX): _head_as_onnx,
}
