"""The embeddings of a run: which embedder each side has, what it stored, and a side's features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import digest_file
from harness.config import GateConfig, ModelConfig, RandomWeights
from harness.data.formats.virnucpro import NUCLEOTIDE_ENDING, PROTEIN_ENDING
from harness.data.inputs import require_files
from harness.embedding import (
    Embedder,
    EmbeddingStore,
    EsmEmbedder,
    KmerProfile,
    MergedFeatures,
    SomeColumns,
    load_embedder,
)
from harness.embedding.esm.random_weights import write_random_checkpoint
from harness.embedding.joining import Rows
from harness.embedding.nucleotide.dnabert import load_dnabert
from harness.embedding.virnucpro.files import (
    DNABERT_DIM,
    ImportedEmbeddings,
    import_embeddings,
)
from harness.errors import MissingInput
from harness.pipeline.cache import StageCache
from harness.pipeline.extraction import Extraction
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
        self._extraction = Extraction(samples, cache, progress, dtype=config.store_dtype)

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
        device, embedder = self._config.device, self.embedder(side)
        return self._extraction.embed(side, "protein", embedder, device=device)

    def nucleotide_embedder(self) -> Embedder | None:
        """Return what embeds the nucleotides of both sides; None where embeddings are brought."""
        is_brought = self._config.nucleotide.embeddings is not None
        return None if is_brought else self._nucleotide_embedder()

    def nucleotide_embeddings(self) -> Rows:
        """Return the nucleotide embeddings of all records."""
        folder = self._config.nucleotide.embeddings
        if folder is not None:
            return self._import("nucleotide", folder, NUCLEOTIDE_ENDING, DNABERT_DIM)
        device = "cpu" if self._config.nucleotide.kind == "kmer" else self._config.device
        embedder = self._nucleotide_embedder()
        return self._extraction.embed("nucleotide", "nucleotide", embedder, device=device)

    def brought(self, side: Side) -> ImportedEmbeddings | None:
        """Return the protein embeddings that a side brings, or None if it brings none."""
        folder = self._settings(side).embeddings
        if folder is None:
            return None
        return self._import(_brought_name(side), folder, PROTEIN_ENDING)

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

    def proteins(self, side: Side) -> Rows:
        """Return the protein embeddings that a side's head sees."""
        if merged := self.merged(side):
            return SomeColumns(merged, slice(-self.embedder(side).dim, None))
        return self.brought(side) or self.embeddings(side)

    def features(self, side: Side, ids: pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return a side's features of some records: nucleotide, then protein embedding."""
        if merged := self.merged(side):
            return merged.rows(ids)
        parts = [self.nucleotide_embeddings().rows(ids), self.proteins(side).rows(ids)]
        return np.concatenate(parts, axis=1)

    def feature_digests(self, side: Side) -> dict[str, str]:
        """Return the sha256 of everything that a side's features are made from."""
        if merged := self.merged(side):
            return {"features": merged.sha256}
        self.nucleotide_embeddings()
        nucleotide = self._cache.artifacts["embeddings nucleotide"].sha256
        return {"nucleotide": nucleotide, "protein": self.protein_digest(side)}

    def protein_digest(self, side: Side) -> str:
        """Return the sha256 of what a side's protein embeddings lie in."""
        if merged := self.merged(side):
            return merged.sha256
        self.proteins(side)
        name = _brought_name(side) if self.brought(side) else side
        return self._cache.artifacts[f"embeddings {name}"].sha256

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
            model, revision=settings.revision, dtype=settings.dtype, device=self._device()
        )

    def _device(self) -> str:
        return self._cache.ranks.claim_device(self._config.device)

    def _nucleotide_embedder(self) -> Embedder:
        settings = self._config.nucleotide

        def load() -> Embedder:
            if settings.kind == "kmer":
                return KmerProfile(settings.k)
            return load_dnabert(
                settings.model,
                revision=settings.revision,
                trust_remote_code=settings.trust_remote_code,
                device=self._device(),
            )

        return self._cache.once("embedder nucleotide", load)

    def _random_checkpoint(self, side: Side, shape: RandomWeights) -> Path:
        settings = asdict(shape)
        artifact = self._cache.obtain(
            f"model {side}",
            settings,
            lambda folder: write_random_checkpoint(folder, **settings),
            kind="models",
        )
        return artifact.path

    def _import(
        self, name: str, source: Path, ending: str, dim: int | None = None
    ) -> ImportedEmbeddings:
        def make() -> ImportedEmbeddings:
            files = require_files(source, ending)
            inputs = {"files": [digest_file(path) for path in files], "dim": dim}

            def build(folder: Path) -> None:
                with self._progress.task(f"read {name} embeddings", len(files), "files") as task:
                    import_embeddings(files, folder, dim=dim, task=task)

            artifact = self._cache.obtain(
                f"embeddings {name}",
                inputs,
                build,
                stage=f"read the {name} embeddings",
                kind="imported",
            )
            return ImportedEmbeddings(artifact.path)

        return self._cache.once(f"store {name}", make)


def _brought_name(side: Side) -> str:
    return f"{side} brought"
