"""What several heads cost that are trained as one batched computation, beside today's one head.

    python benchmarks/training_seeds.py                # on the GPU where there is one
    python benchmarks/training_seeds.py --device cpu

Ways to take the same step for S heads, each with batches of its own, timed in turns in one run:

    autograd   torch.baddbmm, autograd, fused SGD
    written    the backward pass written out in torch, gradients added to the momentum in place
    compiled   the same, with its pointwise parts compiled by torch.compile
    shared     compiled, with the same batches for all heads: one product instead of S

``/P`` after a name: the first product is computed in P parts of the features, added up afterwards,
since 32 rows alone do not fill a GPU. On a GPU 64 steps are captured in a graph; a call gathers
their rows, draws their masks and replays it. First the losses of each way are compared with those
of a float64 loop of autograd.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

WIDTH, HIDDEN, BATCH, CLASSES = 2048, 512, 32, 2
STEPS = 64  # in a call
DECAY, KEEP, EPSILON, FOLLOW = 0.9, 0.5, 1e-5, 0.1
RATE = 0.0002
LIMIT_US = 5 * 28.6

Call = Callable[[], None]


class Rows:
    """Rows on the device, and an order for each head."""

    def __init__(self, n_rows: int, n_seeds: int, device: torch.device, *, shared: bool) -> None:
        rng = torch.Generator().manual_seed(0)
        self.features = torch.randn((n_rows, WIDTH), generator=rng).to(device)
        labels = (self.features[:, 0] > 0).long()
        self.targets = functional.one_hot(labels, CLASSES).float()
        orders = [
            torch.randperm(n_rows, generator=torch.Generator().manual_seed(0 if shared else seed))
            for seed in range(n_seeds)
        ]
        self.orders = torch.stack(orders).to(device)  # (seed, row)


def initial(n_seeds: int, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return w1 (seed, in, out), scale, shift (seed, 1, hidden), w2 (seed, class, hidden), b2."""
    rng = torch.Generator().manual_seed(7)
    first = torch.empty((n_seeds, WIDTH, HIDDEN))
    second = torch.empty((n_seeds, CLASSES, HIDDEN))
    for number in range(n_seeds):
        torch.nn.init.xavier_uniform_(first[number], generator=rng)
        torch.nn.init.xavier_uniform_(second[number], generator=rng)
    scale, shift = torch.ones((n_seeds, 1, HIDDEN)), torch.zeros((n_seeds, 1, HIDDEN))
    bias = torch.zeros((n_seeds, 1, CLASSES))
    return [tensor.to(device, dtype) for tensor in (first, scale, shift, second, bias)]


def multiply(
    out: torch.Tensor, left: torch.Tensor, right: torch.Tensor, beta: float = 0.0
) -> torch.Tensor:
    """Compute beta out + left right, head by head on the CPU: the bits of each head alone."""
    if out.is_cuda:
        return torch.baddbmm(out, left, right, beta=beta, out=out)
    for number in range(len(out)):
        torch.addmm(out[number], left[number], right[number], beta=beta, out=out[number])
    return out


