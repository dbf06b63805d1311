"""The embeddings of a run: which embedder each side has, what it stored, and a side's features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.config import GateConfig, ModelConfig, RandomWeights
from harness.embedding import (
    Embedder,
    EmbeddingStore,
    EsmEmbedder,
    KmerProfile,
    LastColumns,
    MergedFeatures,
    load_embedder,
    write_store,
)
from harness.embedding.esm.random_weights import write_random_checkpoint
from harness.errors import MissingInput
from harness.pipeline.cache import StageCache
from harness.pipeline.samples import Samples
from harness.progress import Progress

__all__ = ["SIDES", "Side", "Vectors"]

Side = Literal["baseline", "candidate"]
SIDES: tuple[Side, Side] = ("baseline", "candidate")


class Vectors:
    """The embedders of a run and what they computed.

    Parameters
    ----------
    config : GateConfig
        Names the models, or what they already produced.
    samples : Samples
        The records.
    cache : StageCache
        Keeps what is made.
    progress : Progress
        Shows how far embedding is.
    """

    def __init__(
        self, config: GateConfig, samples: Samples, cache: StageCache, progress: Progress
    ) -> None:
        self._config = config
        self._samples = samples
        self._cache = cache
        self._progress = progress

    def has_model(self, side: Side) -> bool:
        """Whether a side names a protein embedder."""
        settings = self._settings(side)
        return bool(settings.model or settings.random_weights)

    def embedder(self, side: Side) -> EsmEmbedder:
        """Return a side's protein embedder, loaded on the configured device.

        Raises
        ------
        MissingInput
            If the side names none, or its weights or the device are not there.
        """
        return self._cache.once(f"embedder {side}", lambda: self._load_embedder(side))

    def loaded_embedder(self, side: Side) -> EsmEmbedder | None:
        """Return a side's embedder if this run has loaded it; loads nothing."""
        loaded: EsmEmbedder | None = self._cache.made(f"embedder {side}")
        return loaded

    def embeddings(self, side: Side) -> EmbeddingStore:
        """Return a side's protein embeddings of all records."""
        return self._embed(side, "protein", self.embedder(side))

    def nucleotide_embedder(self) -> Embedder:
        """Return what embeds the nucleotides, the same for both sides."""
        settings = self._config.nucleotide
        if settings.kind != "kmer":
            raise MissingInput(
                "DNABERT-S cannot be run here: its code comes from the hub, and none of that runs",
                remedy='Give both sides `features`, or set [nucleotide] kind = "kmer"',
            )
        return self._cache.once("embedder nucleotide", lambda: KmerProfile(settings.k))

    def nucleotide_embeddings(self) -> EmbeddingStore:
        """Return the nucleotide embeddings of all records."""
        return self._embed("nucleotide", "nucleotides", self.nucleotide_embedder())

    def merged(self, side: Side) -> MergedFeatures | None:
        """Return the features that a side brings, or None if it brings none."""
        folder = self._settings(side).features
        if folder is None:
            return None

        def read() -> MergedFeatures:
            with self._cache.log.stage(f"read the {side}'s features"):
                merged = MergedFeatures(folder)
                merged.check_labels(self._samples.records())
            return merged

        return self._cache.once(f"merged {side}", read)

    def proteins(self, side: Side) -> EmbeddingStore | LastColumns:
        """Return the protein embeddings that a side's head sees."""
        merged = self.merged(side)
        return LastColumns(merged, self.embedder(side).dim) if merged else self.embeddings(side)

    def features(self, side: Side, ids: pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return a side's features of some records: nucleotide, then protein embedding."""
        if merged := self.merged(side):
            return merged.rows(ids)
        parts = [self.nucleotide_embeddings().rows(ids), self.embeddings(side).rows(ids)]
        return np.concatenate(parts, axis=1)

    def feature_digests(self, side: Side) -> dict[str, str]:
        """Return the sha256 of everything that a side's features are made from."""
        if merged := self.merged(side):
            return {"features": merged.sha256}
        self.nucleotide_embeddings()
        self.embeddings(side)
        made = self._cache.artifacts
        return {
            "nucleotide": made["embeddings nucleotide"].sha256,
            "protein": made[f"embeddings {side}"].sha256,
        }

    def _settings(self, side: Side) -> ModelConfig:
        settings: ModelConfig = getattr(self._config, side)
        return settings

    def _load_embedder(self, side: Side) -> EsmEmbedder:
        settings = self._settings(side)
        model = settings.model
        if settings.random_weights is not None:
            model = str(self._random_checkpoint(side, settings.random_weights))
        if model is None:
            raise MissingInput(
                f"[{side}] names no model, so its proteins cannot be embedded or timed",
                remedy=f"Set `model` in [{side}] to a checkpoint folder or a hub id",
            )
        return load_embedder(
            model, revision=settings.revision, dtype=settings.dtype, device=self._config.device
        )

    def _random_checkpoint(self, side: Side, shape: RandomWeights) -> Path:
        settings = asdict(shape)
        artifact = self._cache.obtain(
            f"model {side}",
            settings,
            lambda folder: write_random_checkpoint(folder, **settings),
            kind="models",
        )
        return artifact.path

    def _embed(self, name: str, column: str, embedder: Embedder) -> EmbeddingStore:
        records = self._samples.records()
        inputs: dict[str, Any] = {
            "records": self._cache.artifacts["records"].sha256,
            "column": column,
            "embedder": embedder.digest,
        }

        def build(folder: Path) -> None:
            with self._progress.task(f"embed {name}", len(records), "sequences") as task:
                write_store(folder, records["id"], records[column], embedder, task=task)

        artifact = self._cache.obtain(
            f"embeddings {name}",
            inputs,
            build,
            stage=f"embed {name}",
            kind="embeddings",
            resumes=True,
        )
        return self._cache.once(f"store {name}", lambda: EmbeddingStore(artifact.path))
