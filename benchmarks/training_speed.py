"""How fast heads are trained and evaluated, each beside what it is measured against.

    python -m benchmarks.training_speed steps [WIDTH ...]         default: 2048 576
    python -m benchmarks.training_speed evaluation [ROWS]         default: 210000
    python -m benchmarks.training_speed streamed [GIGABYTES]      default: 20

All rounds are printed, and the ratios of their medians. What is compared takes turns, so that a
busy machine slows both. Features are random: the cost of a step does not depend on their values.
The stream is written to a temporary folder (TMPDIR) first.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from harness.config import TrainingConfig
from harness.embedding.store import EmbeddingStore, write_store
from harness.training.batches import BatchFeed
from harness.training.features import BLOCK_ROWS, LabelledRows
from harness.training.head import Head
from harness.training.steps import TrainingStep
from harness.training.stored_rows import StoredRows

RECIPE = TrainingConfig()
CPU = torch.device("cpu")
ROUNDS = 5
STEPS_PER_ROUND = 200
ROWS_PER_FILE = 10_000
ROWS_PER_SHARD = 16_384
WORKERS = 2

Steps = Iterator[None]  # each `next` takes one step


def main(arguments: list[str]) -> None:
    """Run what is named on the command line."""
    name, *numbers = arguments or ["steps"]
    values = [int(text) for text in numbers]
    if name == "steps":
        for width in values or [2048, 576]:
            compare_steps(width)
    elif name == "evaluation":
        compare_evaluation(*values)
    else:
        measure_stream(*values)


def compare_steps(width: int) -> None:
    """Compare training steps of 32 rows: VirNucPro's loop, a resident plain loop, ours."""
    show(f"{width} features, batches of {RECIPE.batch_size}, {torch.get_num_threads()} threads")
    data, labels = random_rows(2 * ROWS_PER_FILE, width)
    with tempfile.TemporaryDirectory() as folder:
        loops = {
            "VirNucPro's loop": todays_loop(data, Path(folder)),
            "plain, resident": plain_loop(data, labels),
            "ours": our_loop(data, labels),
            "its two products": products(width),
        }
        rounds = take_turns({name: steps_of(loop) for name, loop in loops.items()})
    show_rounds(rounds, unit="us a step", scale=1e6 / STEPS_PER_ROUND, against="ours")


def compare_evaluation(n_rows: int = 210_000, width: int = 2048) -> None:
    """Compare predictions for many rows with their two matrix products alone."""
    show(f"{n_rows:,} rows of {width} features, {torch.get_num_threads()} threads")
    data, _ = random_rows(n_rows, width)
    head = Head(width)
    hidden, output = head.hidden_layer.weight.detach(), head.output_layer.weight.detach()

    def multiply() -> None:
        for block in torch.split(data, BLOCK_ROWS):
            torch.mm(torch.mm(block, hidden.t()), output.t())

    def predict() -> None:
        head.predict(data)

    rounds = take_turns({"predict": predict, "two products": multiply})
    show_rounds(rounds, unit="s", scale=1, against="two products")


def measure_stream(gigabytes: int = 20, width: int = 2048) -> None:
    """Train on features that stay on disk, and show the memory that this takes."""
    with tempfile.TemporaryDirectory() as folder:
        n_shards = math.ceil(gigabytes * 1e9 / (4 * width * ROWS_PER_SHARD))
        ids = write_stream(Path(folder), n_shards, width)
        rows = StoredRows([EmbeddingStore(Path(folder))], ids)
        show(f"{len(ids):,} rows of {width} features on disk, {memory_gigabytes():.2f} GiB so far")
        labels = torch.arange(len(ids)) % 2
        streamed = LabelledRows(features=rows, labels=labels)
        resident = LabelledRows(features=rows.read(torch.arange(20_000)), labels=labels[:20_000])
        rounds = take_turns(
            {
                "streamed": steps_of(feed_loop(streamed)),
                "resident": steps_of(feed_loop(resident)),
            }
        )
        show_rounds(rounds, unit="us a step", scale=1e6 / STEPS_PER_ROUND, against="resident")
        show(f"peak memory {memory_gigabytes():.2f} GiB")


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