def forward_middle(
    parts: torch.Tensor,  # (seed, part, row, hidden)
    scale: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor,  # (seed, row, hidden)
    running: torch.Tensor,  # (2, seed, 1, hidden)
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """BatchNorm, ReLU, dropout."""
    before = parts.sum(1) if parts.shape[1] > 1 else parts[:, 0]
    variance, mean = torch.var_mean(before, dim=1, keepdim=True, correction=0)
    rows = before.shape[1]
    running[0].lerp_(mean, FOLLOW)
    running[1].lerp_(variance * (rows / (rows - 1)), FOLLOW)
    inverse = torch.rsqrt(variance + EPSILON)
    normed = (before - mean) * inverse
    kept = torch.relu(torch.addcmul(shift, normed, scale)) * mask
    return normed, inverse, kept


def backward_middle(
    logits: torch.Tensor,
    targets: torch.Tensor,
    normed: torch.Tensor,
    inverse: torch.Tensor,
    kept: torch.Tensor,
    small: list[torch.Tensor],
    moved: list[torch.Tensor],
    rate: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """From the logits to the gradient before BatchNorm; updates all parameters behind it."""
    scale, _, second, _ = small
    rows = logits.shape[1]
    log_probability = torch.log_softmax(logits, dim=2)
    losses = (log_probability * targets).sum((1, 2)) / -rows
    error = (log_probability.exp() - targets) / rows  # (seed, row, class)
    left, right = error[:, :, :1], error[:, :, 1:]
    inner = left * second[:, :1] + right * second[:, 1:]  # (seed, row, hidden)
    inner = torch.where(kept > 0, inner / KEEP, 0.0)
    d_scale = (inner * normed).sum(1, keepdim=True)
    d_shift = inner.sum(1, keepdim=True)
    before = (inner - d_shift / rows - normed * (d_scale / rows)) * (scale * inverse)
    d_second = torch.cat(
        [(kept * left).sum(1, keepdim=True), (kept * right).sum(1, keepdim=True)], dim=1
    )
    found = (d_scale, d_shift, d_second, error.sum(1, keepdim=True))
    for value, momentum, gradient in zip(small, moved, found, strict=True):
        momentum.mul_(DECAY).add_(gradient)
        value.addcmul_(momentum, rate)
    return losses, before


class Written:
    """Steps of S heads with the backward pass written out."""

    def __init__(
        self,
        rows: Rows,
        *,
        parts: int,
        compiled: bool,
        shared: bool = False,
        n_steps: int = STEPS,
        rate: float = RATE,
        keep: float = KEEP,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        device = rows.features.device
        self.rows, self.parts, self.shared, self.keep = rows, parts, shared, keep
        self.n_seeds = n_seeds = len(rows.orders)
        first, *self.small = initial(n_seeds, device, dtype)
        if shared:  # one head that is S times as wide
            first = first.transpose(0, 1).reshape(1, WIDTH, n_seeds * HIDDEN)
        self.first, self.first_moved = first, torch.zeros_like(first)
        self.moved = [torch.zeros_like(value) for value in self.small]
        self.running = torch.zeros((2, n_seeds, 1, HIDDEN), device=device)
        self.running[1] = 1
        self.rate = torch.full((1,), -rate, device=device)
        groups = 1 if shared else n_seeds
        self.groups = groups
        self.features = torch.empty((groups, n_steps * BATCH, WIDTH), device=device)
        self.split = torch.empty((n_steps, groups, parts, BATCH, WIDTH // parts), device=device)
        self.targets = torch.empty((n_seeds, n_steps * BATCH, CLASSES), device=device)
        self.masks = torch.empty((n_seeds, n_steps * BATCH, HIDDEN), device=device)
        self.losses = torch.empty((n_steps, n_seeds), device=device)
        self.rngs = [torch.Generator(device).manual_seed(seed) for seed in range(n_seeds)]
        self.n_steps, self.done = n_steps, 0
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.forward, self.backward = wrap(forward_middle), wrap(backward_middle)
        self.replay: Call | None = None

    def gather(self) -> None:
        """Bring the rows of a call's steps, and draw its masks."""
        n_rows = self.n_steps * BATCH
        if self.done + n_rows > self.rows.orders.shape[1]:
            self.done = 0
        picked = self.rows.orders[:, self.done : self.done + n_rows]
        self.done += n_rows
        for number, order in enumerate(picked):
            if number < self.groups:
                torch.index_select(self.rows.features, 0, order, out=self.features[number])
            torch.index_select(self.rows.targets, 0, order, out=self.targets[number])
            if self.keep < 1:
                torch.rand(
                    self.masks[number].shape, generator=self.rngs[number], out=self.masks[number]
                )
        if self.keep < 1:
            self.masks.lt_(self.keep).div_(self.keep)
        else:
            self.masks.fill_(1 / KEEP)  # the backward pass divides by KEEP
        if self.parts > 1:
            shape = (self.groups, self.n_steps, BATCH, self.parts, WIDTH // self.parts)
            self.split.copy_(self.features.view(shape).permute(1, 0, 3, 2, 4))

    @torch.no_grad()
    def call(self) -> None:
        """Take the steps of a call: captured after the first one."""
        self.gather()
        if self.first.is_cuda and self.replay is not None:
            self.replay()
            return
        self.steps()
        if self.first.is_cuda:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.steps()
            self.replay = graph.replay

    def steps(self) -> None:
        """Take the steps of a call."""
        for number in range(self.n_steps):
            self.step(number)

    def step(self, number: int) -> None:
        """Take one step of all heads."""
        span = slice(number * BATCH, (number + 1) * BATCH)
        features = self.features[:, span]
        groups, width = self.groups, self.first.shape[2]
        left = features
        if self.parts > 1:
            left = self.split[number].view(groups * self.parts, BATCH, -1)
        product = torch.empty((len(left), BATCH, width), device=left.device)
        multiply(product, left, self.first.view(len(left), -1, width))
        parts = product.view(groups, self.parts, BATCH, width)
        if self.shared:  # (1, part, row, seed x hidden)
            parts = parts.view(self.parts, BATCH, self.n_seeds, HIDDEN).permute(2, 0, 1, 3)
        scale, shift, second, bias = self.small
        normed, inverse, kept = self.forward(parts, scale, shift, self.masks[:, span], self.running)
        logits = torch.empty((self.n_seeds, BATCH, CLASSES), device=left.device)
        multiply(logits, kept, second.transpose(1, 2))
        logits = logits + bias
        losses, before = self.backward(
            logits, self.targets[:, span], normed, inverse, kept, self.small, self.moved, self.rate
        )
        self.losses[number] = losses
        if self.shared:
            before = before.transpose(0, 1).reshape(1, BATCH, width)
        multiply(self.first_moved, features.transpose(1, 2), before, DECAY)
        self.descend()

    def descend(self) -> None:
        """Move the first layer's weights, head by head on the CPU."""
        if self.first.is_cuda:
            self.first.addcmul_(self.first_moved, self.rate)
            return
        for value, momentum in zip(self.first, self.first_moved, strict=True):
            value.addcmul_(momentum, self.rate)


class Autograd(Written):
    """Steps of S heads as autograd and torch's optimiser take them."""

    def __init__(self, rows: Rows, **options: float) -> None:
        super().__init__(rows, parts=1, compiled=False, **options)  # type: ignore[arg-type]
        self.trained = [self.first, *self.small]
        for tensor in self.trained:
            tensor.requires_grad_()
        self.optimiser = torch.optim.SGD(
            self.trained, lr=-self.rate if self.first.is_cuda else RATE, momentum=DECAY, fused=True
        )
        self.running = self.running.view(2, -1)

    def step(self, number: int) -> None:
        """Take one step of all heads."""
        span = slice(number * BATCH, (number + 1) * BATCH)
        scale, shift, second, bias = self.small
        mean, variance = self.running
        with torch.enable_grad():
            before = torch.bmm(self.features[:, span], self.first).transpose(0, 1).flatten(1)
            active = functional.batch_norm(
                before, mean, variance, scale.flatten(), shift.flatten(), training=True
            ).relu()
            active = active.view(BATCH, self.n_seeds, HIDDEN).transpose(0, 1)
            logits = torch.baddbmm(bias, active * self.masks[:, span], second.transpose(1, 2))
            losses = -(torch.log_softmax(logits, 2) * self.targets[:, span]).sum((1, 2)) / BATCH
            gradients = torch.autograd.grad(losses.sum(), self.trained)
        for tensor, gradient in zip(self.trained, gradients, strict=True):
            tensor.grad = gradient.contiguous()  # fused SGD takes no other
        self.optimiser.step()
        self.losses[number] = losses.detach()


def exact_losses(rows: Rows, masks: torch.Tensor, n_steps: int, rate: float) -> torch.Tensor:
    """Return the losses of a float64 loop, (step, seed)."""
    values = initial(len(rows.orders), masks.device, torch.float64)
    for value in values:
        value.requires_grad_()
    optimiser = torch.optim.SGD(values, lr=rate, momentum=DECAY)
    found = []
    for number in range(n_steps):
        span = slice(number * BATCH, (number + 1) * BATCH)
        first, scale, shift, second, bias = values
        picked = rows.orders[:, span]
        before = torch.bmm(rows.features[picked].double(), first)
        variance, mean = torch.var_mean(before, 1, keepdim=True, correction=0)
        normed = (before - mean) / (variance + EPSILON).sqrt()
        kept = (normed * scale + shift).relu() * masks[:, span]
        logits = kept @ second.transpose(1, 2) + bias
        losses = -(torch.log_softmax(logits, 2) * rows.targets[picked]).sum((1, 2)) / BATCH
        optimiser.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        found.append(losses.detach())
    return torch.stack(found)


def check(device: torch.device, ways: dict[str, Callable[..., Written]]) -> None:
    """Print how far each way's losses are from the exact ones over three calls."""
    for rate in (RATE, 100 * RATE):
        for name, make in ways.items():
            show_check(device, name, make, rate)


def show_check(device: torch.device, name: str, make: Callable[..., Written], rate: float) -> None:
    """Print how far one way's losses are from the exact ones, or how it fails."""
    try:
        difference = largest_difference(device, name, make, rate)
    except Exception as error:  # noqa: BLE001 - the others are checked all the same
        show(f"  {name:14s} rate {rate:g}: FAILED: {type(error).__name__}: {str(error)[:300]}")
        return
    show(f"  {name:14s} rate {rate:g}: losses differ from float64 by {difference:.1e}")


def largest_difference(
    device: torch.device, name: str, make: Callable[..., Written], rate: float
) -> float:
    """Return how far one way's losses are from the exact ones."""
    rows = Rows(3 * STEPS * BATCH, 3, device, shared="shared" in name)
    way = make(rows, rate=rate)
    if isinstance(way, Autograd) and not way.first.is_cuda:
        way.optimiser.param_groups[0]["lr"] = rate
    losses, masks = [], []
    for _ in range(3):
        way.call()
        losses.append(way.losses.clone())
        masks.append(way.masks.clone())
    exact = exact_losses(rows, torch.cat(masks, 1).double(), 3 * STEPS, rate)
    return (torch.cat(losses) - exact).abs().max().item()


def kernels_of_today(rows: Rows, device: torch.device) -> tuple[str, Callable[[], int]]:
    """Return today's way to train one head: Triton's kernels on a GPU, written out on the CPU."""
    for name in ("Bio", "Bio.Seq", "Bio.Data.CodonTable", "Bio.GenBank.Scanner"):
        try:
            __import__(name)
        except ImportError:  # records are not read here
            for part in ("Bio.SeqFeature", "Bio.SeqRecord", "Bio.Data", "Bio.GenBank", name):
                sys.modules.setdefault(part, MagicMock())
    from benchmarks.training.contenders import our_loop
    from harness.training.features import LabelledRows

    labelled = LabelledRows(
        features=rows.features, labels=rows.targets.argmax(dim=1).cpu().to(torch.int64)
    )
    loop = our_loop(labelled, device)
    return ("kernels" if device.type == "cuda" else "today"), lambda: next(loop)


def measure(device: torch.device, options: argparse.Namespace) -> None:
    """Time all ways in turns, and print a table."""
    is_cuda = device.type == "cuda"
    n_rows = 200_000 if is_cuda else 20_000
    most = max(options.heads)
    own, shared = (Rows(n_rows, most, device, shared=flag) for flag in (False, True))
    shared.features, shared.targets = own.features, own.targets
    name, today = kernels_of_today(own, device)
    contenders: dict[tuple[str, int], Callable[[], int]] = {(name, 1): today}
    for way, make in WAYS(is_cuda).items():
        for n_heads in options.heads:
            rows = shared if way.startswith("shared") else own
            part = object.__new__(Rows)
            part.features, part.targets = rows.features, rows.targets
            part.orders = rows.orders[:n_heads]
            try:
                steps = make(part)
                steps.call()
                steps.call()
            except Exception as error:  # noqa: BLE001 - the others are measured all the same
                show(f"  {way} for {n_heads}: FAILED: {type(error).__name__}: {str(error)[:300]}")
                continue
            contenders[way, n_heads] = lambda steps=steps: steps.call() or STEPS  # type: ignore
    n_steps = options.steps or (3200 if is_cuda else STEPS)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in contenders}
    for _ in range(options.rounds + 1):
        for key, work in contenders.items():
            started, taken = time.perf_counter(), 0
            while taken < n_steps:
                taken += work()
            if is_cuda:
                torch.cuda.synchronize()
            seconds[key].append((time.perf_counter() - started) / taken)
    medians = {key: 1e6 * statistics.median(values[1:]) for key, values in seconds.items()}
    today_us = medians[name, 1]
    show(
        f"  {'way':14s} {'heads':>5s} {'us a step':>10s} {'x today':>8s}  {'x itself':>8s}  rounds"
    )
    for (way, n_heads), median in medians.items():
        rounds = " ".join(f"{1e6 * value:.1f}" for value in seconds[way, n_heads][1:])
        alone = medians.get((way, 1), float("nan"))
        show(
            f"  {way:14s} {n_heads:5d} {median:10.1f} {median / today_us:8.2f}  "
            f"{median / alone:8.2f}  {rounds}"
        )
    if is_cuda:
        show(f"  limit for three heads: {5 * today_us:.1f} us (5 x today's, here), {LIMIT_US:.1f}")


def WAYS(is_cuda: bool) -> dict[str, Callable[..., Written]]:  # noqa: N802
    """Return the ways to compare, by name."""

    def written(
        parts: int, *, compiled: bool = False, shared: bool = False
    ) -> Callable[..., Written]:
        return lambda rows, **more: Written(
            rows, parts=parts, compiled=compiled, shared=shared, **more
        )

    if not is_cuda:
        return {"autograd": Autograd, "written": written(1)}
    return {
        "autograd": Autograd,
        "written/1": written(1),
        "written/4": written(4),
        "written/8": written(8),
        "compiled/1": written(1, compiled=True),
        "compiled/4": written(4, compiled=True),
        "compiled/8": written(8, compiled=True),
        "shared/4": written(4, compiled=True, shared=True),
    }


def show(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Check, then measure."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", type=torch.device, default=torch.device(default))
    parser.add_argument("--rounds", type=int, default=7, help="that are counted")
    parser.add_argument("--heads", type=int, nargs="+", default=[1, 3, 5, 10])
    parser.add_argument("--steps", type=int, help="in a round")
    parser.add_argument("--skip-check", action="store_true")
    options = parser.parse_args()
    torch._dynamo.config.recompile_limit = 64  # one for each number of heads and parts
    name = "CPU" if options.device.type == "cpu" else torch.cuda.get_device_name(options.device)
    show(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    if not options.skip_check:
        check(options.device, WAYS(options.device.type == "cuda"))
    measure(options.device, options)


if __name__ == "__main__":
    main()
