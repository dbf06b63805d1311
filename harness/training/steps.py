"""Steps of several heads at once: forward, backward and update, written out in torch.

The numbers are those of a plain loop with autograd over the same batches; only the order of some
roundings differs. On a GPU all heads share each operation, what lies between the products is
compiled, and the steps of a call are recorded once and replayed. On the CPU the same code runs as
it stands: products, sums and exponentials head by head, the rest for all heads at once by
operations that round exactly. So each head gets the bits that it gets when it is trained alone.
Which rows make a batch is decided elsewhere.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TypeAlias

import torch

from harness.config import TrainingConfig
from harness.errors import DataError, MissingInput
from harness.training.features import LabelledRows
from harness.training.head import NORM_EPSILON, NORM_MOMENTUM, Head

__all__ = ["STEPS_PER_CALL", "EpochLosses", "HeadSteps", "require_triton"]

STEPS_PER_CALL = 64  # a step takes a GPU less time than Python needs to ask for it
PARTS = 4  # of the features in a GPU's first product: 32 rows alone do not fill it
LARGEST_RECORDED_BATCH = 512  # larger ones keep a GPU busy by themselves
_LINE_FLOATS = 16  # in a cache line

Pointwise: TypeAlias = Callable[..., tuple[torch.Tensor, ...]]


def require_triton(device: torch.device) -> None:
    """Raise MissingInput if a GPU's steps cannot be compiled; slower ones are never taken."""
    if device.type == "cuda" and find_spec("triton") is None:
        raise MissingInput(
            "training on a GPU needs Triton, which is not installed",
            remedy="Install PyTorch's CUDA build for Linux, which brings it, or train on the CPU",
        )


