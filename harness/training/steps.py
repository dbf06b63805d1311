"""One step of training, written out: forward, backward and update without autograd's overhead.

The numbers are those of a plain PyTorch loop over the same batches; only the order of some
roundings differs. Which rows make a batch is decided elsewhere.

Many steps of training in one launch: recorded once on the device, then replayed.

A step takes a GPU less time than Python needs to ask for it. Which steps go together changes
nothing: whether they are replayed or taken one by one, they give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

import torch

from harness.config import TrainingConfig
from harness.training.head import N_CLASSES, NORM_MOMENTUM, Head, flatten_parameters, views_by_name

__all__ = [
    "BATCHES_PER_LAUNCH",
    "CapturedSteps",
    "DeviceStep",
    "TrainingStep",
    "record_graph",
]


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


class _Passed(NamedTuple):
    """What the backward pass needs of the forward pass."""

    pre: torch.Tensor  # (row, hidden), before BatchNorm
    mean: torch.Tensor  # (hidden,)
    inverse_deviation: torch.Tensor  # (hidden,)
    active: torch.Tensor  # (row, hidden), after ReLU
    mask: torch.Tensor | None  # (row, hidden), None without dropout
    kept: torch.Tensor  # (row, hidden), after dropout
    logits: torch.Tensor  # (row, class)


class TrainingStep:
    """Applies SGD with momentum to a head, one batch at a time.

    All parameters become views of one vector, and so do their gradients, which are computed in
    place: the update is three passes over vectors, and no step allocates a gradient of the hidden
    layer.

    Parameters
    ----------
    head : Head
        Is trained in place, on the device that it is on.
    recipe : TrainingConfig
        Learning rate, momentum, dropout.

    Attributes
    ----------
    batches_per_call : int
        How many batches a call takes.
    learning_rate : float
        Of the next steps.
    momentum : Tensor, (n_parameters,)
        SGD's momentum buffer.
    gradient : Tensor, (n_parameters,)
        Of the last step's loss.
    dropout_rng : Generator
        Draws the masks.
    """

    batches_per_call = 1

    def __init__(self, head: Head, recipe: TrainingConfig) -> None:
        self.learning_rate = float(recipe.learning_rate)
        self._head = head
        self._n_batches = head.get_buffer("bn1.num_batches_tracked")
        self._keep = 1 - float(recipe.dropout)
        self._decay = float(recipe.momentum)
        self._weights = flatten_parameters(head)
        self.momentum = torch.zeros_like(self._weights)
        self.gradient = torch.zeros_like(self._weights)
        self._gradients = views_by_name(head, self.gradient)
        self.dropout_rng = torch.Generator(self._weights.device)

    @property
    def dropout_state(self) -> torch.Tensor:
        """What the masks of the next steps depend on: a copy, uint8."""
        return self.dropout_rng.get_state()

    def seed_dropout(self, seed: int) -> None:
        """Begin an epoch's masks."""
        self.dropout_rng.manual_seed(seed)

    def restore(self, *, momentum: torch.Tensor, dropout_state: torch.Tensor) -> None:
        """Go on from where another one stood."""
        self.momentum.copy_(momentum)
        self.dropout_rng.set_state(dropout_state)

    @torch.no_grad()
    def __call__(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Take one step and return its loss: the mean cross-entropy in nats, a scalar tensor.

        Parameters
        ----------
        features : float32 tensor, (row, feature)
            At least two rows, since BatchNorm needs a variance.
        targets : float32 tensor, (row, class)
            One-hot labels.
        """
        passed = self._forward(features)
        log_probability = torch.log_softmax(passed.logits, dim=1)  # (row, class)
        loss = (log_probability * targets).sum().div_(-len(features))
        error = log_probability.exp_().sub_(targets).div_(len(features))  # d loss / d logits
        self._backward(features, passed, error)
        self.momentum.mul_(self._decay).add_(self.gradient)
        self._weights.add_(self.momentum, alpha=-self.learning_rate)
        return loss

    def _forward(self, features: torch.Tensor) -> _Passed:
        head, norm = self._head, self._head.bn1
        pre = torch.addmm(head.hidden_layer.bias, features, head.hidden_layer.weight.t())
        normed, mean, inverse_deviation = torch.native_batch_norm(
            pre, norm.weight, norm.bias, norm.running_mean, norm.running_var,
            True, NORM_MOMENTUM, norm.eps,
        )  # fmt: skip
        self._n_batches.add_(1)
        active = normed.relu_()  # (row, hidden)
        mask = self._draw_mask(active)
        kept = active if mask is None else active * mask
        logits = torch.addmm(head.output_layer.bias, kept, head.output_layer.weight.t())
        return _Passed(pre, mean, inverse_deviation, active, mask, kept, logits)

    def _draw_mask(self, active: torch.Tensor) -> torch.Tensor | None:
        """Return what dropout multiplies the hidden units by: 0, or 1 / (1 - rate)."""
        if self._keep == 1:
            return None
        uniform = torch.rand(active.shape, generator=self.dropout_rng, device=active.device)
        return uniform.lt_(self._keep).div_(self._keep)

    def _backward(self, features: torch.Tensor, passed: _Passed, error: torch.Tensor) -> None:
        """Fill the gradients of all parameters from that of the logits."""
        norm, into = self._head.bn1, self._gradients
        torch.mm(error.t(), passed.kept, out=into["output_layer.weight"])
        torch.sum(error, 0, out=into["output_layer.bias"])
        d_active = error @ self._head.output_layer.weight  # (row, hidden)
        if passed.mask is not None:
            d_active *= passed.mask
        d_normed = torch.ops.aten.threshold_backward(d_active, passed.active, 0)
        # The hidden layer's bias has no gradient: BatchNorm subtracts whatever it adds.
        d_pre, d_scale, d_shift = torch.ops.aten.native_batch_norm_backward(
            d_normed, passed.pre, norm.weight, norm.running_mean, norm.running_var,
            passed.mean, passed.inverse_deviation, True, norm.eps, [True, True, True],
        )  # fmt: skip
        into["bn1.weight"].copy_(d_scale)
        into["bn1.bias"].copy_(d_shift)
        torch.mm(d_pre.t(), features, out=into["hidden_layer.weight"])
