"""The heads of a run: one a seed for each side and for the placebo, trained on the same rows.

The head of the declared seed is the one that ships; the placebo sees the nucleotides alone.
Also where features lie while a head sees them: in memory, or on disk if they are too many; the
numbers are the same either way.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.artifacts import Artifact, remove, write_atomically
from harness.config import GateConfig
from harness.documents import read_json
from harness.errors import ArtifactError
from harness.pipeline.cache import StageCache, once
from harness.pipeline.samples import Samples
from harness.pipeline.vectors import Arm, Vectors
from harness.progress import Progress
from harness.training import HeadTrainer, save_head
from harness.training.features import Features, StoredRows
from harness.training.history import write_history

__all__ = [
    "HEAD_FILE",
    "Heads",
    "feature_rows",
    "memory_bytes",
]


# Of the machine's memory. Putting nucleotide and protein embeddings together takes their size
# twice, and whatever else runs needs some, too.
RESIDENT_SHARE = 0.25

# What a container may use: version 2 of Linux's control groups, and version 1.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def feature_rows(
    vectors: Vectors, arm: Arm, ids: pd.Series[str], *, n_rows: int | None = None
) -> Features:
    """Return an arm's features of some records: nucleotide, then protein embedding.

    Parameters
    ----------
    vectors : Vectors
        Where they come from.
    arm : Arm
        Which head is to see them.
    ids : Series of str, (n_ids,)
        The records.
    n_rows : int, optional
        How many rows are wanted at once, these included; default: these alone.

    Returns
    -------
    float32 array or StoredRows, (n_ids, n_features)
        Rows on disk, if those wanted at once would take more than a quarter of the memory.
    """
    stores = vectors.feature_stores(arm)
    n_features = sum(store.dim for store in stores)
    n_bytes = (n_rows or len(ids)) * n_features * np.dtype(np.float32).itemsize
    if n_bytes > RESIDENT_SHARE * memory_bytes():
        return StoredRows(stores, ids)
    return vectors.features(arm, ids)


def memory_bytes() -> int:
    """Return how much memory this process may use: the machine's, or less in a container."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        path.read_text(encoding="ascii").strip() for path in _CONTAINER_LIMITS if path.is_file()
    ]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


HEAD_FILE = "head.safetensors"
_UNFINISHED = "unfinished"


class Heads:
    """Trains the heads of both sides and of the placebo on the same rows, in the same order.

    A training that is interrupted or killed goes on where its state was last saved when the same
    head is asked for again.

    Parameters
    ----------
    config : GateConfig
        The recipe and the declared seed.
    samples : Samples
        The records and their split.
    vectors : Vectors
        Their features.
    cache : StageCache
        Keeps what is made.
    progress : Progress
        Shows how far training is.
    """

    def __init__(
        self,
        config: GateConfig,
        samples: Samples,
        vectors: Vectors,
        cache: StageCache,
        progress: Progress,
    ) -> None:
        self._config, self._progress = config, progress
        self._samples, self._vectors, self._cache = samples, vectors, cache

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds of each side's heads, the declared one first."""
        first = self._config.seed
        return tuple(range(first, first + self._config.training.seeds))

    @once
    def head(self, arm: Arm, *, takes_signals: bool = False) -> Artifact:
        """Return an arm's heads.

        The folder holds ``head.safetensors``, the head of the declared seed that is to be
        evaluated, one more for each other seed (``head_file``), ``training.json`` and
        ``training.jsonl``; where the best head is evaluated, also ``final.safetensors``.

        Parameters
        ----------
        arm : Arm
        takes_signals : bool
            On SIGINT or SIGTERM stop after the steps, save, and raise ``TrainingInterrupted``.
        """
        inputs = self._inputs(arm)

        def build(folder: Path) -> None:
            with _resumable(folder) as unfinished:
                heads = self._trainer(arm).fit(
                    seeds=self.seeds,
                    folder=unfinished,
                    name=f"train {arm}",
                    takes_signals=takes_signals,
                )
                first, about = heads[0], {"inputs": inputs}
                for trained in heads:
                    save_head(folder / self.head_file(trained.seed), trained, about)
                if first.best is not None:
                    save_head(folder / "final.safetensors", first, about, which="final")
                write_history(
                    folder / "training.jsonl", {each.seed: each.history for each in heads}
                )
                facts = first.to_dict() | {
                    "recipe": inputs["recipe"],
                    "heads": [each.summary() for each in heads],
                }
                write_atomically(folder / "training.json", json.dumps(facts))

        return self._cache.obtain(
            f"head {arm}", inputs, build, stage=f"train {arm}", kind="heads", resumes=True
        )

    def head_file(self, seed: int) -> str:
        """Return the name of a seed's head within an arm's folder."""
        return HEAD_FILE if seed == self._config.seed else f"head-{seed}.safetensors"

    def training(self, arm: Arm) -> dict[str, Any]:
        """Return how an arm's heads were trained: the first in full, all in short as ``heads``."""
        path = self.head(arm).file("training.json")
        try:
            facts: dict[str, Any] = read_json(path)
        except ValueError as error:
            raise ArtifactError(f"{path}: {error}. Delete {path.parent} and run again") from error
        return facts

    def _inputs(self, arm: Arm) -> dict[str, Any]:
        """Return everything that an arm's head depends on."""
        return self._vectors.feature_digests(arm) | {
            "split": self._samples.drawn().sha256,
            "recipe": self._config.to_dict()["training"],
            "seed": self._config.seed,
            "device": self._config.device,
        }

    def _trainer(self, arm: Arm) -> HeadTrainer:
        train, validation = self._samples.part("train"), self._samples.part("validation")
        n_rows = len(train) + len(validation)
        features, validation_features = (
            feature_rows(self._vectors, arm, part["id"], n_rows=n_rows)
            for part in (train, validation)
        )
        return HeadTrainer(
            features,
            train["label"],
            validation_features=validation_features,
            validation_labels=validation["label"],
            recipe=self._config.training,
            device=self._config.device,
            ids=train["id"],
            validation_ids=validation["id"],
            progress=self._progress,
        )


@contextmanager
def _resumable(folder: Path) -> Iterator[Path]:
    """Yield where an unfinished training is kept; once it is finished, nothing of it stays."""
    unfinished = folder / _UNFINISHED
    for leftover in folder.iterdir():  # of a call that was killed while it wrote its results
        if leftover != unfinished:
            remove(leftover)
    yield unfinished
    shutil.rmtree(unfinished)
