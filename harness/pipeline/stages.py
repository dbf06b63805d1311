"""The stages of a gate run: records, split, embeddings, heads, predictions.

Each is computed when it is first asked for and kept as an immutable artifact, so that a second run
reuses what is unchanged. What the results mean is judged elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import Artifact, digest_file, write_atomically
from harness.config import GateConfig, ModelConfig, RandomWeights
from harness.embedding import (
    Embedder,
    EmbeddingStore,
    EsmEmbedder,
    KmerProfile,
    load_embedder,
    write_store,
)
from harness.embedding.checkpoint import write_random_checkpoint
from harness.errors import MissingInput
from harness.pipeline.cache import StageCache
from harness.pipeline.samples import Samples
from harness.progress import Progress
from harness.training import fit_head, load_head, save_head

__all__ = ["SIDES", "Pipeline", "Side"]

Side = Literal["baseline", "candidate"]
SIDES: tuple[Side, Side] = ("baseline", "candidate")


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

    Attributes
    ----------
    samples : Samples
        The records and their split.
    cache : StageCache
        What has been made so far.
    """

    def __init__(
        self, config: GateConfig, work_dir: Path, *, progress: Progress | None = None
    ) -> None:
        self.config = config
        self.cache = StageCache(work_dir)
        self._progress = progress or Progress()
        self.samples = Samples(config, self.cache, self._progress)
        self.cache.obtain("config", config.to_dict(), self._write_config)

    def embedder(self, side: Side) -> EsmEmbedder:
        """Return a side's protein embedder, loaded on the configured device."""
        return self.cache.once(f"embedder {side}", lambda: self._load_embedder(side))

    def loaded_embedder(self, side: Side) -> EsmEmbedder | None:
        """Return a side's embedder if this run has loaded it; loads nothing."""
        loaded: EsmEmbedder | None = self.cache.made(f"embedder {side}")
        return loaded

    def embeddings(self, side: Side) -> EmbeddingStore:
        """Return a side's protein embeddings of all records."""
        return self._embeddings(side, "protein", self.embedder(side))

    def nucleotide_embedder(self) -> Embedder:
        """Return what embeds the nucleotides, the same for both sides."""
        settings = self.config.nucleotide
        if settings.kind != "kmer":
            raise MissingInput(
                "DNABERT-S cannot be run here: its code comes from the hub, and none of that runs",
                remedy='Set [nucleotide] kind = "kmer"',
            )
        return self.cache.once("embedder nucleotide", lambda: KmerProfile(settings.k))

    def nucleotide_embeddings(self) -> EmbeddingStore:
        """Return the nucleotide embeddings of all records."""
        return self._embeddings("nucleotide", "nucleotides", self.nucleotide_embedder())

    def features(self, side: Side, ids: pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return a side's features of some records: nucleotide, then protein embedding."""
        parts = [self.nucleotide_embeddings().rows(ids), self.embeddings(side).rows(ids)]
        return np.concatenate(parts, axis=1)

    def training(self, side: Side) -> dict[str, Any]:
        """Return how a side's head was trained: stopping, sizes, history."""
        path = self._head(side).path / "training.json"
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return loaded

    def scores(self, side: Side) -> pd.Series[float]:
        """Return a side's scores (probability of viral) of the test records, indexed by id."""
        path = self._scores(side).path / "scores.parquet"
        return self.cache.once(
            f"scores {side}", lambda: pd.read_parquet(path).set_index("id")["score"]
        )

    def predictions(self) -> pd.DataFrame:
        """Return the test records with the scores of both sides, joined by id.

        Columns: id, label, lineage, genome, length (bases), baseline_score, candidate_score, and
        identity (percent, NaN without a hit) where MMseqs2 is there.
        """
        path = self._predictions().path / "predictions.parquet"
        return self.cache.once("predictions", lambda: pd.read_parquet(path))

    def files(self) -> dict[str, dict[str, str]]:
        """Return path and sha256 of the files to deploy and to read, as far as they are there."""
        places = {
            "checkpoint": ("head candidate", "head.safetensors"),
            "predictions": ("predictions", "predictions.parquet"),
            "config": ("config", "config.json"),
        }
        paths = {
            key: self.cache.artifacts[name].path / file
            for key, (name, file) in places.items()
            if name in self.cache.artifacts
        }
        return {key: {"path": str(p), "sha256": digest_file(p)} for key, p in paths.items()}

    def _write_config(self, folder: Path) -> None:
        text = json.dumps(self.config.to_dict(), indent=1)
        write_atomically(folder / "config.json", text)

    def _load_embedder(self, side: Side) -> EsmEmbedder:
        settings: ModelConfig = getattr(self.config, side)
        model = settings.model
        if settings.random_weights is not None:
            model = str(self._random_checkpoint(side, settings.random_weights))
        if model is None:
            raise MissingInput(
                f"[{side}] names no model, so its proteins cannot be embedded",
                remedy=f"Set `model` in [{side}] to a checkpoint folder or a hub id",
            )
        return load_embedder(
            model, revision=settings.revision, dtype=settings.dtype, device=self.config.device
        )

    def _random_checkpoint(self, side: Side, shape: RandomWeights) -> Path:
        settings = asdict(shape)
        artifact = self.cache.obtain(
            f"model {side}",
            settings,
            lambda folder: write_random_checkpoint(folder, **settings),
            kind="models",
        )
        return artifact.path

    def _embeddings(self, name: str, column: str, embedder: Embedder) -> EmbeddingStore:
        records = self.samples.records()
        inputs = {
            "records": self.cache.artifacts["records"].sha256,
            "column": column,
            "embedder": embedder.digest,
        }

        def build(folder: Path) -> None:
            with self._progress.task(f"embed {name}", len(records), "sequences") as task:
                write_store(folder, records["id"], records[column], embedder, task=task)

        artifact = self.cache.obtain(
            f"embeddings {name}",
            inputs,
            build,
            stage=f"embed {name}",
            kind="embeddings",
            resumes=True,
        )
        return self.cache.once(f"store {name}", lambda: EmbeddingStore(artifact.path))

    def _head(self, side: Side) -> Artifact:
        self.samples.split()
        self.nucleotide_embeddings()
        self.embeddings(side)
        made, recipe = self.cache.artifacts, self.config.to_dict()["training"]
        inputs = {
            "split": made["split"].sha256,
            "nucleotide": made["embeddings nucleotide"].sha256,
            "protein": made[f"embeddings {side}"].sha256,
            "recipe": recipe,
            "seed": self.config.seed,
            "device": self.config.device,
        }

        def build(folder: Path) -> None:
            train, validation = self.samples.part("train"), self.samples.part("validation")
            trained = fit_head(
                self.features(side, train["id"]),
                train["label"],
                validation_features=self.features(side, validation["id"]),
                validation_labels=validation["label"],
                recipe=self.config.training,
                seed=self.config.seed,
                device=self.config.device,
                ids=train["id"],
                validation_ids=validation["id"],
                name=f"train {side}",
                progress=self._progress,
            )
            save_head(folder / "head.safetensors", trained, {"inputs": inputs})
            facts = trained.to_dict() | {"recipe": recipe}
            write_atomically(folder / "training.json", json.dumps(facts))

        return self.cache.obtain(f"head {side}", inputs, build, stage=f"train {side}", kind="heads")

    def _scores(self, side: Side) -> Artifact:
        head = self._head(side)

        def build(folder: Path) -> None:
            ids = self.samples.split().test
            scores = load_head(head.path / "head.safetensors").predict(self.features(side, ids))
            pd.DataFrame({"id": ids, "score": scores}).to_parquet(folder / "scores.parquet")

        inputs = {"head": head.sha256}
        return self.cache.obtain(
            f"scores {side}", inputs, build, stage=f"predict {side}", kind="scores"
        )

    def _predictions(self) -> Artifact:
        scores = {side: self.scores(side) for side in SIDES}
        identity = self.samples.identity()

        def build(folder: Path) -> None:
            test = self.samples.part("test")
            table = test[["id", "label", "lineage", "genome"]].assign(
                length=test["nucleotides"].str.len(),
                **{f"{side}_score": scores[side].loc[test["id"]].to_numpy() for side in SIDES},
            )
            if identity.is_measured:
                percent = 100 * identity.rows.set_index("id")["identity"]
                table["identity"] = percent.loc[test["id"]].to_numpy()
            table.to_parquet(folder / "predictions.parquet")

        inputs: dict[str, Any] = {
            side: self.cache.artifacts[f"scores {side}"].sha256 for side in SIDES
        }
        return self.cache.obtain("predictions", inputs | {"identity": identity.version}, build)
