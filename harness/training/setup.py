"""What heads share when several are trained: the rows on their device, the recipe, the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from harness.config import TrainingConfig
from harness.progress import Progress
from harness.training.batches import BatchFeed
from harness.training.features import LabelledRows, TrainingData

__all__ = ["Setup", "bring_rows", "must_stream"]

# Of a GPU's free memory; the rest is for whatever else the process does there.
RESIDENT_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that training depends on but the seed, ready for use.

    Attributes
    ----------
    data : TrainingData
        Validation features lie on the device already, unless they are streamed.
    feed : BatchFeed
        Of the training rows.
    """

    data: TrainingData
    feed: BatchFeed
    recipe: TrainingConfig
    device: torch.device
    progress: Progress
    clock: Callable[[], float]


def bring_rows(
    data: TrainingData, device: torch.device, *, is_streamed: bool
) -> tuple[TrainingData, BatchFeed]:
    """Bring the rows to the device, or prepare to stream them."""
    feed = BatchFeed(data.train, batch_size=data.batch_size, device=device, is_streamed=is_streamed)
    validation = data.validation
    if isinstance(validation.features, torch.Tensor) and not is_streamed:
        # A copy even on the CPU: torch's memory is aligned, so that every process rounds alike.
        resident = validation.features.to(device, copy=True)
        data = replace(data, validation=replace(validation, features=resident))
    return data, feed


def must_stream(data: TrainingData, device: torch.device) -> bool:
    """Return whether the features would take more than half of a GPU's free memory."""
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return _n_bytes(data.train) + _n_bytes(data.validation) > RESIDENT_SHARE * free_bytes


def _n_bytes(rows: LabelledRows) -> int:
    return len(rows) * rows.n_features * torch.float32.itemsize
