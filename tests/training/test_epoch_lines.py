"""What a log and a terminal say while a head is trained."""

from __future__ import annotations

import io
from dataclasses import replace

from harness.config import TrainingConfig
from harness.progress import Progress
from harness.training.history import describe_epoch, describe_steps
from tests.training.conftest import Fit
from tests.training.test_history import RECORD

RECIPE = TrainingConfig(epochs=100, patience=3)


def test_line_then_tells_everything_of_the_last_epoch() -> None:
    """The time left is that of all remaining epochs at the mean pace so far."""
    history = [RECORD, replace(RECORD, epoch=2, validation_loss=0.3, elapsed_seconds=4.0)]

    assert describe_epoch("train baseline", RECIPE, history) == (
        "train baseline: epoch 2/100, learning rate 0.0002, train loss 0.5000, "
        "validation loss 0.3000, accuracy 0.7500, precision 0.5000, recall 0.6250, 4.00 s, "
        "50 rows/s, patience left 2, at most 0:04:54 left"
    )


def test_line_when_patience_is_over_then_says_that_it_is_done() -> None:
    """Nothing follows."""
    history = [replace(RECORD, epoch=epoch) for epoch in range(1, 5)]

    assert describe_epoch("x", RECIPE, history).endswith("patience left 0, done")


def test_line_of_the_last_epoch_then_says_that_it_is_done() -> None:
    """Even with patience left."""
    line = describe_epoch("x", replace(RECIPE, epochs=1), [RECORD])

    assert line.endswith("patience left 3, done")


def test_note_then_tells_of_the_epoch_under_way_and_the_one_before() -> None:
    """Before the first epoch's end there is nothing to tell of validation."""
    first = describe_steps(RECIPE, [], 0.0002, 0.7, rows_per_second=1234.5)
    second = describe_steps(RECIPE, [RECORD], 0.0002, 0.6, rows_per_second=1234.5)

    assert first == "epoch 1/100, lr 0.0002, loss 0.7000, 1,234 rows/s"
    assert second == (
        "epoch 2/100, lr 0.0002, loss 0.6000, val 0.2500, acc 0.7500, patience 3, 1,234 rows/s"
    )


def test_closing_line_then_tells_what_the_last_epoch_reached(fit: Fit) -> None:
    """Not the epoch before, whose numbers stood there while the last one ran."""
    stream = io.StringIO()

    trained = fit(progress=Progress(stream))

    last = trained.history[-1]
    closing = stream.getvalue().splitlines()[-1]
    assert f"epoch {last.epoch}/" in closing
    assert f"val {last.validation_loss:.4f}" in closing
