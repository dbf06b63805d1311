"""The embeddings of a run: which embedder each side has, what it stored, and a side's features.

A store is made on every GPU there is, by one process each, which torchrun starts and ends; or by
the ranks that are there already. How vectors are computed and stored is ``harness.embedding``'s.
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
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.config import GateConfig, ModelConfig, RandomWeights
from harness.data.fasta import check_sequences_beside
from harness.data.virnucpro import NUCLEOTIDE_ENDING, PROTEIN_ENDINGS
from harness.embedding import (
    Embedder,
    EmbeddingStore,
    KmerProfile,
    MergedFeatures,
    SomeColumns,
    load_embedder,
    write_store,
)
from harness.embedding.devices import is_under_torchrun
from harness.embedding.dnabert import DnabertEmbedder
from harness.embedding.embedder import Rows
from harness.embedding.random_weights import write_random_checkpoint
from harness.embedding.store import LAYOUT
from harness.embedding.virnucpro import DNABERT_DIM
from harness.errors import HarnessError, MissingInput, NotFiniteError
from harness.pipeline.cache import StageCache, once
from harness.pipeline.samples import SIDES, Brought, BroughtFiles, Embedded, Samples, Side
from harness.progress import Progress

__all__ = [
    "SIDES",
    "Arm",
    "Embedded",
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
        if not_finite := next((line for line in lines if NotFiniteError.remedy in line), None):
            raise NotFiniteError(not_finite.split(f". {NotFiniteError.remedy}")[0])
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


Arm = Literal["baseline", "candidate", "placebo"]  # the placebo sees the nucleotides alone
Part = Literal["nucleotide", "protein"]
COLUMNS: dict[Part, str] = {"nucleotide": "nucleotides", "protein": "protein"}


class Vectors:
    """The embedders of a run and what they computed.

    Parameters
    ----------
    config : GateConfig
        Names the models, or what they already produced.
    config_file : Path
        The same, for the processes that are started to embed.
    samples : Samples
        The records.
    brought : Brought
        What need not be embedded.
    cache : StageCache
        Keeps what is made.
    progress : Progress
        Shows how far embedding is.
    """

    def __init__(
        self,
        config: GateConfig,
        config_file: Path,
        samples: Samples,
        brought: Brought,
        cache: StageCache,
        progress: Progress,
    ) -> None:
        self._config, self._config_file, self._brought = config, config_file, brought
        self._samples, self._cache, self._progress = samples, cache, progress

    def has_model(self, side: Side) -> bool:
        """Whether a side names a protein embedder."""
        settings = self._settings(side)
        return bool(settings.model or settings.random_weights)

    @once
    def embedder(self, side: Side, dtype: str | None = None) -> Embedder:
        """Return a side's protein embedder, loaded on the configured device.

        Parameters
        ----------
        side : str
        dtype : str, optional
            What it computes in, if not what the settings say.

        Raises
        ------
        MissingInput
            If the side names none, or its weights or the device are not there.
        """
        own = self._settings(side).dtype
        if dtype == own:
            return self.embedder(side)
        return self._load_embedder(side, dtype or own)

    @once
    def embeddings(self, side: Side) -> Embedded[EmbeddingStore]:
        """Return the protein embeddings of all that a side's embedder computes."""
        return self._embed(side, "protein", self.embedder(side), device=self._config.device)

    @once
    def nucleotide_embedder(self) -> Embedder | None:
        """Return what embeds the nucleotides of both sides; None where embeddings are brought."""
        settings = self._config.nucleotide
        if settings.embeddings is not None:
            return None
        if settings.kind == "kmer":
            return KmerProfile(settings.k)
        return DnabertEmbedder(
            settings.model,
            revision=settings.revision,
            dtype=settings.dtype,
            device=self._device(),
        )

    @once
    def nucleotides(self) -> Embedded[Rows]:
        """Return the nucleotide embeddings of all records."""
        settings = self._config.nucleotide
        if brought := self._brought.nucleotides():
            return self._checked(brought, (NUCLEOTIDE_ENDING,), "nucleotides")
        embedder = cast("Embedder", self.nucleotide_embedder())  # None only where they are brought
        device = "cpu" if settings.kind == "kmer" else self._config.device
        return self._embed("nucleotide", "nucleotide", embedder, device=device)

    @once
    def brought(self, side: Side) -> Embedded[Rows] | None:
        """Return the protein embeddings that a side brings, or None if it brings none."""
        brought = self._brought.proteins(side)
        return self._checked(brought, PROTEIN_ENDINGS, "protein") if brought else None

    @once
    def merged(self, side: Side) -> MergedFeatures | None:
        """Return the features that a side brings, or None if it brings none."""
        if merged := self._brought.features(side):
            merged.check_labels(self._samples.records())
        return merged

    def proteins(self, side: Side) -> Embedded[Rows]:
        """Return the protein embeddings that a side's head sees."""
        if merged := self.merged(side):
            proteins = SomeColumns(merged, slice(-self.embedder(side).dim, None))
            return Embedded(store=proteins, path=merged.folder, sha256=merged.sha256)
        return self.brought(side) or self.embeddings(side)

    def features(self, arm: Arm, ids: pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return an arm's features of some records: nucleotide, then protein embedding."""
        return np.concatenate([store.rows(ids) for store in self.feature_stores(arm)], axis=1)

    @once
    def feature_stores(self, arm: Arm) -> list[Rows]:
        """Return the stores whose rows, side by side, are an arm's features."""
        if arm == "placebo":
            return [self._placebo_columns()]
        if merged := self.merged(arm):
            return [merged]
        return [self.nucleotides().store, self.proteins(arm).store]

    @once
    def feature_digests(self, arm: Arm) -> dict[str, str]:
        """Return the sha256 of everything that an arm's features are made from."""
        if arm == "placebo":
            columns = self._placebo_columns()
            if isinstance(columns, SomeColumns):
                return {"nucleotide": f"{columns.dim} columns of {columns.sha256}"}
            return {"nucleotide": self.nucleotides().sha256}
        if merged := self.merged(arm):
            return {"features": merged.sha256}
        return {"nucleotide": self.nucleotides().sha256, "protein": self.proteins(arm).sha256}

    def nucleotide_columns(self) -> Rows:
        """Return the run's nucleotide embeddings: the baseline's where both bring features."""
        baseline = self.merged("baseline")
        if baseline is None or self.merged("candidate") is None:
            return self.nucleotides().store
        has_model = self.has_model("baseline")
        width = baseline.dim - self.embedder("baseline").dim if has_model else DNABERT_DIM
        return SomeColumns(baseline, slice(width))

    def _placebo_columns(self) -> Rows:
        """Return what the placebo sees.

        Raises
        ------
        MissingInput
            If the nucleotides cannot be told apart from what the baseline brings.
        """
        own, baseline = self._settings("baseline"), self.merged("baseline")
        if own.metrics or not (baseline or own.embeddings or self.has_model("baseline")):
            raise MissingInput(
                "[baseline] brings no features, so what its nucleotides alone would give is not "
                "known",
                remedy="Set `model`, `embeddings` or `features` in [baseline]; with metrics, bring "
                "predictions in their place",
            )
        columns = self.nucleotide_columns()
        if baseline is not None and not 0 < columns.dim < baseline.dim:
            raise MissingInput(
                f"{baseline.folder}: rows of {baseline.dim} values, in which no nucleotide part is "
                f"known: VirNucPro's has {DNABERT_DIM}, before the protein's",
                remedy="Set `model` in [baseline] to what embedded the proteins, or bring "
                "`embeddings` in place of `features`",
            )
        return columns

    def _settings(self, side: Side) -> ModelConfig:
        settings: ModelConfig = getattr(self._config, side)
        return settings

    def _load_embedder(self, side: Side, dtype: str) -> Embedder:
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
            model,
            kind=settings.kind,
            revision=settings.revision,
            dtype=dtype,
            device=self._device(),
        )

    def _device(self) -> str:
        return self._cache.ranks.claim_device(self._config.device)

    def _random_checkpoint(self, side: Side, shape: RandomWeights) -> Path:
        settings = asdict(shape)
        artifact = self._cache.obtain(
            f"model {side}",
            settings,
            lambda folder: write_random_checkpoint(folder, **settings),
            kind="models",
        )
        return artifact.path

    def _checked(
        self, brought: BroughtFiles, endings: tuple[str, ...], column: str
    ) -> Embedded[Rows]:
        """Refuse vectors of other sequences than the records'."""
        records = self._samples.embedded()
        check_sequences_beside(brought.files, records, endings=endings, column=column)
        return brought.embedded

    def _embed(
        self, name: str, part: Part, embedder: Embedder, *, device: str
    ) -> Embedded[EmbeddingStore]:
        """Return the embeddings of all records; on ``cuda``, one process for each GPU makes them.

        Parameters
        ----------
        name : str
            ``baseline``, ``candidate`` or ``nucleotide``.
        part : str
            What is embedded of each record.
        embedder : Embedder
            Computes the vectors.
        device : str
            What it computes on.
        """
        records, dtype = self._samples.embedded(), self._config.store_dtype
        column = COLUMNS[part]
        inputs: dict[str, Any] = {
            "records": self._samples.embedded_sha256(),
            "column": column,
            "embedder": embedder.digest,
            "layout": LAYOUT,
            "dtype": dtype,
        }
        if not self._cache.holds("embeddings", inputs):
            self._embed_on_all_gpus(name, part, device)

        def build(folder: Path) -> dict[str, Any] | None:
            pace = write_store(
                folder,
                records["id"],
                records[column],
                embedder,
                dtype=dtype,
                ranks=self._cache.ranks,
                progress=self._progress,
                name=f"embed {name}",
            )
            return asdict(pace) | {"n_rows": len(records)} if pace.n_sequences else None

        made = self._cache.obtain(
            f"embeddings {name}",
            inputs,
            build,
            stage=f"embed {name}",
            kind="embeddings",
            resumes=True,
            is_shared=True,
        )
        # the artifact's own digests have just been compared, or just been made
        store = EmbeddingStore(made.path, check_digests=False)
        return Embedded(store=store, path=made.path, sha256=made.sha256, notes=made.notes)

    def _embed_on_all_gpus(self, name: str, part: Part, device: str) -> None:
        """Have one process for each GPU make the store; this one then finds it."""
        import torch

        n_processes = count_processes(
            device, n_gpus=torch.cuda.device_count(), is_rank=is_under_torchrun()
        )
        if n_processes == 1:
            return
        side = "both" if part == "nucleotide" else name
        places = ["--gate-config", str(self._config_file), "--work-dir", str(self._cache.work_dir)]
        with self._cache.log.stage(f"embed {name} on {n_processes} GPUs"):
            run_on_ranks(n_processes, ["embed", side, "--only", part, *places], self._progress.say)
