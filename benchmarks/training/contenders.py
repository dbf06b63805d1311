"""Loops that train a head, to be timed against each other: VirNucPro's, a plain one, and ours."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from harness.config import TrainingConfig
from harness.training.batches import BatchFeed, n_usable_rows
from harness.training.features import LabelledRows
from harness.training.head import Head, derive_seeds, draw_order, dropout_seed
from harness.training.trainer import CALLS_PER_LOOK, EpochLosses, choose_engine

__all__ = [
    "RECIPE",
    "ROWS_PER_FILE",
    "Steps",
    "our_loop",
    "plain_loop",
    "products",
    "train_plainly",
    "virnucpro_loop",
]

RECIPE = TrainingConfig()
ROWS_PER_FILE = 10_000
WORKERS = 4
SEEDS = derive_seeds(42)

Steps: TypeAlias = Generator[int, None, None]  # each `next` says how many steps were taken
Batches: TypeAlias = Iterator[tuple[torch.Tensor, torch.Tensor]]


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


def virnucpro_loop(
    data: torch.Tensor, folder: Path, device: torch.device, *, n_workers: int = WORKERS
) -> Steps:
    """Train as VirNucPro's train.py does, on files that are written to a folder first."""
    paths = []
    for number, part in enumerate(torch.split(data, ROWS_PER_FILE)):
        paths.append(folder / f"output_{number}_merged.pt")
        torch.save({"data": part.clone(), "labels": [number % 2]}, paths[-1])
    loader = DataLoader(
        FileRows(paths), batch_size=RECIPE.batch_size, shuffle=True, num_workers=n_workers
    )
    for _ in train_plainly(Head(data.shape[1]).to(device), lambda: iter(loader)):
        yield 1


def plain_loop(data: torch.Tensor, labels: torch.Tensor, device: torch.device) -> Steps:
    """Train with autograd and torch's optimiser, the features being one tensor on the device."""
    data, labels = data.to(device), labels.to(device)

    def batches() -> Batches:
        order = torch.randperm(len(data), device=device)
        for picked in torch.split(order, RECIPE.batch_size):
            yield data[picked], labels[picked]

    for _ in train_plainly(Head(data.shape[1]).to(device), batches):
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
    rows: LabelledRows,
    device: torch.device,
    *,
    is_streamed: bool = False,
) -> Steps:
    """Take the steps of ``fit_head``, and look at the losses as often."""
    head = Head(rows.n_features).to(device)
    engine = choose_engine(head, RECIPE)
    feed = BatchFeed(rows, batch_size=RECIPE.batch_size, device=device, is_streamed=is_streamed)
    n_usable = n_usable_rows(len(rows), RECIPE.batch_size)
    losses = EpochLosses(n_rows=n_usable, batch_size=RECIPE.batch_size, device=device)
    epoch = n_calls = 0
    while True:
        epoch += 1
        losses.n_done = 0
        engine.seed_dropout(dropout_seed(SEEDS, epoch=epoch))
        order = draw_order(SEEDS, epoch=epoch, n_rows=len(rows))[:n_usable]
        for features, targets in feed.batches(order, n_batches=engine.batches_per_call):
            n_before = losses.n_done
            losses.extend(engine(features, targets))
            n_calls += 1
            if n_calls % CALLS_PER_LOOK == 0 and losses.first_not_finite() is not None:
                raise RuntimeError("a loss is not finite: what is timed is no training")
            yield losses.n_done - n_before


def products(width: int, device: torch.device) -> Steps:
    """Multiply what every step must multiply: features by weights, and their gradient."""
    features = torch.randn(RECIPE.batch_size, width, device=device)
    weights = torch.randn(RECIPE.hidden_dim, width, device=device)
    hidden = torch.empty(RECIPE.batch_size, RECIPE.hidden_dim, device=device)
    gradient = torch.empty_like(weights)
    while True:
        torch.mm(features, weights.t(), out=hidden)
        torch.mm(hidden.t(), features, out=gradient)
        yield 1
