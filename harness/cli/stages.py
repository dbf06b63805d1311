"""The stages one by one, for work that takes hours: prepare, split, embed, train.

``pytest acceptance/`` then finds their artifacts in the work directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import GATE_TOML, WORK, ConfigOption, WorkOption, open_pipeline

if TYPE_CHECKING:
    from harness.config import ModelConfig
    from harness.embedding.joining import Rows
    from harness.pipeline import Pipeline, Side

__all__ = ["embed", "prepare", "split", "train"]

STOPPED = 130  # the exit code of a program that was stopped by a signal, as shells give it


class Which(StrEnum):
    """Which side a stage is run for."""

    BOTH = "both"
    BASELINE = "baseline"
    CANDIDATE = "candidate"


class Part(StrEnum):
    """What of a record is embedded."""

    NUCLEOTIDE = "nucleotide"
    PROTEIN = "protein"


def prepare(gate_config: ConfigOption = GATE_TOML, work_dir: WorkOption = WORK) -> None:
    """Read the sequences into one record table; what cannot be used stands in rejected.csv."""
    pipeline = open_pipeline(gate_config, work_dir)
    folder = pipeline.samples.folder()
    typer.echo((folder / "summary.txt").read_text(encoding="utf-8").rstrip())
    typer.echo(f"records: {folder}")


def split(
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Replace the test set; its seed stays on record.")
    ] = False,
) -> None:
    """Draw the test set, and the validation part from the rest; what was drawn before stays."""
    pipeline = open_pipeline(gate_config, work_dir)
    drawn = pipeline.samples.split(redraw=redraw)
    for name in ("train", "validation", "test"):
        typer.echo(f"{name}: {len(getattr(drawn, name)):,} records")
    typer.echo(f"split: {pipeline.cache.artifacts['split'].path}")


def embed(
    which: Annotated[Which, typer.Argument()] = Which.BOTH,
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
    only: Annotated[Part | None, typer.Option("--only", help="Leave out the other part.")] = None,
) -> None:
    """Embed all records; an interrupted extraction goes on where it stopped.

    What a side brings is left as it is. With device = "cuda" every GPU of this machine is used. On
    several machines, start the same command with torchrun on each: torchrun --nnodes ...
    --nproc-per-node gpu --no-python harness embed ...; they must share the work directory.
    """
    from harness.embedding.ranks import join_ranks
    from harness.pipeline import compute_threads

    with join_ranks() as ranks:
        pipeline = open_pipeline(gate_config, work_dir, ranks=ranks)
        with compute_threads(pipeline.config.threads):
            if only != Part.PROTEIN:
                _show(pipeline, _embed_nucleotides(pipeline))
            for side in _sides(which) if only != Part.NUCLEOTIDE else ():
                _show(pipeline, _embed_proteins(pipeline, side))


def _embed_nucleotides(pipeline: Pipeline) -> str:
    """Return what there is to say of them; they are part of the features that a side brings."""
    if pipeline.config.baseline.features and pipeline.config.candidate.features:
        return "nucleotide: both sides bring features; nothing is embedded"
    return _describe(pipeline, "nucleotide", pipeline.vectors.nucleotide_embeddings())


def _embed_proteins(pipeline: Pipeline, side: Side) -> str:
    """Return what there is to say of them; the model of a side that brings them is only timed."""
    settings: ModelConfig = getattr(pipeline.config, side)
    brought = settings.features or settings.embeddings
    if not pipeline.vectors.has_model(side):
        brought = brought or settings.predictions or settings.metrics
    if brought is not None:
        return f"{side}: brings {brought}; nothing is embedded"
    return _describe(pipeline, side, pipeline.vectors.embeddings(side))


def _describe(pipeline: Pipeline, name: str, embedded: Rows) -> str:
    folder = pipeline.cache.artifacts[f"embeddings {name}"].path
    return f"{name}: {len(embedded):,} x {embedded.dim} in {folder}"


def _show(pipeline: Pipeline, line: str) -> None:
    if pipeline.cache.ranks.is_first:
        typer.echo(line)


def train(
    which: Annotated[Which, typer.Argument()] = Which.BOTH,
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Also train the seeds after the declared one.")
    ] = 1,
    tensorboard: Annotated[
        Path | None,
        typer.Option("--tensorboard", help="Write TensorBoard event files.", metavar="DIR"),
    ] = None,
) -> None:
    """Train the heads on the training part, as the gate would; what was stopped goes on.

    SIGINT and SIGTERM stop at the end of the step and save. With --seeds N the seeds that follow
    the declared one are trained, too, and how far they differ on validation stands in the report;
    the gate judges the declared seed, whatever the others reach.
    """
    from harness.pipeline import compute_threads
    from harness.training.history import EpochRecord, replay_events

    pipeline = open_pipeline(gate_config, work_dir)
    threads = compute_threads(pipeline.config.threads)
    with threads, _explained_stop(), pipeline.heads.keeping_rows():
        for side in _sides(which):
            settings: ModelConfig = getattr(pipeline.config, side)
            brought = settings.checkpoint or settings.predictions or settings.metrics
            if brought is not None:
                typer.echo(f"{side}: brings {brought}; no head is trained")
                continue
            head = pipeline.heads.head(side, takes_signals=True, events=tensorboard)
            facts = pipeline.training(side)
            if tensorboard is not None and head.is_reused:
                replay_events(tensorboard / side, [EpochRecord(**row) for row in facts["history"]])
            typer.echo(f"{side}: {facts['epochs_run']} epochs; {head.path / 'head.safetensors'}")
            if seeds > 1:
                _show_spread(side, pipeline.heads.spread(side, seeds, takes_signals=True))


def _show_spread(side: Side, spread: list[dict[str, Any]]) -> None:
    for row in spread:
        typer.echo(
            f"{side}, seed {row['seed']}: validation loss {row['validation_loss']:.4f}, "
            f"accuracy {row['validation_accuracy']:.4f}"
        )


@contextmanager
def _explained_stop() -> Iterator[None]:
    """Say how a training that was asked to stop goes on; typer would only say 'Aborted'."""
    from harness.training.interruption import TrainingInterrupted

    try:
        yield
    except TrainingInterrupted as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(STOPPED) from stopped


def _sides(which: Which) -> tuple[Side, ...]:
    sides: dict[Which, tuple[Side, ...]] = {
        Which.BOTH: ("baseline", "candidate"),
        Which.BASELINE: ("baseline",),
        Which.CANDIDATE: ("candidate",),
    }
    return sides[which]
