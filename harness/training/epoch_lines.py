"""What is said of a training: a line an epoch in a log, a note under the bar in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from harness.config import TrainingConfig
from harness.training.history import EpochRecord
from harness.training.schedule import judge_stopping

__all__ = ["describe_end", "describe_epoch", "describe_steps"]


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
