"""Training heads: the one way in, the same for the baseline and the candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd

from harness.config import TrainingConfig
from harness.progress import Progress
from harness.training.features import Features, label_rows
from harness.training.history import EpochRecord
from harness.training.interruption import stop_requests
from harness.training.run import TrainingRun
from harness.training.setup import prepare
from harness.training.trained import TrainedHead

__all__ = ["fit_head", "fit_heads"]

VIRNUCPRO_RECIPE = TrainingConfig()


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
    is_streamed: bool = False,
    takes_signals: bool = False,
    allows_tf32: bool = False,
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
        Shows steps, learning rate, losses, accuracy, patience and rows per second.
    on_epoch : callable, optional
        Is given each epoch's record once its state is saved.
    is_streamed : bool
        Leave the features in the host's memory and copy them to the device piece by piece.
    takes_signals : bool
        On SIGINT or SIGTERM stop after the step, save, and raise ``TrainingInterrupted``; on CUDA,
        where up to 64 steps are launched together, after those.
    allows_tf32 : bool
        Let a GPU round the factors of the hidden layer's products in training to TF32, which is
        quicker: eight bits of exponent and ten of fraction. Validation is in float32 always.
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
    setup = prepare(
        label_rows("train", features, labels, ids),
        label_rows("validation", validation_features, validation_labels, validation_ids),
        recipe=recipe,
        device=device,
        metadata=metadata,
        progress=progress,
        on_epoch=on_epoch,
        is_streamed=is_streamed,
        allows_tf32=allows_tf32,
        clock=clock,
    )
    with stop_requests(is_enabled=takes_signals) as stop:
        return TrainingRun(setup, seed=seed, folder=folder).finish(stop, name=name)


def fit_heads(
    features: Features,
    labels: npt.ArrayLike,
    *,
    seeds: Sequence[int],
    validation_features: Features,
    validation_labels: npt.ArrayLike,
    recipe: TrainingConfig = VIRNUCPRO_RECIPE,
    device: str = "cpu",
    ids: Sequence[str] | pd.Series[str] | None = None,
    validation_ids: Sequence[str] | pd.Series[str] | None = None,
    folder: Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    name: str = "train head",
    progress: Progress | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    is_streamed: bool = False,
    takes_signals: bool = False,
    allows_tf32: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[TrainedHead, ...]:
    """Train one head for each seed, on the same rows, which are brought to the device once.

    Parameters
    ----------
    seeds : sequence of int
        Each head is the one that ``fit_head`` gives for its seed.
    folder : Path, optional
        Each seed has a folder of its own in it, such as ``seed-42``.

    All others are as for ``fit_head``.

    Returns
    -------
    tuple of TrainedHead
        In the order of the seeds.
    """
    setup = prepare(
        label_rows("train", features, labels, ids),
        label_rows("validation", validation_features, validation_labels, validation_ids),
        recipe=recipe,
        device=device,
        metadata=metadata,
        progress=progress,
        on_epoch=on_epoch,
        is_streamed=is_streamed,
        allows_tf32=allows_tf32,
        clock=clock,
    )
    with stop_requests(is_enabled=takes_signals) as stop:
        return tuple(
            TrainingRun(setup, seed=seed, folder=folder and folder / f"seed-{seed}").finish(
                stop, name=f"{name}, seed {seed}"
            )
            for seed in seeds
        )