def todays_loop(data: torch.Tensor, folder: Path) -> Steps:
    """Train as VirNucPro's train.py does."""
    paths = []
    for number, part in enumerate(torch.split(data, ROWS_PER_FILE)):
        paths.append(folder / f"output_{number}_merged.pt")
        torch.save({"data": part.clone(), "labels": [number % 2]}, paths[-1])
    loader = DataLoader(
        FileRows(paths), batch_size=RECIPE.batch_size, shuffle=True, num_workers=WORKERS
    )
    return train_plainly(data.shape[1], lambda: iter(loader))


def plain_loop(data: torch.Tensor, labels: torch.Tensor) -> Steps:
    """Train with autograd and torch's optimiser, the features being one tensor in memory."""

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for picked in torch.split(torch.randperm(len(data)), RECIPE.batch_size):
            yield data[picked], labels[picked]

    return train_plainly(data.shape[1], batches)


def train_plainly(
    width: int, epoch: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]
) -> Steps:
    """Take the steps of any tutorial's loop."""
    model = Head(width).train()
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0002, momentum=0.9)
    running_loss = 0.0
    while True:
        for features, labels in epoch():
            optimiser.zero_grad()
            loss = criterion(model(features), labels)
            loss.backward()
            optimiser.step()
            running_loss += loss.item()
            yield


def our_loop(data: torch.Tensor, labels: torch.Tensor) -> Steps:
    """Take the steps of ``fit_head`` on features in memory."""
    return feed_loop(LabelledRows(features=data, labels=labels))


def feed_loop(rows: LabelledRows) -> Steps:
    """Take the steps of ``fit_head``."""
    step = TrainingStep(Head(rows.n_features), RECIPE)
    feed = BatchFeed(rows, batch_size=RECIPE.batch_size, device=CPU, is_streamed=False)
    while True:
        for features, targets in feed.batches(torch.randperm(len(rows))):
            step(features, targets)
            yield


def products(width: int) -> Steps:
    """Multiply what every step must multiply: features by weights, and their gradient."""
    features, weights = torch.randn(RECIPE.batch_size, width), torch.randn(RECIPE.hidden_dim, width)
    hidden, gradient = torch.empty(RECIPE.batch_size, RECIPE.hidden_dim), torch.empty_like(weights)
    while True:
        torch.mm(features, weights.t(), out=hidden)
        torch.mm(hidden.t(), features, out=gradient)
        yield


def random_rows(n_rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features and labels."""
    return torch.rand(n_rows, width), torch.arange(n_rows) % 2


class SameShard:
    """An embedder that computes nothing."""

    name = digest = "the same shard"

    def __init__(self, width: int) -> None:
        self.dim = width
        self._vectors = np.random.default_rng(0).random((ROWS_PER_SHARD, width), dtype=np.float32)

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return random vectors, the same for every shard."""
        if on_progress is not None:
            on_progress(len(sequences))
        return self._vectors[: len(sequences)]


def write_stream(folder: Path, n_shards: int, width: int) -> pd.Series[str]:
    """Write an embedding store of the same shard over and over, and return its ids."""
    ids = pd.Series([f"r{row}" for row in range(n_shards * ROWS_PER_SHARD)], dtype="str")
    write_store(folder, ids, ids, SameShard(width), rows_per_shard=ROWS_PER_SHARD)
    return ids


def steps_of(loop: Steps) -> Callable[[], None]:
    """Return a call that takes one round's steps."""

    def take() -> None:
        for _ in range(STEPS_PER_ROUND):
            next(loop)

    return take


def take_turns(contenders: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the seconds of each contender's rounds, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS + 1):
        for name, work in contenders.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: rounds[1:] for name, rounds in seconds.items()}


def show_rounds(rounds: dict[str, list[float]], *, unit: str, scale: float, against: str) -> None:
    """Print all rounds, and the ratios of the medians."""
    reference = statistics.median(rounds[against])
    for name, seconds in rounds.items():
        values = " ".join(f"{scale * value:8.4g}" for value in seconds)
        ratio = statistics.median(seconds) / reference
        show(f"  {name:18s} {values}  {unit}; {ratio:5.2f} x {against}")


def memory_gigabytes() -> float:
    """Return the most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def show(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
