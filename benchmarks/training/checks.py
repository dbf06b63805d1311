"""What must hold on a device, whatever its speed; the suite checks the same on the CPU.

Each check returns a line that says what it found, and raises ``DisagreementError`` where it fails.
"""

from __future__ import annotations

import itertools
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.contenders import train_plainly
from harness.config import TrainingConfig
from harness.errors import DataError
from harness.training import TrainedHead, fit_head
from harness.training.batches import BatchFeed
from harness.training.features import LabelledRows
from harness.training.head import Head, derive_seeds, draw_order
from harness.training.trainer import TrainingInterrupted, choose_engine

__all__ = ["CHECKS", "DisagreementError"]

N_STEPS = 300
WIDTH = 2048
TOLERANCE = 1e-4  # of a loss, nats
MAX_WORSE = 3  # than the plain loop, where both leave the exact one
WITHOUT_DROPOUT = TrainingConfig(dropout=Fraction(0))


class DisagreementError(Exception):
    """Two ways that must lead to the same place did not."""


def check_agreement(device: torch.device) -> str:
    """Compare the losses of 300 steps with those of a plain loop, without dropout.

    At a hundred times the recipe's rate a last bit can decide whether a unit is active, and so set
    two float32 loops apart. There both are compared with a float64 loop: ours may be no further
    from it than the plain one.
    """
    found = []
    for rate in ("0.0002", "0.02"):
        recipe = replace(WITHOUT_DROPOUT, learning_rate=Fraction(rate))
        plain, losses = _plain_losses(recipe, device), _our_losses(recipe, device)
        exact = _plain_losses(recipe, device, dtype=torch.float64)
        difference, own, plains = (
            (one - other).abs().max().item()
            for one, other in ((losses, plain), (losses, exact), (plain, exact))
        )
        found.append(f"{difference:.1e} at rate {rate} (from float64: {own:.1e}, {plains:.1e})")
        is_met = difference <= TOLERANCE or own <= MAX_WORSE * plains
        _require(is_met, f"losses differ by {', '.join(found)}")
    return f"largest difference over {N_STEPS} steps: {'; '.join(found)}"


def check_streaming(device: torch.device) -> str:
    """Stream the same rows from the host: the losses must be the same to the last bit."""
    resident = _our_losses(WITHOUT_DROPOUT, device)
    streamed = _our_losses(WITHOUT_DROPOUT, device, is_streamed=True)
    _require(torch.equal(resident, streamed), "streamed features give other losses")
    return "streamed and resident features give the same losses, bit for bit"


def check_resuming(device: torch.device) -> str:
    """Train three epochs straight and with interruptions: the same weights, bit for bit."""
    whole = _fit(device)
    again = _fit(device)
    _require(_same(whole, again), "the same call gives other weights")
    with tempfile.TemporaryDirectory() as folder:
        message = _interrupt(device, Path(folder))
        resumed = _fit(device, folder=Path(folder))
    _require(_same(whole, resumed), f"{message}; the resumed training ends elsewhere")
    return f"{message.split(';')[0]}, resumed: the weights of an uninterrupted training"


def check_loss_that_is_not_finite(device: torch.device) -> str:
    """Train on a row that overflows: epoch, step and the record must be named."""
    features, labels = _rows(6_000, 64)
    features[4_321] = 3e38
    try:
        _fit(device, features=features, labels=labels)
    except DataError as error:
        _require("row 4321" in str(error), f"the record is not named: {error}")
        return str(error).partition(":")[0]
    raise DisagreementError("training went on")


CHECKS: dict[str, Callable[[torch.device], str]] = {
    "agreement": check_agreement,
    "streaming": check_streaming,
    "resuming": check_resuming,
    "not-finite": check_loss_that_is_not_finite,
}


def _rows(n_rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(n_rows, width, generator=rng)
    return features, (features[:, 0] > 0).long()


def _order() -> torch.Tensor:
    return draw_order(derive_seeds(1), epoch=1, n_rows=32 * N_STEPS)


def _plain_losses(
    recipe: TrainingConfig, device: torch.device, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    features, labels = _rows(32 * N_STEPS, WIDTH)
    features = features.to(dtype)
    order = _order()

    def epoch() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter([(features[p], labels[p]) for p in torch.split(order, recipe.batch_size)])

    model = Head(WIDTH, dropout=0, seed=7).to(device, dtype)
    steps = train_plainly(model, epoch, learning_rate=float(recipe.learning_rate))
    return torch.tensor(list(itertools.islice(steps, N_STEPS)))


def _our_losses(
    recipe: TrainingConfig,
    device: torch.device,
    *,
    is_streamed: bool = False,
) -> torch.Tensor:
    features, labels = _rows(32 * N_STEPS, WIDTH)
    rows = LabelledRows(features=features, labels=labels)
    feed = BatchFeed(rows, batch_size=32, device=device, is_streamed=is_streamed)
    head = Head(WIDTH, dropout=0, seed=7).to(device)
    engine = choose_engine(head, recipe)
    batches = feed.batches(_order(), n_batches=engine.batches_per_call)
    return torch.cat([engine(x, y).clone().reshape(-1) for x, y in batches]).cpu()


def _fit(device: torch.device, **changes: Any) -> TrainedHead:
    # So many that a launch's losses are looked at within an epoch.
    n_rows = 150_000 if device.type == "cuda" else 3_000
    features, labels = _rows(n_rows, 64)
    validation_features, validation_labels = _rows(1_000, 64)
    settings: dict[str, Any] = {
        "features": features,
        "labels": labels,
        "validation_features": validation_features,
        "validation_labels": validation_labels,
        "recipe": TrainingConfig(epochs=3, save_best=True),
        "device": str(device),
    }
    return fit_head(**(settings | changes))


def _interrupt(device: torch.device, folder: Path) -> str:
    """Ask a training to stop within its second epoch, and return what it says."""
    # The clock is read five times an epoch: before the steps, at a look, after the steps, and
    # before and after the validation.
    readings = itertools.count()

    def clock() -> float:
        if next(readings) == 6:
            signal.raise_signal(signal.SIGINT)
        return 0.0

    try:
        _fit(device, folder=folder, takes_signals=True, clock=clock)
    except TrainingInterrupted as stopped:
        return str(stopped)
    raise DisagreementError("the request to stop was not heard")


def _same(one: TrainedHead, other: TrainedHead) -> bool:
    left, right = one.final.state_dict(), other.final.state_dict()
    losses = [[record.train_loss for record in trained.history] for trained in (one, other)]
    return losses[0] == losses[1] and all(torch.equal(left[name], right[name]) for name in left)


def _require(is_met: bool, complaint: str) -> None:
    if not is_met:
        raise DisagreementError(complaint)
