"""Training heads: the one way in, the same for the baseline and the candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd
import torch

from harness.config import TrainingConfig
from harness.embedding.esm.device import require_device
from harness.progress import Progress
from harness.training.features import Features, TrainingData, label_rows
from harness.training.history import EpochRecord
from harness.training.interruption import stop_requests
from harness.training.run import TrainingRun
from harness.training.setup import Setup, bring_rows, must_stream
from harness.training.trained import TrainedHead

__all__ = ["HeadTrainer", "fit_head"]

VIRNUCPRO_RECIPE = TrainingConfig()


class HeadTrainer:
    """Holds checked rows where they are needed, and trains heads on them, seed by seed.

    The parameters are those of ``fit_head`` that do not depend on the seed.

    Raises
    ------
    DataError
        If the rows cannot be trained on.
    MissingInput
        If the device is not there.
    """

    def __init__(
        self,
        features: Features,
        labels: npt.ArrayLike,
        *,
        validation_features: Features,
        validation_labels: npt.ArrayLike,
        recipe: TrainingConfig = VIRNUCPRO_RECIPE,
        device: str = "cpu",
        ids: Sequence[str] | pd.Series[str] | None = None,
        validation_ids: Sequence[str] | pd.Series[str] | None = None,
        progress: Progress | None = None,
        is_streamed: bool | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        require_device(device)
        target = torch.device(device)
        data = TrainingData(
            train=label_rows("train", features, labels, ids),
            validation=label_rows(
                "validation", validation_features, validation_labels, validation_ids
            ),
            batch_size=recipe.batch_size,
        )
        if is_streamed is None:
            is_streamed = must_stream(data, target)
        data, feed = bring_rows(data, target, is_streamed=is_streamed)
        self._setup = Setup(
            data=data,
            feed=feed,
            recipe=recipe,
            device=target,
            progress=progress or Progress(),
            clock=clock,
        )

    def fit(
        self,
        *,
        seed: int = 42,
        folder: Path | None = None,
        metadata: Mapping[str, Any] | None = None,
        name: str = "train head",
        on_epoch: Callable[[EpochRecord], None] | None = None,
        takes_signals: bool = False,
    ) -> TrainedHead:
        """Train one head, as ``fit_head`` does."""
        run = TrainingRun(self._setup, seed=seed, folder=folder, name=name, on_epoch=on_epoch)
        with stop_requests(is_enabled=takes_signals) as stop:
            return run.finish(stop, metadata or {})


def fit_head(
    features: Features,
    labels: npt.ArrayLike,
    *,
    validation_features: Features,
    validation_labels: npt.ArrayLike,
    recipe: TrainingConfig = VIRNUCPRO_RECIPE,
    seed: int = 42,
    device: str = "cpu",
    ids: Sequence[str] | pd.Series[str] | None = None,
    validation_ids: Sequence[str] | pd.Series[str] | None = None,
    folder: Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    name: str = "train head",
    progress: Progress | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    is_streamed: bool | None = None,
    takes_signals: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainedHead:
    """Train one head by VirNucPro's recipe.

    Weights, shuffling and dropout have seeds of their own, derived from ``seed``. The order of the
    rows depends on it and their number alone. On the CPU the same call gives the same weights bit
    for bit, for a given number of threads; on one kind of GPU as well.

    Parameters
    ----------
    features : float array, (n_rows, n_features)
        Or ``StoredRows``, which stay on disk.
    labels : int array, (n_rows,)
        0, or 1 for viral.
    validation_features, validation_labels : as above
        Rows that early stopping looks at. There is no argument for test rows.
    recipe : TrainingConfig
        Hyperparameters; by default those of VirNucPro's train.py.
    seed : int
        At least 0.
    device : str
        A torch device, such as ``cpu`` or ``cuda``.
    ids, validation_ids : sequence of str, optional
        Record ids, for messages.
    folder : Path, optional
        Where the state is saved after every epoch, with ``training.jsonl`` and, in the end,
        ``final.safetensors`` (and ``best.safetensors``). The same call goes on from what an
        interrupted one left there.
    metadata : mapping of JSON values, optional
        What the saved heads say about themselves besides: digests of split and features.
    name : str
        Of the task that ``progress`` shows.
    progress : Progress, optional
        Shows steps, learning rate, losses, accuracy, patience and rows per second; in a log, a line
        an epoch.
    on_epoch : callable, optional
        Is given each epoch's record once its state is saved.
    is_streamed : bool, optional
        Leave the features in the host's memory and copy them to the device piece by piece; by
        default, if they would take more than half of a GPU's free memory. The head is the same.
    takes_signals : bool
        On SIGINT or SIGTERM stop after the step, save, and raise ``TrainingInterrupted``; on CUDA,
        where up to 64 steps are launched together, after those.
    clock : callable
        Returns seconds.

    Returns
    -------
    TrainedHead
        The final head, with ``recipe.save_best`` also a copy of the best one.

    Raises
    ------
    DataError
        If the rows cannot be trained on, or a loss is not finite.
    MissingInput
        If the device is not there.
    ArtifactError
        If ``folder`` cannot be written to, or belongs to another training.
    TrainingInterrupted
        See ``takes_signals``.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.random.default_rng(0).normal(size=(96, 8))
    >>> labels = features[:, 0] > 0
    >>> trained = fit_head(
    ...     features[:64], labels[:64],
    ...     validation_features=features[64:], validation_labels=labels[64:],
    ... )
    >>> trained.predict(features[64:]).shape
    (32,)
    """
    trainer = HeadTrainer(
        features,
        labels,
        validation_features=validation_features,
        validation_labels=validation_labels,
        recipe=recipe,
        device=device,
        ids=ids,
        validation_ids=validation_ids,
        progress=progress,
        is_streamed=is_streamed,
        clock=clock,
    )
    return trainer.fit(
        seed=seed,
        folder=folder,
        metadata=metadata,
        name=name,
        on_epoch=on_epoch,
        takes_signals=takes_signals,
    )
