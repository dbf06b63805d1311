"""Many steps of training in one launch: recorded once on the device, then replayed.

A step takes a GPU less time than Python needs to ask for it. Which steps go together changes
nothing: whether they are replayed or taken one by one, they give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import torch

from harness.config import TrainingConfig
from harness.training.head import N_CLASSES, Head

__all__ = ["BATCHES_PER_LAUNCH", "CapturedSteps", "DeviceStep", "record_graph"]

BATCHES_PER_LAUNCH = 64

Work = Callable[[], None]


class DeviceStep(Protocol):
    """A step that never waits for the device: see ``FusedStep``."""

    learning_rate: torch.Tensor
    dropout_state: torch.Tensor
    momentum: torch.Tensor
    losses: torch.Tensor

    def __call__(self, features: torch.Tensor, targets: torch.Tensor, *, step: int) -> None:
        """Take one step."""


class CapturedSteps:
    """Takes the steps of up to 64 batches in one call.

    The first full call takes them one by one, so that everything is compiled and loaded; the second
    one is recorded; all later ones are replayed. Calls with fewer rows (the end of an epoch) are
    taken one by one.

    Parameters
    ----------
    head : Head
        Whose parameters ``step`` trains.
    recipe : TrainingConfig
        Batch size and learning rate.
    step : DeviceStep
        Takes one step, with a loss for each batch of a call.
    record : callable
        Records work on the device without doing it, and returns what replays it.

    Attributes
    ----------
    batches_per_call : int
        How many batches a call takes.
    """

    batches_per_call = BATCHES_PER_LAUNCH

    def __init__(
        self,
        head: Head,
        recipe: TrainingConfig,
        *,
        step: DeviceStep,
        record: Callable[[Work], Work],
    ) -> None:
        self._step, self._record = step, record
        self._batch_size = recipe.batch_size
        self._n_batches = head.get_buffer("bn1.num_batches_tracked")
        n_rows, device = self.batches_per_call * recipe.batch_size, step.momentum.device
        # Recorded work reads from where it was recorded.
        self._features = torch.empty((n_rows, head.n_features), device=device)
        self._targets = torch.empty((n_rows, N_CLASSES), device=device)
        self._is_warm = False
        self._replay: Work | None = None
        self.learning_rate = float(recipe.learning_rate)

    @property
    def learning_rate(self) -> float:
        """Of the next steps."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = value
        self._step.learning_rate.fill_(value)

    @property
    def momentum(self) -> torch.Tensor:
        """SGD's momentum buffer, (n_parameters,)."""
        return self._step.momentum

    @property
    def dropout_state(self) -> torch.Tensor:
        """What the masks of the next steps depend on: a copy, int64 (2,)."""
        return self._step.dropout_state.clone()

    def seed_dropout(self, seed: int) -> None:
        """Begin an epoch's masks."""
        self._step.dropout_state.copy_(torch.tensor([seed, 0]))

    def restore(self, *, momentum: torch.Tensor, dropout_state: torch.Tensor) -> None:
        """Go on from where another one stood."""
        self._step.momentum.copy_(momentum)
        self._step.dropout_state.copy_(dropout_state)

    @torch.no_grad()
    def __call__(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Take the steps and return their losses, (n_batches,), which the next call overwrites.

        Parameters
        ----------
        features : float32 tensor, (row, feature)
            Of up to 64 batches, the last of which may be smaller.
        targets : float32 tensor, (row, class)
            One-hot labels.
        """
        n_rows = len(features)
        n_steps = -(-n_rows // self._batch_size)
        with torch.cuda.device_of(self._features):  # type: ignore[no-untyped-call]
            self._features[:n_rows].copy_(features)
            self._targets[:n_rows].copy_(targets)
            self._take(n_rows)
            self._step.dropout_state[1].add_(n_steps)
            self._n_batches.add_(n_steps)
        return self._step.losses[:n_steps]

    def _take(self, n_rows: int) -> None:
        if n_rows < len(self._features):
            self._take_singly(n_rows)
        elif not self._is_warm:
            self._take_singly(n_rows)
            self._is_warm = True
        else:
            self._replay = self._replay or self._record(partial(self._take_singly, n_rows))
            self._replay()

    def _take_singly(self, n_rows: int) -> None:
        for number, rows in enumerate(_batch_slices(n_rows, self._batch_size)):
            self._step(self._features[rows], self._targets[rows], step=number)


def record_graph(work: Work) -> Work:
    """Record work on the current CUDA device as a graph, and return what replays it."""
    graph = torch.cuda.CUDAGraph()
    # Of this thread alone: meanwhile another one may wait for a copy (``streaming``).
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def _batch_slices(n_rows: int, batch_size: int) -> Iterator[slice]:
    for start in range(0, n_rows, batch_size):
        yield slice(start, min(start + batch_size, n_rows))
