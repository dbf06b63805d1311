"""How fast heads are trained, beside VirNucPro's loop, and what must hold at any speed.

    python -m benchmarks.training_speed --device cuda --json training.json
    python -m benchmarks.training_speed steps --heads 1 3 --width 2048

``agreement``, ``streaming``, ``resuming`` and ``not-finite`` check what the suite does on the CPU;
``steps`` times VirNucPro's loop and ours, for some numbers of heads, in turns. Without a name all
run one after the other, whatever fails; the exit status is 1 if anything did. Every round is
printed. Features are random: the cost of a step does not depend on their values. What goes to disk
goes to a temporary folder (TMPDIR).
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from harness.config import TrainingConfig
from harness.errors import DataError
from harness.training import HeadTrainer, TrainedHead
from harness.training.batches import CallFeed
from harness.training.features import LabelledRows
from harness.training.head import Head, derive_seeds, draw_order, dropout_seed
from harness.training.steps import HeadSteps
from harness.training.trainer import CALLS_PER_LOOK, TrainingInterrupted

__all__ = ["main"]

RECIPE = TrainingConfig()
WITHOUT_DROPOUT = replace(RECIPE, dropout=Fraction(0))
SEEDS = (42, 43, 44)
WIDTH = 2048
N_STEPS = 300  # whose losses are compared
TOLERANCE = 1e-4  # of a loss, nats
MAX_WORSE = 3  # than a plain loop, where both leave the exact one
ROWS_PER_FILE, N_FILES = 10_000, 4  # enough that no epoch of the slow loop ends while it is timed
VIRNUCPRO = "VirNucPro's loop"

Steps: TypeAlias = Generator[int, None, None]  # each `next` says how many steps were taken
Batches: TypeAlias = Iterator[tuple[torch.Tensor, torch.Tensor]]


class DisagreementError(Exception):
    """Two ways that must lead to the same place did not."""


def main(arguments: list[str]) -> int:
    """Run what is named on the command line; return the exit status."""
    options = _parse(arguments)
    device: torch.device = options.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    machine = f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    show(machine)
    found: dict[str, Any] = {"machine": machine}
    failed = []
    for name in options.names or WORKS:
        started = time.perf_counter()
        try:
            found[name] = WORKS[name](options)
        except Exception:  # noqa: BLE001 - the rest is measured whatever fails
            traceback.print_exc()
            failed.append(name)
            found[name] = "FAILED"
        said = found[name] if isinstance(found[name], str) else "done"
        show(f"{name}: {said} ({time.perf_counter() - started:.1f} s)")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    show(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return 1 if failed else 0


def check_agreement(options: argparse.Namespace) -> str:
    """Compare the losses of 300 steps with those of a plain loop in float64, without dropout.

    At a hundred times the recipe's rate a last bit can decide whether a unit is active, and so set
    two float32 loops apart: there ours may be no further from the exact one than a plain one.
    """
    found = []
    for rate in ("0.0002", "0.02"):
        recipe = replace(WITHOUT_DROPOUT, learning_rate=Fraction(rate))
        exact = _plain_losses(recipe, options.device, torch.float64)
        plain = _plain_losses(recipe, options.device, torch.float32)
        ours = _our_losses(recipe, options.device)
        own, others = ((losses - exact).abs().max().item() for losses in (ours, plain))
        found.append(f"{own:.1e} at rate {rate} (a plain float32 loop: {others:.1e})")
        is_met = own <= TOLERANCE or own <= MAX_WORSE * others
        _require(is_met, f"losses differ from float64 by {', '.join(found)}")
    return f"largest difference from float64 over {N_STEPS} steps: {'; '.join(found)}"


def check_streaming(options: argparse.Namespace) -> str:
    """Stream the same rows from the host: the losses must be the same to the last bit."""
    resident = _our_losses(WITHOUT_DROPOUT, options.device)
    streamed = _our_losses(WITHOUT_DROPOUT, options.device, is_streamed=True)
    _require(torch.equal(resident, streamed), "streamed features give other losses")
    return "streamed and resident features give the same losses, bit for bit"


def check_resuming(options: argparse.Namespace) -> str:
    """Train three epochs straight and with an interruption: the same weights, bit for bit."""
    device: torch.device = options.device
    whole = _fit(device)
    _require(_same(whole, _fit(device)), "the same call gives other weights")
    with tempfile.TemporaryDirectory() as folder:
        message = _interrupt(device, Path(folder))
        resumed = _fit(device, Path(folder))
    _require(_same(whole, resumed), f"{message}; the resumed training ends elsewhere")
    return f"{message.split(';')[0]}, resumed: the weights of an uninterrupted training"


def check_loss_that_is_not_finite(options: argparse.Namespace) -> str:
    """Train on a row that overflows: epoch, step and the record must be named."""
    features, labels = _rows(6_000, 64)
    features[4_321] = 3e38
    try:
        _trainer(options.device, features, labels).fit(seeds=SEEDS)
    except DataError as error:
        _require("row 4321" in str(error), f"the record is not named: {error}")
        return str(error).partition(":")[0]
    raise DisagreementError("training went on")


def compare_steps(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time steps of 32 rows: VirNucPro's loop, and ours for some numbers of heads."""
    return [_compare_steps(width, options) for width in options.width]


