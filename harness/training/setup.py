"""What heads may share when several are trained: rows on their device, recipe, and watchers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from harness.config import TrainingConfig
from harness.embedding.esm.device import require_device
from harness.progress import Progress
from harness.training.batches import BatchFeed
from harness.training.features import LabelledRows, TrainingData
from harness.training.history import EpochRecord

__all__ = ["Setup", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The arguments of ``fit_head`` that do not depend on the seed, ready for use.

    Attributes
    ----------
    data : TrainingData
        Validation features lie on the device already, unless they are streamed.
    feed : BatchFeed
        Of the training rows.
    allows_tf32 : bool
        Whether a GPU may train with TF32 products.
    """

    data: TrainingData
    feed: BatchFeed
    recipe: TrainingConfig
    device: torch.device
    allows_tf32: bool
    metadata: Mapping[str, Any]
    progress: Progress
    on_epoch: Callable[[EpochRecord], None] | None
    clock: Callable[[], float]


def prepare(
    train: LabelledRows,
    validation: LabelledRows,
    *,
    recipe: TrainingConfig,
    device: str,
    metadata: Mapping[str, Any] | None,
    progress: Progress | None,
    on_epoch: Callable[[EpochRecord], None] | None,
    is_streamed: bool,
    allows_tf32: bool,
    clock: Callable[[], float],
) -> Setup:
    """Check the rows together and bring them to the device.

    Raises
    ------
    DataError
        If the rows cannot be trained on.
    MissingInput
        If the device is not there.
    """
    require_device(device)
    target = torch.device(device)
    data = TrainingData(train=train, validation=validation, batch_size=recipe.batch_size)
    if isinstance(validation.features, torch.Tensor) and not is_streamed:
        # A copy even on the CPU: torch's memory is aligned, so that every process rounds alike.
        resident = validation.features.to(target, copy=True)
        data = replace(data, validation=replace(validation, features=resident))
    return Setup(
        data=data,
        feed=BatchFeed(train, batch_size=recipe.batch_size, device=target, is_streamed=is_streamed),
        recipe=recipe,
        device=target,
        allows_tf32=allows_tf32,
        metadata=metadata or {},
        progress=progress or Progress(),
        on_epoch=on_epoch,
        clock=clock,
    )
