"""The test windows of a run as VirNucPro's users have them judged: every open frame, both sides.

Owns when both sides can be judged so, and the files of it in VirNucPro's own format. The rule from
frames to a window stands in ``harness.criteria.windows``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness.artifacts import Artifact
from harness.criteria.windows import call_windows
from harness.data.virnucpro import write_results
from harness.errors import ArtifactError
from harness.pipeline.vectors import SIDES

if TYPE_CHECKING:
    from harness.pipeline.stages import Pipeline

__all__ = ["WINDOWS", "Deployed", "score_windows"]

WINDOWS = "windows.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The decisions that users read.

    Attributes
    ----------
    windows : DataFrame or None
        One row a window, as ``call_windows`` returns it; None where a side cannot be judged so.
    reservations : tuple of str
        What must be known of it, or why there is none.
    artifact : Artifact or None
        ``windows.parquet``, and VirNucPro's two files of results for each side.
    """

    windows: pd.DataFrame | None
    reservations: tuple[str, ...]
    artifact: Artifact | None = None


def score_windows(pipeline: Pipeline) -> Deployed:
    """Return what both sides call the test windows, as far as these are at hand whole."""
    found = pipeline.samples.windows()
    if found.frames.empty:
        return Deployed(windows=None, reservations=found.reservations())
    if pipeline.reported_metrics() is not None:
        return Deployed(windows=None, reservations=(_say_not_deployed("baseline", "bare metrics"),))
    frames = found.frames[["window_id", "id", "label", "lineage", "source_kind"]]
    if (genomes := _genomes(pipeline, frames)) is not None:
        frames = frames.assign(genome=genomes)
    scores = {side: pipeline.scored(side) for side in SIDES}
    for side, table in scores.items():
        n_scored = int(frames["id"].isin(table["id"]).sum())
        if n_scored < len(frames):
            brought = f"{n_scored:,} of their {len(frames):,} open frames"
            return Deployed(windows=None, reservations=(_say_not_deployed(side, brought),))
        columns = {name: f"{side}_{name}" for name in table if name != "id"}
        frames = frames.merge(table.rename(columns=columns), on="id", validate="one_to_one")

    windows = call_windows(frames)

    def build(folder: Path) -> None:
        windows.to_parquet(folder / WINDOWS)
        for side in SIDES:
            write_results(folder, side, frames["id"], frames[f"{side}_score"], frames["window_id"])

    hashes = pd.util.hash_pandas_object(frames, index=False).to_numpy()
    inputs = {"frames": hashlib.sha256(hashes.tobytes()).hexdigest()}
    made = pipeline.cache.obtain("decisions", inputs, build)
    if made.is_reused and not pd.read_parquet(made.file(WINDOWS)).equals(windows):
        raise ArtifactError(
            f"{made.file(WINDOWS)}: holds other windows than were judged just now. Delete "
            f"{made.path} and run again"
        )
    return Deployed(windows=windows, reservations=found.reservations(), artifact=made)


def _genomes(pipeline: Pipeline, frames: pd.DataFrame) -> pd.Series[str] | None:
    """Return the genome of each frame's window: that of its test record."""
    is_test = frames["id"].isin(pipeline.samples.split().test)
    own = frames[is_test].drop_duplicates("window_id")
    genomes = pipeline.samples.genomes(own["id"])
    return None if genomes is None else frames["window_id"].map(genomes.set_axis(own["window_id"]))


def _say_not_deployed(side: str, brought: str) -> str:
    return (
        f"Not judged as deployed: of the test windows the {side} brings {brought} alone. Bring a "
        "model, or VirNucPro's prediction_results.txt of whole genomes."
    )