WORKS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "agreement": check_agreement,
    "streaming": check_streaming,
    "resuming": check_resuming,
    "not-finite": check_loss_that_is_not_finite,
    "steps": compare_steps,
}


def _compare_steps(width: int, options: argparse.Namespace) -> dict[str, Any]:
    device: torch.device = options.device
    is_cuda = device.type == "cuda"
    data, labels = _rows(200_000 if is_cuda else ROWS_PER_FILE * N_FILES, width)
    rows = LabelledRows(features=data.to(device), labels=labels)
    kept_back = LabelledRows(features=data, labels=labels)
    show(f"{len(data):,} rows of {width} features, batches of {RECIPE.batch_size}")
    with tempfile.TemporaryDirectory() as folder:
        slow = virnucpro_loop(data[: ROWS_PER_FILE * N_FILES], Path(folder), device)
        loops = {VIRNUCPRO: (slow, 64)}
        n_steps = 6_400 if is_cuda else 64
        for n_heads in options.heads:
            loops[f"ours, heads: {n_heads}"] = (our_loop(rows, device, n_heads), n_steps)
        if is_cuda:
            streamed = our_loop(kept_back, device, max(options.heads), is_streamed=True)
            loops[f"ours, heads: {max(options.heads)}, streamed"] = (streamed, n_steps)
        seconds = take_turns(loops, device, n_rounds=options.rounds)
        for loop, _ in loops.values():
            loop.close()
    show_rounds(seconds, against=f"ours, heads: {min(options.heads)}")
    return {"width": width, "seconds_per_step": seconds}


def take_turns(
    loops: dict[str, tuple[Steps, int]], device: torch.device, *, n_rounds: int
) -> dict[str, list[float]]:
    """Return each loop's seconds per step of all rounds, after two that are not counted.

    Taking turns, so that a busy machine slows all of them. A round takes so many steps or more.
    """
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(n_rounds + 2):
        for name, (loop, n_steps) in loops.items():
            started, n_taken = time.perf_counter(), 0
            while n_taken < n_steps:
                n_taken += next(loop)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append((time.perf_counter() - started) / n_taken)
    return {name: rounds[2:] for name, rounds in seconds.items()}


def show_rounds(seconds: dict[str, list[float]], *, against: str) -> None:
    """Print a line for each loop: median, its ratio to one of them, all rounds."""
    medians = {name: statistics.median(rounds) for name, rounds in seconds.items()}
    show(f"  {'':26s} {'median':>9s} {'ratio':>7s}   rounds, us a step")
    for name, rounds in seconds.items():
        values = " ".join(f"{1e6 * value:.4g}" for value in rounds)
        median, ratio = 1e6 * medians[name], medians[name] / medians[against]
        show(f"  {name:26s} {median:9.4g} {ratio:6.2f}x   {values}")


