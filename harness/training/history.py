"""What is known of each epoch: its record, its line in a log, and what follows from it.

The learning rate and whether an epoch was the last one follow from the recipe and the validation
losses so far, so that neither has a state of its own that could be lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from harness.artifacts import digest_json, write_atomically
from harness.config import TrainingConfig

__all__ = [
    "EpochRecord",
    "Stopping",
    "describe_epoch",
    "describe_rest",
    "digest_history",
    "is_over",
    "judge_stopping",
    "learning_rate",
    "stopping_of",
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
        Training and validation together, of all heads that were trained together.
    rows_per_second : float
        Training rows by the time of training alone; a row counts once, however many heads see it.
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


def write_history(path: Path, histories: Mapping[int, Sequence[EpochRecord]]) -> None:
    """Write one JSON object a line, with its seed; one head after the other."""
    lines = [
        json.dumps({"seed": seed, **asdict(record)}) + "\n"
        for seed, history in histories.items()
        for record in history
    ]
    write_atomically(path, "".join(lines))


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


def describe_epoch(
    recipe: TrainingConfig,
    histories: Sequence[Sequence[EpochRecord]],
    losses: Sequence[float] | None = None,
) -> str:
    """Return a note on all heads: losses, accuracy and patience, from the lowest to the highest.

    Parameters
    ----------
    recipe : TrainingConfig
        How many epochs there may be, and how patience is counted.
    histories : sequence of sequences of EpochRecord
        All epochs so far, one history a head.
    losses : sequence of float, optional
        Of the epoch under way, so far; by default the note is on the last one.
    """
    last = [history[-1] for history in histories if history]
    epoch = max((record.epoch for record in last), default=0) + (losses is not None)
    parts = [
        f"epoch {epoch}/{recipe.epochs}",
        f"loss {_range(losses or [record.train_loss for record in last], '.4f')}",
    ]
    if last:
        patience = [stopping_of(recipe, history).patience_left for history in histories]
        parts += [
            f"val {_range([record.validation_loss for record in last], '.4f')}",
            f"acc {_range([record.validation_accuracy for record in last], '.4f')}",
            f"patience {_range(patience, 'd')}",
        ]
    return ", ".join(parts)


def describe_rest(recipe: TrainingConfig, histories: Sequence[Sequence[EpochRecord]]) -> str:
    """Say how long the remaining epochs take at the pace so far, if none is spared."""
    if all(is_over(recipe, history) for history in histories):
        return "done"
    longest = max(histories, key=len)
    mean_seconds = sum(record.elapsed_seconds for record in longest) / len(longest)
    return f"{timedelta(seconds=round(mean_seconds * (recipe.epochs - len(longest))))} left"


def stopping_of(recipe: TrainingConfig, history: Sequence[EpochRecord]) -> Stopping:
    """Say where early stopping stands after a history."""
    return judge_stopping(recipe, [record.validation_loss for record in history])


def is_over(recipe: TrainingConfig, history: Sequence[EpochRecord]) -> bool:
    """Return whether a head's training has ended."""
    return len(history) >= recipe.epochs or stopping_of(recipe, history).is_over


def _range(values: Sequence[float], spec: str) -> str:
    lowest, highest = format(min(values), spec), format(max(values), spec)
    return lowest if lowest == highest else f"{lowest}-{highest}"
