"""What the recipe says about an epoch: its learning rate, and whether it was the last one.

Both follow from the recipe and the validation losses so far, so that neither has a state of its
own that could be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.config import TrainingConfig

__all__ = ["Stopping", "judge_stopping", "learning_rate"]


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