class HeadSteps:
    """Takes steps of SGD with momentum for several heads, each on batches of its own.

    Parameters
    ----------
    heads : sequence of Head
        Of one shape, on one device; trained in place: their parameters become views of what is
        trained here. A hidden layer's bias stays as it is: BatchNorm subtracts whatever it adds,
        so that its gradient is zero.
    recipe : TrainingConfig
        Batch size, momentum, dropout.

    Attributes
    ----------
    momenta : dict of Tensor
        SGD's momentum buffers, one row a head.
    """

    def __init__(self, heads: Sequence[Head], recipe: TrainingConfig) -> None:
        self._heads, self._recipe = tuple(heads), recipe
        self._decay, self._keep = float(recipe.momentum), 1 - float(recipe.dropout)
        self._device = heads[0].output_layer.weight.device
        self._weights = _take_over(heads)
        self.momenta = {
            name: _aligned(self._weights[name].shape, self._device).zero_()
            for name in ("first", "scale", "shift", "second", "bias")
        }
        self._rates = torch.tensor([0.0, self._decay], device=self._device)
        self._rngs = [torch.Generator(self._device) for _ in heads]
        n_rows = STEPS_PER_CALL * recipe.batch_size
        self._masks = torch.ones(
            (len(heads), n_rows, heads[0].hidden_dim), device=self._device
        )  # (head, row, hidden)
        self._losses = torch.zeros((len(heads), STEPS_PER_CALL), device=self._device)
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._replay: Callable[[], None] | None = None

    def set_learning_rate(self, rate: float) -> None:
        """Set that of the next steps."""
        self._rates[0] = -rate

    def without(self, numbers: Sequence[int]) -> HeadSteps:
        """Return what goes on with all heads but some; those stay as they are."""
        rest = [number for number in range(len(self._heads)) if number not in numbers]
        others = HeadSteps([self._heads[number] for number in rest], self._recipe)
        others.restore({name: momentum[rest] for name, momentum in self.momenta.items()})
        return others

    def restore(self, momenta: Mapping[str, torch.Tensor]) -> None:
        """Go on with the momentum of others."""
        for name, momentum in self.momenta.items():
            momentum.copy_(momenta[name])

    @torch.no_grad()
    def __call__(
        self, features: torch.Tensor, targets: torch.Tensor, *, dropout_seeds: Sequence[int]
    ) -> torch.Tensor:
        """Take up to 64 steps and return their losses, which the next call overwrites.

        Parameters
        ----------
        features : float32 tensor, (head, row, feature)
            Of up to 64 batches, the last of which may be smaller, but not of a single row.
        targets : float32 tensor, (head, row, class)
            One-hot labels.
        dropout_seeds : sequence of int, (n_heads,)
            All that the masks of these steps depend on.

        Returns
        -------
        float32 tensor, (head, step)
            Mean cross-entropy, nats.
        """
        n_rows, batch_size = features.shape[1], self._recipe.batch_size
        n_steps = -(-n_rows // batch_size)
        self._draw_masks(n_rows, dropout_seeds)
        is_full = n_rows == STEPS_PER_CALL * batch_size
        if features.is_cuda and is_full and batch_size <= LARGEST_RECORDED_BATCH:
            with torch.cuda.device(self._device):
                self._take_recorded(features, targets)
        else:
            for number in range(n_steps):
                rows = slice(number * batch_size, min((number + 1) * batch_size, n_rows))
                product = _multiply(features[:, rows], self._weights["first"])
                self._step(number, rows, product[:, None], features, targets, _activate, _descend)
        for head in self._heads:
            head.get_buffer("bn1.num_batches_tracked").add_(n_steps)
        return self._losses[:, :n_steps]

    def _draw_masks(self, n_rows: int, seeds: Sequence[int]) -> None:
        """Draw what dropout multiplies the hidden units by: 0, or 1 / (1 - rate)."""
        if self._keep == 1:
            return
        masks = self._masks[:, :n_rows]
        for rng, seed, mask in zip(self._rngs, seeds, masks, strict=True):
            mask.uniform_(generator=rng.manual_seed(seed))  # a CPU draws bernoulli_ far slower
        masks.lt_(self._keep).div_(self._keep)

    def _take_recorded(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Take the steps of a full call: the first one compiles, the second records."""
        n_heads, _, width = features.shape
        is_divisible = width % PARTS == 0 and self._weights["first"].is_contiguous()
        n_parts = PARTS if is_divisible else 1
        shape = (n_heads, STEPS_PER_CALL, -1, n_parts, width // n_parts)
        found = (features, targets, features.view(shape).permute(1, 0, 3, 2, 4))
        if not self._inputs:  # recorded work reads from where it was recorded
            contiguous = torch.contiguous_format
            self._inputs = tuple(tensor.clone(memory_format=contiguous) for tensor in found)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the compiler, about itself
                self._take_compiled()
            return
        for kept, tensor in zip(self._inputs, found, strict=True):
            kept.copy_(tensor)
        self._replay = self._replay or _record(self._take_compiled)
        self._replay()

    def _take_compiled(self) -> None:
        features, targets, parts = self._inputs  # parts: (step, head, part, row, feature)
        first = self._weights["first"].view(-1, parts.shape[-1], self._masks.shape[-1])
        for number, split in enumerate(parts):
            rows = slice(number * split.shape[2], (number + 1) * split.shape[2])
            product = torch.bmm(split.flatten(0, 1), first).view(*split.shape[:3], -1)
            activate, descend = _compiled(_activate), _compiled(_descend)
            self._step(number, rows, product, features, targets, activate, descend)

    def _step(
        self,
        number: int,
        rows: slice,
        product: torch.Tensor,  # (head, part, row, hidden)
        features: torch.Tensor,
        targets: torch.Tensor,
        activate: Pointwise,
        descend: Pointwise,
    ) -> None:
        """Take one step from the hidden layer's product on."""
        weights, momenta, mask = self._weights, self.momenta, self._masks[:, rows]
        normed, inverse, kept = activate(product, mask, weights)
        logits = _multiply(kept, weights["second"].transpose(1, 2))
        losses, d_product = descend(
            logits, targets[:, rows], normed, inverse, kept, mask, weights, momenta, self._rates
        )
        self._losses[:, number] = losses
        first, moved = weights["first"], momenta["first"]
        _multiply(features[:, rows].transpose(1, 2), d_product, out=moved, beta=self._decay)
        for value, momentum in _together(first, moved):
            value.addcmul_(momentum, self._rates[:1])


class EpochLosses:
    """One loss a step and head, kept on the device until somebody looks.

    Parameters
    ----------
    n_heads : int
        Heads that are trained.
    n_rows : int
        Rows of an epoch.
    batch_size : int
        Rows of a step; the last one has what is left.
    device : torch device
        Where the losses are computed.
    """

    def __init__(self, n_heads: int, *, n_rows: int, batch_size: int, device: torch.device) -> None:
        self.n_steps = -(-n_rows // batch_size)
        self.values = torch.zeros((n_heads, self.n_steps), device=device)
        self.n_done = 0
        self._n_rows = n_rows
        self._batch_size = batch_size

    def extend(self, losses: torch.Tensor) -> None:
        """Take the losses of the next steps, (head, step), without waiting for the device."""
        n_done = self.n_done + losses.shape[1]
        self.values[:, self.n_done : n_done] = losses
        self.n_done = n_done

    @property
    def n_rows_done(self) -> int:
        """Rows of the steps so far."""
        return min(self.n_done * self._batch_size, self._n_rows)

    def means(self) -> list[float]:
        """Return each head's mean over the rows of the steps so far."""
        rows = torch.full((self.n_done,), self._batch_size, dtype=torch.float64)
        rows[-1] += self.n_rows_done - self.n_done * self._batch_size
        losses = self.values[:, : self.n_done].cpu()
        return [((one * rows).sum() / rows.sum()).item() for one in losses]

    def require_finite(self, rows: LabelledRows, orders: torch.Tensor, *, epoch: int) -> None:
        """Raise DataError with step and records if a step of the epoch so far has no finite loss.

        Parameters
        ----------
        orders : int64 tensor, (head, row)
            Of the epoch's rows.
        """
        wrong = (~self.values[:, : self.n_done].isfinite()).nonzero()
        if not len(wrong):
            return
        head, step = wrong[wrong[:, 1].argmin()].tolist()
        batch = torch.split(orders[head], self._batch_size)[step].tolist()
        raise DataError(
            f"the loss of epoch {epoch}, step {step + 1} is {self.values[head, step].item()}: "
            "training stopped. Lower the learning rate, or look at the features of this batch: "
            + ", ".join(rows.names(batch))
        )


# What is trained or followed here, and what a head calls it.
_VALUES = {
    "first": "hidden_layer.weight",  # here (feature, hidden)
    "hidden_bias": "hidden_layer.bias",
    "scale": "bn1.weight",
    "shift": "bn1.bias",
    "mean": "bn1.running_mean",
    "variance": "bn1.running_var",
    "second": "output_layer.weight",
    "bias": "output_layer.bias",
}


def _take_over(heads: Sequence[Head]) -> dict[str, torch.Tensor]:
    """Return the heads' values, (head, ...), which they show from now on."""
    owned = [head.state_dict(keep_vars=True) for head in heads]
    stacked: dict[str, torch.Tensor] = {}
    for name, own in _VALUES.items():
        values = [each[own].data for each in owned]
        values = [value if value.ndim == 2 else value[None] for value in values]
        if name == "first":
            values = [value.t() for value in values]
        stacked[name] = _aligned((len(values), *values[0].shape), values[0].device)
        for row, value, each in zip(stacked[name], values, owned, strict=True):
            row.copy_(value)
            each[own].data = (row.t() if name == "first" else row).view_as(each[own])
    return stacked


def _activate(
    product: torch.Tensor,  # (head, part, row, hidden)
    mask: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """Apply BatchNorm, ReLU and dropout; return normed, the inverse deviation and the result."""
    before = product.sum(1) if product.shape[1] > 1 else product[:, 0]
    n_rows = before.shape[1]
    mean = _over_rows(before) / n_rows
    centred = before - mean
    variance = _over_rows(centred * centred) / n_rows
    unbiased = variance * (n_rows / (n_rows - 1))
    for running, found in (("mean", mean + weights["hidden_bias"]), ("variance", unbiased)):
        weights[running].mul_(1 - NORM_MOMENTUM).add_(found * NORM_MOMENTUM)
    inverse = 1 / torch.sqrt(variance + NORM_EPSILON)
    normed = centred * inverse
    return normed, inverse, torch.relu(normed * weights["scale"] + weights["shift"]) * mask


def _descend(
    logits: torch.Tensor,
    targets: torch.Tensor,
    normed: torch.Tensor,
    inverse: torch.Tensor,
    kept: torch.Tensor,
    mask: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
    momenta: Mapping[str, torch.Tensor],
    rates: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Update all but the first layer; return the losses and the gradient of its product."""
    n_rows, scale, second = logits.shape[1], weights["scale"], weights["second"]
    log_probability, probability = _class_probabilities(logits + weights["bias"])
    losses = _over_rows((log_probability * targets).sum(2, keepdim=True)) / -n_rows
    error = (probability - targets) / n_rows  # (head, row, class): d loss / d logits
    left, right = error[:, :, :1], error[:, :, 1:]
    d_kept = left * second[:, :1] + right * second[:, 1:]  # (head, row, hidden)
    d_normed = torch.where(kept > 0, d_kept * mask, 0.0)
    d_scale, d_shift = _over_rows(d_normed * normed), _over_rows(d_normed)
    inner = d_normed - d_shift / n_rows - normed * (d_scale / n_rows)
    d_product = inner * (scale * inverse)
    gradients = {
        "scale": d_scale,
        "shift": d_shift,
        "second": torch.cat([_over_rows(kept * left), _over_rows(kept * right)], 1),
        "bias": _over_rows(error),
    }
    for name, gradient in gradients.items():
        momenta[name].mul_(rates[1]).add_(gradient)
        weights[name].add_(momenta[name] * rates[0])
    return losses[:, 0, 0], d_product


def _class_probabilities(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logarithms of the probabilities, and these."""
    if logits.is_cuda:
        return torch.log_softmax(logits, 2), torch.softmax(logits, 2)
    logarithms = torch.stack([torch.log_softmax(one, 1) for one in logits])
    return logarithms, torch.stack([torch.softmax(one, 1) for one in logits])


def _over_rows(values: torch.Tensor) -> torch.Tensor:
    """Sum over the rows, (head, 1, column)."""
    if values.is_cuda:
        return values.sum(1, keepdim=True)
    return torch.stack([one.sum(0, keepdim=True) for one in values])


def _multiply(
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    out: torch.Tensor | None = None,
    beta: float = 0.0,
) -> torch.Tensor:
    """Compute beta out + left right, head by head on the CPU."""
    if out is None:
        out = _aligned((*left.shape[:2], right.shape[2]), left.device)
    if left.is_cuda:
        return torch.baddbmm(out, left, right, beta=beta, out=out)
    for into, one, other in zip(out, left, right, strict=True):
        torch.addmm(into, one, other, beta=beta, out=into)
    return out


def _together(*stacked: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield what is computed at once: all heads on a GPU, one after the other on the CPU."""
    return iter([stacked]) if stacked[0].is_cuda else zip(*stacked, strict=True)


def _aligned(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return memory in which each head begins on a cache line, so that products round alike."""
    n_floats = math.prod(shape[1:])
    row = -(-n_floats // _LINE_FLOATS) * _LINE_FLOATS
    return torch.empty((shape[0], row), device=device)[:, :n_floats].view(shape)


@cache
def _compiled(work: Pointwise) -> Pointwise:
    return torch.compile(work, dynamic=False)


def _record(work: Callable[[], None]) -> Callable[[], None]:
    """Record work on the current CUDA device as a graph, and return what replays it."""
    graph = torch.cuda.CUDAGraph()
    # Of this thread alone: meanwhile another one may wait for a copy (``batches``).
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay
