"""The stages one by one, for work that takes hours: prepare, split, embed, train.

``pytest acceptance/`` then finds their artifacts in the work directory.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import GATE_TOML, WORK, ConfigOption, WorkOption, open_pipeline

if TYPE_CHECKING:
    from harness.pipeline import Side

__all__ = ["embed", "prepare", "split", "train"]


class Which(StrEnum):
    """Which side a stage is run for."""

    BOTH = "both"
    BASELINE = "baseline"
    CANDIDATE = "candidate"


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
) -> None:
    """Embed all records; an interrupted extraction goes on where it stopped."""
    from harness.pipeline import compute_threads

    pipeline = open_pipeline(gate_config, work_dir)
    with compute_threads(pipeline.config.threads):
        pipeline.vectors.nucleotide_embeddings()
        for side in _sides(which):
            store = pipeline.vectors.embeddings(side)
            typer.echo(f"{side}: {len(store):,} x {store.dim} in {store.folder}")


def train(
    which: Annotated[Which, typer.Argument()] = Which.BOTH,
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
) -> None:
    """Train the heads on the training part, as the gate would."""
    from harness.pipeline import compute_threads

    pipeline = open_pipeline(gate_config, work_dir)
    with compute_threads(pipeline.config.threads):
        for side in _sides(which):
            facts = pipeline.training(side)
            folder = pipeline.cache.artifacts[f"head {side}"].path
            typer.echo(f"{side}: {facts['epochs_run']} epochs; {folder / 'head.safetensors'}")


def _sides(which: Which) -> tuple[Side, ...]:
    sides: dict[Which, tuple[Side, ...]] = {
        Which.BOTH: ("baseline", "candidate"),
        Which.BASELINE: ("baseline",),
        Which.CANDIDATE: ("candidate",),
    }
    return sides[which]
