"""The last stages of a gate run: heads, and their predictions of the test rows.

Each stage is computed when it is first asked for and kept as an immutable artifact, so that a
second run reuses what is unchanged. What the results mean is judged elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from harness.artifacts import Artifact, digest_file, require_unchanged, write_atomically
from harness.config import GateConfig
from harness.embedding.ranks import Ranks
from harness.gate.predictions import (
    ReportedMetrics,
    join_predictions,
    read_metrics,
    read_predictions,
)
from harness.pipeline.brought import brought_files, load_brought_head, require_brought
from harness.pipeline.cache import StageCache
from harness.pipeline.feature_rows import feature_rows
from harness.pipeline.heads import HEAD_FILE, Heads
from harness.pipeline.samples import Samples
from harness.pipeline.vectors import SIDES, Side, Vectors
from harness.progress import Progress
from harness.training import load_head

__all__ = ["Pipeline"]

T = TypeVar("T")


class Pipeline:
    """The stages of one run.

    Parameters
    ----------
    config : GateConfig
        What to compare, and how.
    work_dir : Path
        Where artifacts are kept; several runs may share it.
    progress : Progress, optional
        Shows how far the stages are.
    ranks : Ranks, optional
        The processes that go through the stages together.

    Attributes
    ----------
    cache : StageCache
        What has been made so far.
    samples : Samples
        The records and their split.
    vectors : Vectors
        Their embeddings.
    heads : Heads
        The heads of both sides.
    """

    def __init__(
        self,
        config: GateConfig,
        work_dir: Path,
        *,
        progress: Progress | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config = config
        self.cache = StageCache(work_dir, ranks)
        self._progress = progress or Progress()
        self.samples = Samples(config, work_dir, self.cache, self._progress)
        self.vectors = Vectors(config, self.samples, self.cache, self._progress)
        self.heads = Heads(config, self.samples, self.vectors, self.cache, self._progress)
        self.cache.obtain("config", config.to_dict(), self._write_config)

    def training(self, side: Side) -> dict[str, Any]:
        """Return how a side's head was trained: stopping, sizes, history, spread over seeds."""
        return self.heads.training(side)

    def trainings(self) -> dict[Side, dict[str, Any]]:
        """Return how the heads were trained that this run has so far; trains none."""
        return {
            side: self.training(side) for side in SIDES if f"head {side}" in self.cache.artifacts
        }

    def scores(self, side: Side) -> pd.DataFrame:
        """Return a side's scores of the test records: id, score (probability of viral)."""
        own: Path | None = getattr(self.config, side).predictions

        def read() -> pd.DataFrame:
            if own is not None:
                return self._read_brought(own, read_predictions)
            return read_predictions(self._scores(side).path / "scores.parquet")

        return self.cache.once(f"scores {side}", read)

    def reported_metrics(self) -> ReportedMetrics | None:
        """Return the metrics that the baseline brings in place of predictions, if it does."""
        path = self.config.baseline.metrics
        if path is None:
            return None
        return self.cache.once("reported metrics", lambda: self._read_brought(path, read_metrics))

    def predictions(self) -> pd.DataFrame:
        """Return the test records with the scores of both sides, joined by id.

        Columns: id, label, lineage, genome, length (bases), baseline_score, candidate_score, and,
        where MMseqs2 is there, identity (percent; 0 without a hit, NaN where not measured).
        """
        path = self._predictions().path / "predictions.parquet"
        return self.cache.once("predictions", lambda: pd.read_parquet(path))

    def files(self) -> dict[str, dict[str, str]]:
        """Return path and sha256 of the files to deploy and to read, as far as they are there.

        The sha256 is that of what was judged, whatever has become of the file since.
        """
        places = {
            "checkpoint": ("head candidate", HEAD_FILE),
            "predictions": ("predictions", "predictions.parquet"),
            "config": ("config", "config.json"),
        }
        made = self.cache.artifacts
        found = {
            key: {"path": str(made[name].path / file), "sha256": made[name].files[file]}
            for key, (name, file) in places.items()
            if name in made
        }
        return found | {
            name: {"path": str(path), "sha256": self._brought_sha256(path)}
            for name, path in brought_files(self.config).items()
            if path.is_file()
        }

    def _write_config(self, folder: Path) -> None:
        text = json.dumps(self.config.to_dict(), indent=1)
        write_atomically(folder / "config.json", text)

    def _scores(self, side: Side) -> Artifact:
        brought: Path | None = getattr(self.config, side).checkpoint
        inputs = {"head": self.heads.head(side).sha256} if brought is None else self._brought(side)

        def build(folder: Path) -> None:
            ids = self.samples.split().test
            features = feature_rows(self.vectors, side, ids)
            if brought is None:
                trained = self.heads.head(side)
                head = load_head(trained.path / HEAD_FILE)
                require_unchanged(trained.path / HEAD_FILE, trained.files[HEAD_FILE])
            else:
                load = partial(load_brought_head, n_features=features.shape[1])
                head = self._read_brought(brought, load)
            scores = head.predict(features)
            pd.DataFrame({"id": ids, "score": scores}).to_parquet(folder / "scores.parquet")

        return self.cache.obtain(
            f"scores {side}", inputs, build, stage=f"predict {side}", kind="scores"
        )

    def _brought(self, side: Side) -> dict[str, str]:
        """Return the sha256 of all that the scores of a side with a head of its own hang on."""
        path = require_brought(getattr(self.config, side).checkpoint)
        self.samples.split()
        made = {"split": self.cache.artifacts["split"].sha256, "head": self._brought_sha256(path)}
        return made | self.vectors.feature_digests(side)

    def _predictions(self) -> Artifact:
        baseline, candidate = self.scores("baseline"), self.scores("candidate")
        identity = self.samples.identity()

        def build(folder: Path) -> None:
            test = self.samples.part("test")
            rows = test[["id", "label", "lineage", "genome"]].assign(
                length=test["nucleotides"].str.len()
            )
            table = join_predictions(rows, baseline, candidate)
            if identity.is_measured:
                percent = 100 * identity.rows.set_index("id")["identity"].fillna(0)
                table["identity"] = percent.reindex(table["id"]).to_numpy()
            table.to_parquet(folder / "predictions.parquet")

        inputs: dict[str, str] = {side: self._score_digest(side) for side in SIDES}
        inputs["identity"] = identity.version
        inputs |= {name: self.cache.artifacts[name].sha256 for name in ("records", "split")}
        return self.cache.obtain("predictions", inputs, build)

    def _score_digest(self, side: Side) -> str:
        own: Path | None = getattr(self.config, side).predictions
        return self._brought_sha256(own) if own else self.cache.artifacts[f"scores {side}"].sha256

    def _brought_sha256(self, path: Path) -> str:
        """Return the sha256 of a file that a side brings, as it was when this run first saw it."""
        return self.cache.once(f"sha256 of {path}", lambda: digest_file(path))

    def _read_brought(self, path: Path, read: Callable[[Path], T]) -> T:
        """Return what a file that a side brings holds; ArtifactError if it is another by now."""
        sha256 = self._brought_sha256(require_brought(path))
        content = read(path)
        require_unchanged(path, sha256)
        return content
