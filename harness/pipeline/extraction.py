"""A run's embedding stores: made on every GPU there is, or by the ranks that are there already."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from harness.artifacts import Build
from harness.embedding import Embedder, EmbeddingStore, write_store
from harness.embedding.esm.alphabet import MAX_RESIDUES
from harness.embedding.ranks import is_under_torchrun
from harness.embedding.store import LAYOUT
from harness.pipeline.cache import StageCache
from harness.pipeline.launch import count_processes, run_on_ranks
from harness.pipeline.samples import Samples
from harness.progress import Progress

__all__ = ["Extraction", "Part"]

Part = Literal["nucleotide", "protein"]
COLUMNS: dict[Part, str] = {"nucleotide": "nucleotides", "protein": "protein"}


class Extraction:
    """Embeds all records of a run.

    Parameters
    ----------
    samples : Samples
        The records.
    cache : StageCache
        Keeps what is made.
    progress : Progress
        Shows how far embedding is.
    dtype : str
        What the vectors are stored as.
    """

    def __init__(
        self, samples: Samples, cache: StageCache, progress: Progress, *, dtype: str
    ) -> None:
        self._samples = samples
        self._cache = cache
        self._progress = progress
        self._dtype = dtype

    def embed(self, name: str, part: Part, embedder: Embedder, *, device: str) -> EmbeddingStore:
        """Return the embeddings of all records.

        Parameters
        ----------
        name : str
            ``baseline``, ``candidate`` or ``nucleotide``.
        part : str
            What is embedded of each record.
        embedder : Embedder
            Computes the vectors.
        device : str
            What it computes on; ``cuda`` with several GPUs is one process for each.
        """
        records = self._samples.records()
        column = COLUMNS[part]
        inputs: dict[str, Any] = {
            "records": self._samples.content_sha256(),
            "column": column,
            "embedder": embedder.digest,
            "layout": LAYOUT,
            "dtype": self._dtype,
        }
        if not self._cache.holds("embeddings", inputs):
            self._embed_on_all_gpus(name, part, device)

        def build(folder: Path) -> dict[str, Any] | None:
            pace = write_store(
                folder,
                records["id"],
                records[column],
                embedder,
                dtype=self._dtype,
                ranks=self._cache.ranks,
                progress=self._progress,
                name=f"embed {name}",
                count_tokens=_count_tokens if part == "protein" else None,
            )
            return asdict(pace) | {"n_rows": len(records)} if pace.n_sequences else None

        return self._obtain(name, inputs, build)

    def _obtain(self, name: str, inputs: dict[str, Any], build: Build) -> EmbeddingStore:
        artifact = self._cache.obtain(
            f"embeddings {name}",
            inputs,
            build,
            stage=f"embed {name}",
            kind="embeddings",
            resumes=True,
            is_shared=True,
        )
        return self._cache.once(
            f"store {name}",
            # the artifact's own digests have just been compared, or just been made
            lambda: EmbeddingStore(artifact.path, check_digests=False),
        )

    def _embed_on_all_gpus(self, name: str, part: Part, device: str) -> None:
        """Have one process for each GPU make the store; this one then finds it."""
        import torch

        n_processes = count_processes(
            device, n_gpus=torch.cuda.device_count(), is_rank=is_under_torchrun()
        )
        if n_processes == 1:
            return
        config = self._cache.artifacts["config"].path / "config.json"
        side = "both" if part == "nucleotide" else name
        options = ["--gate-config", str(config), "--work-dir", str(self._cache.work_dir)]
        with self._cache.log.stage(f"embed {name} on {n_processes} GPUs"):
            run_on_ranks(n_processes, ["embed", side, "--only", part, *options], self._progress.say)


def _count_tokens(n_residues: int) -> int:
    """Return how many tokens a protein becomes: those of its residues, the beginning, the end."""
    return min(n_residues, MAX_RESIDUES) + 2
