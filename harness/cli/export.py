"""``harness export``: a head, or a run's embeddings, in the form that another program reads.

What is given decides what is exported: a ``.safetensors`` file is a head, a ``.toml`` file stands
for the embeddings of its run. Each pair of source and format has one function; a new form is one
more entry of ``_exporters``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import WORK, WorkOption, open_pipeline, open_progress
from harness.errors import MissingInput

__all__ = ["export"]


class Format(StrEnum):
    """Who is to read it."""

    VIRNUCPRO = "virnucpro"
    ONNX = "onnx"


class ExportedSide(StrEnum):
    """Whose protein embeddings are exported."""

    BASELINE = "baseline"
    CANDIDATE = "candidate"


class Source(StrEnum):
    """What can be exported."""

    HEAD = "head"
    RUN = "run"


def export(
    source: Annotated[
        Path, typer.Argument(help="A head (.safetensors), or a run's settings (gate.toml).")
    ],
    target: Annotated[
        Path, typer.Argument(help="The file to write; for a run's embeddings, the folder.")
    ],
    fmt: Annotated[Format, typer.Option("--format", help="Who is to read it.")],
    side: Annotated[
        ExportedSide, typer.Option("--side", help="Whose protein embeddings, of a run's.")
    ] = ExportedSide.CANDIDATE,
    work_dir: WorkOption = WORK,
) -> None:
    """Write a head, or a run's embeddings, as VirNucPro takes it; a head as ONNX, too."""
    kind, exporters = _kind_of(source), _exporters(side, work_dir)
    exporter = exporters.get((kind, fmt))
    if exporter is None:
        known = ", ".join(form for of, form in exporters if of is kind)
        raise typer.BadParameter(f"{source} is a {kind}: its formats are {known}; got {fmt}")
    exporter(source, target)
    typer.echo(f"{fmt}: {target}")


def _kind_of(source: Path) -> Source:
    if not source.exists():
        raise MissingInput(
            f"There is no {source}",
            remedy="Name a head, such as `harness train` prints, or the gate.toml of a run",
        )
    if source.is_dir():
        raise typer.BadParameter(
            f"{source} is a folder; expected a head (.safetensors) or a run's settings (.toml)"
        )
    return Source.RUN if source.suffix == ".toml" else Source.HEAD


def _exporters(
    side: ExportedSide, work_dir: Path
) -> Mapping[tuple[Source, Format], Callable[[Path, Path], None]]:
    return {
        (Source.HEAD, Format.VIRNUCPRO): _head_for_virnucpro,
        (Source.HEAD, Format.ONNX): _head_as_onnx,
        (Source.RUN, Format.VIRNUCPRO): partial(_run_for_virnucpro, side=side, work_dir=work_dir),
    }


def _head_for_virnucpro(source: Path, target: Path) -> None:
    from harness.training.foreign import export_virnucpro

    written = datetime.fromtimestamp(source.stat().st_mtime, UTC)
    export_virnucpro(source, target, training_date=written.date().isoformat())


def _head_as_onnx(source: Path, target: Path) -> None:
    from harness.training.onnx_export import export_onnx

    export_onnx(source, target)


def _run_for_virnucpro(source: Path, target: Path, *, side: ExportedSide, work_dir: Path) -> None:
    from harness.data.formats.virnucpro import NUCLEOTIDE_ENDING
    from harness.embedding.virnucpro.export import export_embeddings
    from harness.pipeline import compute_threads

    pipeline = open_pipeline(source, work_dir)
    vectors = pipeline.vectors
    if vectors.merged(side.value) is not None:
        raise typer.BadParameter(f"[{side}] brings features, which are VirNucPro's files already")
    with compute_threads(pipeline.config.threads):
        nucleotide, protein = vectors.nucleotide_embeddings(), vectors.proteins(side.value)
    records = pipeline.samples.records()
    with open_progress().task("write embeddings", len(records), "records") as task:
        endings = export_embeddings(records, nucleotide, protein, target, task=task)
    typer.echo(f"{side}: {len(records):,} records in files of *{', *'.join(endings)}")
    if NUCLEOTIDE_ENDING not in endings:
        typer.echo(
            f"no *{NUCLEOTIDE_ENDING}: the nucleotide embeddings are {nucleotide.dim} wide, so "
            "they are not DNABERT-S's"
        )
