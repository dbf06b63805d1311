"""What is logged of each epoch, and where it goes: records, JSON lines, TensorBoard events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.artifacts import digest_json, write_atomically
from harness.errors import MissingInput

__all__ = [
    "EpochRecord",
    "digest_history",
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
