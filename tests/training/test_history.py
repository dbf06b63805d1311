"""What is logged of each epoch.

What a log and a terminal say while a head is trained.

Learning rates and early stopping.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from harness.config import TrainingConfig
from harness.errors import MissingInput
from harness.progress import Progress
from harness.training.history import (
    EpochRecord,
    Stopping,
    describe_epoch,
    describe_steps,
    digest_history,
    judge_stopping,
    learning_rate,
    tensorboard_events,
    write_history,
)
from tests.training.conftest import Fit

RECORD = EpochRecord(
    epoch=1,
    train_loss=0.5,
    validation_loss=0.25,
    validation_accuracy=0.75,
    validation_precision=0.5,
    validation_recall=0.625,
    learning_rate=0.0002,
    elapsed_seconds=2.0,
    rows_per_second=50.0,
    n_dropped_rows=0,
)


def test_history_then_one_json_object_a_line(tmp_path: Path) -> None:
    """Every field of every epoch."""
    write_history(tmp_path / "training.jsonl", [RECORD, replace(RECORD, epoch=2)])

    lines = (tmp_path / "training.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        asdict(RECORD),
        asdict(replace(RECORD, epoch=2)),
    ]


def test_digest_then_depends_on_what_was_computed_and_not_on_times() -> None:
    """A slower machine computes the same history."""
    digest = digest_history([RECORD])

    assert digest == digest_history([replace(RECORD, elapsed_seconds=9.0, rows_per_second=1.0)])
    assert digest != digest_history([replace(RECORD, validation_loss=0.26)])


def test_training_with_tensorboard_then_event_files_hold_the_losses(
    fit: Fit, tmp_path: Path
) -> None:
    """One scalar per field and epoch."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    with tensorboard_events(tmp_path) as on_epoch:
        trained = fit(on_epoch=on_epoch)

    events = events.EventAccumulator(str(tmp_path))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("validation_loss")}
    assert found == pytest.approx({r.epoch: r.validation_loss for r in trained.history})


def test_tensorboard_that_is_not_installed_then_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an optional extra."""
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)

    with (
        pytest.raises(MissingInput, match=r"pip install 'virnucpro-harness\[tensorboard\]'"),
        tensorboard_events(tmp_path),
    ):
        pass


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


RECIPE_SCHEDULE = TrainingConfig(patience=2)


def test_learning_rates_then_are_steplrs_to_the_last_bit() -> None:
    """All 200 epochs of VirNucPro's recipe."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=0.0002)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=10, gamma=0.85)
    expected = []
    for _ in range(200):
        expected.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()

    assert [learning_rate(RECIPE_SCHEDULE, epoch) for epoch in range(1, 201)] == expected


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], (0, 2)),
        ([0.5], (1, 2)),
        ([0.5, 0.6], (1, 1)),
        ([0.5, 0.5, 0.5], (1, 0)),
        ([0.5, 0.6, 0.4], (3, 2)),
        ([0.5, 0.6, 0.7, 0.8], (1, 0)),
    ],
)
def test_stopping_then_counts_epochs_since_the_best(
    losses: list[float], expected: tuple[int, int]
) -> None:
    """An equal loss is no improvement."""
    best_epoch, patience_left = expected

    found = judge_stopping(RECIPE_SCHEDULE, losses)

    assert found == Stopping(best_epoch=best_epoch, patience_left=patience_left)
    assert found.is_over == (patience_left == 0)


def test_stopping_with_a_minimum_improvement_then_smaller_ones_do_not_count() -> None:
    """A loss must fall by more than the minimum, measured from the best one."""
    recipe = replace(RECIPE_SCHEDULE, min_improvement=Fraction("0.125"))

    assert judge_stopping(recipe, [1.0, 0.875, 0.9]).is_over
    assert judge_stopping(recipe, [1.0, 0.9, 0.75]).best_epoch == 3
