"""What a run brings in place of embedding: VirNucPro's files, converted once, and whom they cover.

Records are read after these files, since one without a vector can be none. What is computed, and
how the vectors of both kinds become features, is ``vectors``' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from harness.artifacts import digest_file
from harness.config import GateConfig
from harness.data.inputs import require_files
from harness.data.virnucpro import NUCLEOTIDE_ENDING, PROTEIN_ENDINGS
from harness.embedding import MergedFeatures
from harness.embedding.embedder import Rows
from harness.embedding.virnucpro import DNABERT_DIM, ImportedEmbeddings, import_embeddings
from harness.pipeline.cache import StageCache, once
from harness.progress import Progress

__all__ = ["SIDES", "Brought", "BroughtFiles", "Embedded", "Side"]

Side = Literal["baseline", "candidate"]
SIDES: tuple[Side, Side] = ("baseline", "candidate")
Store = TypeVar("Store", bound=Rows, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded(Generic[Store]):
    """Embeddings of all records: computed here, or brought.

    Attributes
    ----------
    store : Rows
        Read access to the vectors.
    path : Path
        Their folder.
    sha256 : str
        Digest of the files.
    notes : mapping of JSON values
        How they were made, such as the pace; empty where that is not known.
    """

    store: Store
    path: Path
    sha256: str
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtFiles:
    """A folder of VirNucPro's embedding files, and what they were converted to."""

    folder: Path
    files: tuple[Path, ...]
    embedded: Embedded[ImportedEmbeddings]


class Brought:
    """The embeddings and features that a run brings.

    Parameters
    ----------
    config : GateConfig
        Names their folders.
    cache : StageCache
        Keeps what they are converted to.
    progress : Progress
        Shows how far that is.
    """

    def __init__(self, config: GateConfig, cache: StageCache, progress: Progress) -> None:
        self._config, self._cache, self._progress = config, cache, progress

    @once
    def nucleotides(self) -> BroughtFiles | None:
        """Return the nucleotide embeddings, or None if none are brought."""
        folder = self._config.nucleotide.embeddings
        if folder is None:
            return None
        return self._convert("nucleotide", folder, (NUCLEOTIDE_ENDING,), DNABERT_DIM)

    @once
    def proteins(self, side: Side) -> BroughtFiles | None:
        """Return a side's protein embeddings, or None if it brings none."""
        folder: Path | None = getattr(self._config, side).embeddings
        return self._convert(f"{side} brought", folder, PROTEIN_ENDINGS) if folder else None

    @once
    def features(self, side: Side) -> MergedFeatures | None:
        """Return a side's features, or None if it brings none."""
        folder: Path | None = getattr(self._config, side).features
        if folder is None:
            return None
        with self._cache.log.stage(f"read the {side}'s features"):
            return MergedFeatures(folder)

    def covering(self) -> list[tuple[Path, str, Rows]]:
        """Return what every record needs a row in: its folder, its digest and the rows."""
        merged = [found for side in SIDES if (found := self.features(side))]
        parts = [self.proteins(side) for side in SIDES]
        if len(merged) < len(SIDES):
            parts.insert(0, self.nucleotides())
        return [
            *((p.folder, p.embedded.sha256, p.embedded.store) for p in parts if p),
            *((found.folder, found.sha256, found) for found in merged),
        ]

    def _convert(
        self, name: str, folder: Path, endings: tuple[str, ...], dim: int | None = None
    ) -> BroughtFiles:
        files = require_files(folder, *endings)
        inputs = {"files": [digest_file(path) for path in files], "dim": dim}

        def build(target: Path) -> None:
            with self._progress.task(f"read {name} embeddings", len(files), "files") as task:
                import_embeddings(files, target, dim=dim, task=task)

        made = self._cache.obtain(
            f"embeddings {name}",
            inputs,
            build,
            stage=f"read the {name} embeddings",
            kind="imported",
        )
        store = ImportedEmbeddings(made.path)
        embedded = Embedded(store=store, path=made.path, sha256=made.sha256)
        return BroughtFiles(folder=folder, files=files, embedded=embedded)
