"""Learning rates and early stopping."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from harness.config import TrainingConfig
from harness.training.history import Stopping, judge_stopping, learning_rate

RECIPE = TrainingConfig(patience=2)


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

    assert [learning_rate(RECIPE, epoch) for epoch in range(1, 201)] == expected


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

    found = judge_stopping(RECIPE, losses)

    assert found == Stopping(best_epoch=best_epoch, patience_left=patience_left)
    assert found.is_over == (patience_left == 0)


def test_stopping_with_a_minimum_improvement_then_smaller_ones_do_not_count() -> None:
    """A loss must fall by more than the minimum, measured from the best one."""
    recipe = replace(RECIPE, min_improvement=Fraction("0.125"))

    assert judge_stopping(recipe, [1.0, 0.875, 0.9]).is_over
    assert judge_stopping(recipe, [1.0, 0.9, 0.75]).best_epoch == 3