class FileRows(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """VirNucPro's data set: merged files of 10,000 rows, handed out row by row."""

    def __init__(self, paths: list[Path]) -> None:
        files = [torch.load(path) for path in paths]
        self.data = [file["data"] for file in files]
        self.labels = [file["labels"][0] for file in files]

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(map(len, self.data))

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one row's features and label."""
        number, within = divmod(row, ROWS_PER_FILE)
        return self.data[number][within], torch.tensor(self.labels[number])


def virnucpro_loop(data: torch.Tensor, folder: Path, device: torch.device) -> Steps:
    """Train as VirNucPro's train.py does, on files that are written to a folder first."""
    paths = []
    for number, part in enumerate(torch.split(data, ROWS_PER_FILE)):
        paths.append(folder / f"output_{number}_merged.pt")
        torch.save({"data": part.clone(), "labels": [number % 2]}, paths[-1])
    loader = DataLoader(FileRows(paths), batch_size=RECIPE.batch_size, shuffle=True, num_workers=4)
    for _ in train_plainly(Head(data.shape[1]).to(device), lambda: iter(loader)):
        yield 1


def train_plainly(
    model: nn.Module, epoch: Callable[[], Batches], *, learning_rate: float = 0.0002
) -> Iterator[float]:
    """Take the steps of any tutorial's loop, and yield the loss of each."""
    device = next(model.parameters()).device
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    model.train()
    while True:
        for features, labels in epoch():
            features, labels = features.to(device), labels.to(device)
            optimiser.zero_grad()
            loss = criterion(model(features), labels)
            loss.backward()
            optimiser.step()
            yield loss.item()


def our_loop(
    rows: LabelledRows, device: torch.device, n_heads: int, *, is_streamed: bool = False
) -> Steps:
    """Take the steps of ``HeadTrainer.fit``, and look at the losses as often."""
    seeds = [derive_seeds(seed) for seed in range(n_heads)]
    heads = [Head(rows.n_features, seed=each.weights).to(device) for each in seeds]
    engine, feed = _engine(heads, RECIPE), _feed(rows, n_heads, device, is_streamed=is_streamed)
    for epoch in itertools.count(1):
        orders = [draw_order(each, epoch=epoch, n_rows=len(rows)) for each in seeds]
        for n_calls, (features, targets) in enumerate(feed.calls(torch.stack(orders))):
            masks = [dropout_seed(each, epoch=epoch, step=n_calls) for each in seeds]
            losses = engine(features, targets, dropout_seeds=masks)
            if n_calls % CALLS_PER_LOOK == 0:
                _require(bool(losses.isfinite().all()), "what is timed is no training")
            yield losses.shape[1]


def _engine(heads: list[Head], recipe: TrainingConfig) -> HeadSteps:
    engine = HeadSteps(heads, recipe)
    engine.set_learning_rate(float(recipe.learning_rate))
    return engine


def _feed(
    rows: LabelledRows, n_heads: int, device: torch.device, *, is_streamed: bool = False
) -> CallFeed:
    size = RECIPE.batch_size
    return CallFeed(rows, n_heads=n_heads, batch_size=size, device=device, is_streamed=is_streamed)


def _rows(n_rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(n_rows, width, generator=torch.Generator().manual_seed(0))
    return features, (features[:, 0] > 0).long()


def _orders() -> torch.Tensor:
    n_rows = RECIPE.batch_size * N_STEPS
    return torch.stack([draw_order(derive_seeds(s), epoch=1, n_rows=n_rows) for s in SEEDS])


def _plain_losses(recipe: TrainingConfig, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return the losses of a plain loop for each head, (head, step)."""
    features, labels = _rows(recipe.batch_size * N_STEPS, WIDTH)
    found = []
    for seed, order in zip(SEEDS, _orders(), strict=True):
        picks = torch.split(order, recipe.batch_size)
        batches = [(features[picked].to(dtype), labels[picked]) for picked in picks]
        model = Head(WIDTH, dropout=0, seed=seed).to(device, dtype)
        steps = train_plainly(
            model, partial(iter, batches), learning_rate=float(recipe.learning_rate)
        )
        found.append(list(itertools.islice(steps, N_STEPS)))
    return torch.tensor(found, dtype=torch.float64)


def _our_losses(
    recipe: TrainingConfig, device: torch.device, *, is_streamed: bool = False
) -> torch.Tensor:
    """Return the losses of our steps, (head, step)."""
    features, labels = _rows(recipe.batch_size * N_STEPS, WIDTH)
    kept = features if is_streamed else features.to(device)
    rows = LabelledRows(features=kept, labels=labels)
    engine = _engine([Head(WIDTH, dropout=0, seed=seed).to(device) for seed in SEEDS], recipe)
    feed = _feed(rows, len(SEEDS), device, is_streamed=is_streamed)
    calls = feed.calls(_orders())
    return torch.cat([engine(x, y, dropout_seeds=SEEDS).clone() for x, y in calls], 1).cpu()


def _trainer(
    device: torch.device, features: torch.Tensor, labels: torch.Tensor, **changes: Any
) -> HeadTrainer:
    validation_features, validation_labels = _rows(1_000, features.shape[1])
    return HeadTrainer(
        features,
        labels,
        validation_features=validation_features,
        validation_labels=validation_labels,
        recipe=replace(RECIPE, epochs=3, save_best=True),
        device=str(device),
        **changes,
    )


def _fit(
    device: torch.device, folder: Path | None = None, **changes: Any
) -> tuple[TrainedHead, ...]:
    # So many that the losses are looked at within an epoch.
    features, labels = _rows(150_000 if device.type == "cuda" else 3_000, 64)
    trainer = _trainer(device, features, labels, **changes)
    return trainer.fit(seeds=SEEDS, folder=folder, takes_signals=folder is not None)


def _interrupt(device: torch.device, folder: Path) -> str:
    """Train until a signal in the second epoch, and return what is said then."""
    # Readings of the clock in an epoch: one before its steps, one a look, two around validation.
    looks = 5 if device.type == "cuda" else 2
    readings = itertools.count()

    def clock() -> float:
        if next(readings) == looks + 4:
            signal.raise_signal(signal.SIGINT)
        return time.perf_counter()

    try:
        _fit(device, folder, clock=clock)
    except TrainingInterrupted as stopped:
        return str(stopped)
    raise DisagreementError("training was not interrupted")


def _same(one: tuple[TrainedHead, ...], other: tuple[TrainedHead, ...]) -> bool:
    return all(
        torch.equal(left, right)
        for a, b in zip(one, other, strict=True)
        for x, y in ((a.final, b.final), (a.head, b.head))
        for left, right in zip(x.state_dict().values(), y.state_dict().values(), strict=True)
    )


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise DisagreementError(problem)


def show(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*WORKS, []], help="default: all")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--width", type=int, nargs="+", default=[WIDTH], help="features (steps)")
    parser.add_argument("--heads", type=int, nargs="+", default=[1, 3], help="(steps)")
    parser.add_argument("--rounds", type=int, default=5, help="that are counted (steps)")
    parser.add_argument("--json", type=Path, help="where all values go")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
