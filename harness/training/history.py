"""What is logged of each epoch, and where it goes: records, JSON lines, TensorBoard events.

What is said of a training: a line an epoch in a log, a note under the bar in a terminal.

What the recipe says about an epoch: its learning rate, and whether it was the last one.

Both follow from the recipe and the validation losses so far, so that neither has a state of its
own that could be lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from harness.artifacts import digest_json, write_atomically
from harness.config import TrainingConfig
from harness.errors import MissingInput

__all__ = [
    "EpochRecord",
    "Stopping",
    "describe_end",
    "describe_epoch",
    "describe_steps",
    "digest_history",
    "judge_stopping",
    "learning_rate",
    "replay_events",
    "tensorboard_events",
    "write_history",
]


_MEASURED = ("elapsed_seconds", "rows_per_second")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    train_loss : float
        Mean cross-entropy of the epoch's rows as they were trained on (with dropout), nats.
    validation_loss : float
        Mean cross-entropy at the epoch's end, nats.
    validation_accuracy, validation_precision, validation_recall : float
        In [0, 1].
    learning_rate : float
        Of the epoch's steps.
    elapsed_seconds : float
        Training and validation together.
    rows_per_second : float
        Training rows by the time of training alone.
    n_dropped_rows : int
        1 if the last batch would have held a single row, which was left out; else 0.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    validation_precision: float
    validation_recall: float
    learning_rate: float
    elapsed_seconds: float
    rows_per_second: float
    n_dropped_rows: int


def digest_history(history: Sequence[EpochRecord]) -> str:
    """Return the sha256 of what was computed: everything but the times."""
    rows = [asdict(record) for record in history]
    return digest_json([{k: v for k, v in row.items() if k not in _MEASURED} for row in rows])


def write_history(path: Path, history: Sequence[EpochRecord]) -> None:
    """Write one JSON object a line."""
    write_atomically(path, "".join(json.dumps(asdict(record)) + "\n" for record in history))


@contextmanager
def tensorboard_events(folder: Path) -> Iterator[Callable[[EpochRecord], None]]:
    """Write TensorBoard event files: what it yields is an ``on_epoch`` of ``fit_head``.

    Raises
    ------
    MissingInput
        If TensorBoard is not installed.

    Examples
    --------
    >>> with tensorboard_events(Path("runs/1")) as on_epoch:  # doctest: +SKIP
    ...     fit_head(features, labels, on_epoch=on_epoch, ...)
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingInput(
            f"TensorBoard cannot be imported ({error})",
            remedy="Install it: pip install 'virnucpro-harness[tensorboard]'",
        ) from error
    with SummaryWriter(folder) as writer:

        def write(record: EpochRecord) -> None:
            values = asdict(record)
            epoch = values.pop("epoch")
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)

        yield write


def replay_events(folder: Path, history: Sequence[EpochRecord]) -> None:
    """Write TensorBoard event files of a training that is over."""
    with tensorboard_events(folder) as on_epoch:
        for record in history:
            on_epoch(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Where early stopping stands.

    Attributes
    ----------
    best_epoch : int
        The epoch, counted from 1, whose validation loss is the best; 0 before the first.
    patience_left : int
        How many epochs without improvement are left; at 0 training stops.
    """

    best_epoch: int
    patience_left: int

    @property
    def is_over(self) -> bool:
        """Whether training stops."""
        return self.patience_left == 0


def learning_rate(recipe: TrainingConfig, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 1.

    StepLR: multiplied by ``lr_gamma`` after every ``lr_step`` epochs, one product after the other,
    since that is how PyTorch rounds.
    """
    rate = float(recipe.learning_rate)
    for _ in range((epoch - 1) // recipe.lr_step):
        rate *= float(recipe.lr_gamma)
    return rate


def judge_stopping(recipe: TrainingConfig, validation_losses: Sequence[float]) -> Stopping:
    """Say which epoch is the best so far, and how much patience is left.

    An epoch is better only if its loss is below the best one by more than ``min_improvement``.
    """
    best_epoch, best_loss = 0, float("inf")
    for epoch, loss in enumerate(validation_losses, start=1):
        if loss < best_loss - float(recipe.min_improvement):
            best_epoch, best_loss = epoch, loss
    waited = len(validation_losses) - best_epoch
    return Stopping(best_epoch=best_epoch, patience_left=max(0, recipe.patience - waited))


def describe_epoch(name: str, recipe: TrainingConfig, history: Sequence[EpochRecord]) -> str:
    """Return a line on the last epoch: losses, metrics, speed, patience and time left.

    Parameters
    ----------
    name : str
        Of the training.
    recipe : TrainingConfig
        How many epochs there may be, and how patience is counted.
    history : sequence of EpochRecord
        All epochs so far, at least one.
    """
    last = history[-1]
    stopping = judge_stopping(recipe, [record.validation_loss for record in history])
    is_over = stopping.is_over or last.epoch == recipe.epochs
    parts = (
        f"{name}: epoch {last.epoch}/{recipe.epochs}",
        f"learning rate {last.learning_rate:.3g}",
        f"train loss {last.train_loss:.4f}",
        f"validation loss {last.validation_loss:.4f}",
        f"accuracy {last.validation_accuracy:.4f}",
        f"precision {last.validation_precision:.4f}",
        f"recall {last.validation_recall:.4f}",
        f"{last.elapsed_seconds:.2f} s",
        f"{last.rows_per_second:,.0f} rows/s",
        f"patience left {stopping.patience_left}",
        "done" if is_over else f"at most {_time_left(recipe, history)} left",
    )
    return ", ".join(parts)


def describe_steps(
    recipe: TrainingConfig,
    history: Sequence[EpochRecord],
    learning_rate: float,
    loss: float,
    *,
    rows_per_second: float,
) -> str:
    """Return a note on the epoch under way, and on what the last one reached.

    Parameters
    ----------
    recipe, history
        As for ``describe_epoch``; before the first epoch's end there is no history.
    learning_rate, loss, rows_per_second : float
        Of the steps so far.
    """
    reached = _reached(recipe, history) if history else []
    return ", ".join(
        [
            *_under_way(recipe, len(history) + 1, learning_rate, loss),
            *reached,
            f"{rows_per_second:,.0f} rows/s",
        ]
    )


def describe_end(recipe: TrainingConfig, history: Sequence[EpochRecord]) -> str:
    """Return the same note on the last epoch; arguments as for ``describe_epoch``."""
    last = history[-1]
    return ", ".join(
        [
            *_under_way(recipe, last.epoch, last.learning_rate, last.train_loss),
            *_reached(recipe, history),
            f"{last.rows_per_second:,.0f} rows/s",
        ]
    )


def _under_way(recipe: TrainingConfig, epoch: int, learning_rate: float, loss: float) -> list[str]:
    return [f"epoch {epoch}/{recipe.epochs}", f"lr {learning_rate:.2g}", f"loss {loss:.4f}"]


def _reached(recipe: TrainingConfig, history: Sequence[EpochRecord]) -> list[str]:
    stopping = judge_stopping(recipe, [record.validation_loss for record in history])
    return [
        f"val {history[-1].validation_loss:.4f}",
        f"acc {history[-1].validation_accuracy:.4f}",
        f"patience {stopping.patience_left}",
    ]


def _time_left(recipe: TrainingConfig, history: Sequence[EpochRecord]) -> timedelta:
    """Return how long the remaining epochs take at the pace so far, if none is spared."""
    mean_seconds = sum(record.elapsed_seconds for record in history) / len(history)
    return timedelta(seconds=round(mean_seconds * (recipe.epochs - len(history))))
