"""The embeddings of a run: which embedder each side has, what it stored, and a side's features.

A run's embedding stores: made on every GPU there is, or by the ranks that are there already.

One process a GPU: how many there are to be, and torchrun, which starts them and ends them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import Build, digest_file
from harness.config import GateConfig, ModelConfig, RandomWeights
from harness.data.inputs import require_files
from harness.data.virnucpro import NUCLEOTIDE_ENDING, PROTEIN_ENDING
from harness.embedding import (
    Embedder,
    EmbeddingStore,
    EsmEmbedder,
    KmerProfile,
    MergedFeatures,
    SomeColumns,
    load_embedder,
    write_store,
)
from harness.embedding.devices import is_under_torchrun
from harness.embedding.embedder import Rows
from harness.embedding.esm.alphabet import MAX_RESIDUES
from harness.embedding.esm.random_weights import write_random_checkpoint
from harness.embedding.nucleotide import load_dnabert
from harness.embedding.store import LAYOUT
from harness.embedding.virnucpro import DNABERT_DIM, ImportedEmbeddings, import_embeddings
from harness.errors import HarnessError, MissingInput
from harness.pipeline.cache import StageCache
from harness.pipeline.samples import Samples
from harness.progress import Progress

__all__ = [
    "SIDES",
    "Extraction",
    "Part",
    "Side",
    "Vectors",
    "count_processes",
    "run_on_ranks",
]


ERROR_LINES_KEPT = 20
NAMES_A_RANK = re.compile(r"rank \d+ of \d+ on ")  # see harness.embedding.devices


def count_processes(device: str, *, n_gpus: int, is_rank: bool) -> int:
    """Return on how many processes to embed.

    Parameters
    ----------
    device : str
        What the embedder computes on. ``cuda`` is every GPU of the machine; ``cuda:1`` is one.
    n_gpus : int
        How many the machine has.
    is_rank : bool
        Whether this process is one of several already.
    """
    return max(1, n_gpus) if device == "cuda" and not is_rank else 1


def run_on_ranks(n_processes: int, arguments: Sequence[str], say: Callable[[str], None]) -> None:
    """Run a command of ``harness`` as several processes of this machine, and wait for them.

    Parameters
    ----------
    n_processes : int
        How many.
    arguments : sequence of str
        The command and its options.
    say : callable
        Is given each line that they write to stderr.

    Raises
    ------
    HarnessError
        If one of them fails; with its message, which names the rank.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", str(n_processes), "-m", "harness", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=_divide_cores(n_processes),
    ) as child:
        try:
            lines = _pass_on(child, say)
            exit_code = child.wait()
        except BaseException:
            child.terminate()  # torchrun ends its processes; what they have written is kept
            raise
    if exit_code:
        raise HarnessError(_explain(exit_code, lines, arguments))


def _divide_cores(n_processes: int) -> dict[str, str]:
    """Return the environment, with an even share of the cores unless the user chose otherwise."""
    share = max(1, (os.cpu_count() or 1) // n_processes)
    return {"OMP_NUM_THREADS": str(share)} | dict(os.environ)


def _pass_on(child: subprocess.Popen[str], say: Callable[[str], None]) -> list[str]:
    """Pass the lines on, and return the last ones and those that name a rank."""
    named: list[str] = []
    last: deque[str] = deque(maxlen=ERROR_LINES_KEPT)
    for line in child.stderr or ():
        text = line.rstrip()
        say(text)
        (named if NAMES_A_RANK.match(text) else last).append(text)
    return named or list(last)


def _explain(exit_code: int, lines: Iterable[str], arguments: Sequence[str]) -> str:
    return "\n".join(
        [f"harness {' '.join(arguments)} ended with exit code {exit_code} on a rank:", *lines]
    )


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
