"""Records of epochs, the line in a log, learning rates and early stopping."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from harness.config import TrainingConfig
from harness.training.history import (
    EpochRecord,
    Stopping,
    describe_epoch,
    describe_rest,
    digest_history,
    judge_stopping,
    learning_rate,
    write_history,
)

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


def test_histories_then_one_json_object_a_line(tmp_path: Path) -> None:
    """Every field of every epoch, and whose it is."""
    second = replace(RECORD, epoch=2)
    write_history(tmp_path / "training.jsonl", {42: [RECORD, second], 43: [RECORD]})

    lines = (tmp_path / "training.jsonl").read_text(encoding="utf-8").splitlines()
    expected = [(42, RECORD), (42, second), (43, RECORD)]
    assert [json.loads(line) for line in lines] == [
        {"seed": seed} | asdict(record) for seed, record in expected
    ]


def test_digest_then_depends_on_what_was_computed_and_not_on_times() -> None:
    """A slower machine computes the same history."""
    digest = digest_history([RECORD])

    assert digest == digest_history([replace(RECORD, elapsed_seconds=9.0, rows_per_second=1.0)])
    assert digest != digest_history([replace(RECORD, validation_loss=0.26)])


RECIPE = TrainingConfig(epochs=100, patience=3)


def test_note_then_tells_of_all_heads_in_one_line() -> None:
    """Where they differ, from the lowest to the highest; of one that is done, its last epoch."""
    other = replace(RECORD, train_loss=0.6, validation_accuracy=0.5)
    history = [RECORD, replace(RECORD, epoch=2, validation_loss=0.3)]

    assert describe_epoch(RECIPE, [history, [other, replace(other, epoch=2)]]) == (
        "epoch 2/100, loss 0.5000-0.6000, val 0.2500-0.3000, acc 0.5000-0.7500, patience 2"
    )


def test_note_within_an_epoch_then_tells_of_its_losses_so_far() -> None:
    """Before the first epoch's end there is nothing to tell of validation."""
    first = describe_epoch(RECIPE, [[]], [0.7])
    second = describe_epoch(RECIPE, [[RECORD]], [0.6])

    assert first == "epoch 1/100, loss 0.7000"
    assert second == "epoch 2/100, loss 0.6000, val 0.2500, acc 0.7500, patience 3"


def test_rest_then_is_that_of_all_remaining_epochs_at_the_pace_so_far() -> None:
    """Until every head is done, by patience or by the number of epochs."""
    longer = [replace(RECORD, epoch=2, elapsed_seconds=4.0)]
    over = [replace(RECORD, epoch=epoch) for epoch in range(1, 5)]

    assert describe_rest(RECIPE, [[RECORD, *longer], [RECORD]]) == "0:04:54 left"
    assert describe_rest(RECIPE, [over]) == "done"
    assert describe_rest(replace(RECIPE, epochs=1), [[RECORD]]) == "done"


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
