"""The heads of a run: trained once for the declared seed, and, on request, for others beside it.

The gate judges the head of the declared seed. Of the other seeds only validation numbers are kept,
so that no other head can be judged or deployed in its place. Whether a side's features lie in
memory or on disk while a head sees them is decided here, too; the numbers are the same either way.
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

from harness.artifacts import Artifact, write_atomically
from harness.config import GateConfig
from harness.pipeline.cache import StageCache, once
from harness.pipeline.samples import Samples
from harness.pipeline.vectors import Side, Vectors
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
    vectors: Vectors, side: Side, ids: pd.Series[str], *, n_rows: int | None = None
) -> Features:
    """Return a side's features of some records: nucleotide, then protein embedding.

    Parameters
    ----------
    vectors : Vectors
        Where they come from.
    side : Side
    ids : Series of str, (n_ids,)
        The records.
    n_rows : int, optional
        How many rows are wanted at once, these included; default: these alone.

    Returns
    -------
    float32 array or StoredRows, (n_ids, n_features)
        Rows on disk, if those wanted at once would take more than a quarter of the memory.
    """
    stores = vectors.feature_stores(side)
    n_features = sum(store.dim for store in stores)
    n_bytes = (n_rows or len(ids)) * n_features * np.dtype(np.float32).itemsize
    if n_bytes > RESIDENT_SHARE * memory_bytes():
        return StoredRows(stores, ids)
    return vectors.features(side, ids)


def memory_bytes() -> int:
    """Return how much memory this process may use: the machine's, or less in a container."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        path.read_text(encoding="ascii").strip() for path in _CONTAINER_LIMITS if path.is_file()
    ]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


HEAD_FILE = "head.safetensors"
_UNFINISHED = "unfinished"
_SPREADS = "seed-spreads"


class Heads:
    """Trains the heads of both sides on the same rows, in the same order.

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
        self._keeps_rows = False
        self._kept: dict[Side, HeadTrainer] = {}

    @once
    def head(self, side: Side, *, takes_signals: bool = False) -> Artifact:
        """Return a side's head for the declared seed.

        Its folder holds ``head.safetensors``, the head that is to be evaluated, ``training.json``
        and ``training.jsonl``; where that head is the best one, also ``final.safetensors``.

        Parameters
        ----------
        side : Side
        takes_signals : bool
            On SIGINT or SIGTERM stop after the step, save, and raise ``TrainingInterrupted``.
        """
        inputs = self._inputs(side)
        recipe = inputs["recipe"]

        def build(folder: Path) -> None:
            with _resumable(folder) as unfinished:
                trained = self._trainer(side).fit(
                    seed=self._config.seed,
                    folder=unfinished,
                    name=_name(side, self._config.seed),
                    takes_signals=takes_signals,
                )
                save_head(folder / HEAD_FILE, trained, {"inputs": inputs})
                if trained.best is not None:
                    save_head(
                        folder / "final.safetensors", trained, {"inputs": inputs}, which="final"
                    )
                write_history(folder / "training.jsonl", trained.history)
                facts = trained.to_dict() | {"recipe": recipe}
                write_atomically(folder / "training.json", json.dumps(facts))

        return self._cache.obtain(
            f"head {side}", inputs, build, stage=f"train {side}", kind="heads", resumes=True
        )

    def training(self, side: Side) -> dict[str, Any]:
        """Return how a side's head was trained, and ``spread`` where other seeds are known."""
        facts = self._training(side)
        inputs = self._inputs(side)
        found = self._cache.find(_SPREADS, lambda made_from: made_from["head"] == inputs)
        spreads = [_read_json(artifact.path / "spread.json") for artifact in found]
        return facts | ({"spread": max(spreads, key=len)} if spreads else {})

    def spread(
        self, side: Side, n_seeds: int, *, takes_signals: bool = False
    ) -> list[dict[str, Any]]:
        """Return how far the head's validation numbers depend on the seed.

        Parameters
        ----------
        side : Side
        n_seeds : int
            The declared seed and the ones that follow it; at least 2.
        takes_signals : bool
            As for ``head``.

        Returns
        -------
        list of dict of JSON values
            One a seed, the declared one first: seed, evaluated, epochs_run, best_epoch,
            validation_loss and validation_accuracy of the head that would be evaluated.
        """
        if n_seeds < 2:
            raise ValueError(f"a spread takes at least 2 seeds, got {n_seeds}")
        first = self._training(side)
        others = range(first["seed"] + 1, first["seed"] + n_seeds)

        def build(folder: Path) -> None:
            with _resumable(folder) as unfinished:
                trainer = self._trainer(side)
                trained = [
                    trainer.fit(
                        seed=seed,
                        folder=unfinished / f"seed-{seed}",
                        name=_name(side, seed),
                        takes_signals=takes_signals,
                    )
                    for seed in others
                ]
                known = [first, *(head.to_dict() for head in trained)]
                text = json.dumps(list(map(_validation_result, known)))
                write_atomically(folder / "spread.json", text)

        artifact = self._cache.obtain(
            f"spread {side}",
            {"head": self._inputs(side), "n_seeds": n_seeds},
            build,
            stage=f"train {side} with {n_seeds - 1} other seeds",
            kind=_SPREADS,
            resumes=True,
        )
        rows: list[dict[str, Any]] = _read_json(artifact.path / "spread.json")
        return rows

    def _training(self, side: Side) -> dict[str, Any]:
        facts: dict[str, Any] = _read_json(self.head(side).path / "training.json")
        return facts

    def _inputs(self, side: Side) -> dict[str, Any]:
        """Return everything that a side's head depends on."""
        return self._vectors.feature_digests(side) | {
            "split": self._samples.drawn().sha256,
            "recipe": self._config.to_dict()["training"],
            "seed": self._config.seed,
            "device": self._config.device,
        }

    @contextmanager
    def keeping_rows(self) -> Iterator[None]:
        """Within it, all trainings of a side share its rows, which are read once."""
        self._keeps_rows = True
        try:
            yield
        finally:
            self._keeps_rows = False
            self._kept.clear()

    def _trainer(self, side: Side) -> HeadTrainer:
        if side in self._kept:
            return self._kept[side]
        self._kept.clear()  # the other side's rows: both may be more than the device holds
        train, validation = self._samples.part("train"), self._samples.part("validation")
        n_rows = len(train) + len(validation)
        features, validation_features = (
            feature_rows(self._vectors, side, part["id"], n_rows=n_rows)
            for part in (train, validation)
        )
        trainer = HeadTrainer(
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
        if self._keeps_rows:
            self._kept[side] = trainer
        return trainer


@contextmanager
def _resumable(folder: Path) -> Iterator[Path]:
    """Yield where an unfinished training is kept; once it is finished, nothing of it stays."""
    unfinished = folder / _UNFINISHED
    for leftover in folder.iterdir():  # of a call that was killed while it wrote its results
        if leftover != unfinished:
            leftover.unlink()
    yield unfinished
    shutil.rmtree(unfinished)


def _name(side: Side, seed: int) -> str:
    return f"train {side}, seed {seed}"


def _validation_result(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the validation numbers of the epoch that the evaluated head is from."""
    is_best = facts["evaluated"] == "best"
    epoch = facts["history"][facts["best_epoch"] - 1 if is_best else -1]
    return {
        **{key: facts[key] for key in ("seed", "evaluated", "epochs_run", "best_epoch")},
        **{key: epoch[key] for key in ("validation_loss", "validation_accuracy")},
    }


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
