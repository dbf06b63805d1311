"""How a head learned, in words: what its training history says about a loss of accuracy.

Numbers in, sentences out; nothing here decides. Losses are mean cross-entropies in nats. Those of
training are taken with dropout and while the weights still move, so they come out too high: a
validation loss that lies above them is a sign of overfitting all the more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LearningCurve", "learning_steps", "read_curve"]

# Smaller differences between two losses, relative to the smaller one, are noise of the last epochs.
NOTABLE_RISE = 0.02
NOTABLE_GAP = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """The history of one head.

    Attributes
    ----------
    train_losses, validation_losses : tuple of float
        One an epoch; at least one.
    best_epoch : int
        The one of the lowest validation loss, from 1.
    epoch_limit : int
        How many epochs there may have been.
    evaluates_best : bool
        Whether the head of the best epoch is the one that was judged, not that of the last.
    """

    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    best_epoch: int
    epoch_limit: int
    evaluates_best: bool

    @property
    def epochs_run(self) -> int:
        """How many epochs there were."""
        return len(self.validation_losses)

    @property
    def best(self) -> tuple[float, float]:
        """Train and validation loss of the best epoch."""
        return self.train_losses[self.best_epoch - 1], self.validation_losses[self.best_epoch - 1]

    @property
    def last(self) -> tuple[float, float]:
        """Train and validation loss of the last epoch."""
        return self.train_losses[-1], self.validation_losses[-1]


def read_curve(training: Mapping[str, Any]) -> LearningCurve:
    """Return the curve of a head from what is reported of its training."""
    history = training["history"]
    return LearningCurve(
        train_losses=tuple(epoch["train_loss"] for epoch in history),
        validation_losses=tuple(epoch["validation_loss"] for epoch in history),
        best_epoch=training["best_epoch"],
        epoch_limit=training["recipe"]["epochs"],
        evaluates_best=training["evaluated"] == "best",
    )


def learning_steps(
    curve: LearningCurve | None,
    baseline: LearningCurve | None = None,
    *,
    name: str = "candidate",
) -> tuple[str, ...]:
    """Say whether a head that is not accurate enough learned too little or learned by heart.

    Parameters
    ----------
    curve : LearningCurve or None
        Of the head; None if it was not trained here: then there is nothing to say.
    baseline : LearningCurve, optional
        Of the head that it is compared with.
    name : str
        Whose head it is.

    Returns
    -------
    tuple of str
        Most useful first: training cut short; overfitting; what the baseline's losses on the same
        rows say; or that neither shows.
    """
    if curve is None:
        return ()
    found = (
        _cut_short_step(curve, name),
        _overfitting_step(curve, name),
        _against_baseline_step(curve, baseline),
    )
    return tuple(step for step in found if step) or (_neither_step(curve, name),)


def _cut_short_step(curve: LearningCurve, name: str) -> str | None:
    if curve.epochs_run < curve.epoch_limit or curve.best_epoch < curve.epochs_run:
        return None
    return (
        f"Underfitting: the {name}'s training ended at its limit of {curve.epoch_limit} epochs "
        f"with the lowest validation loss ({curve.last[1]:.4g}) in the last one. Raise [training] "
        "epochs, or the learning rate."
    )


def _overfitting_step(curve: LearningCurve, name: str) -> str | None:
    (train_then, best), (train_now, last) = curve.best, curve.last
    rise = last / best - 1 if best > 0 else 0.0
    if rise > NOTABLE_RISE and train_now < train_then:
        remedy = (
            "The best epoch was judged, so more or more varied training records are what is left"
            if curve.evaluates_best
            else "Judge the best epoch in place of the last ([training] save_best = true)"
        )
        return (
            f"Overfitting: the {name}'s validation loss rose by {rise:.0%} after epoch "
            f"{curve.best_epoch} of {curve.epochs_run} (from {best:.4g} to {last:.4g}), while its "
            f"training loss fell from {train_then:.4g} to {train_now:.4g}. {remedy}."
        )
    if train_then > 0 and best > (1 + NOTABLE_GAP) * train_then:
        return (
            f"Overfitting: in its best epoch ({curve.best_epoch}) the {name}'s validation loss "
            f"is {best:.4g} against {train_then:.4g} in training. Train on more or more varied "
            "records, or raise [training] dropout."
        )
    return None


def _against_baseline_step(curve: LearningCurve, baseline: LearningCurve | None) -> str | None:
    """Compare how well both heads fit the same training rows."""
    if baseline is None:
        return None
    (train, validation), (their_train, their_validation) = curve.best, baseline.best
    losses = (
        f"training {train:.4g} against {their_train:.4g}, validation {validation:.4g} against "
        f"{their_validation:.4g} (best epochs {curve.best_epoch} and {baseline.best_epoch})"
    )
    if train > (1 + NOTABLE_GAP) * their_train:
        return (
            "The candidate fits even its training rows less well than the baseline does: "
            f"{losses}. If a longer training or a higher learning rate doesn't close that gap, its "
            "embeddings tell the classes apart less well."
        )
    if validation > (1 + NOTABLE_GAP) * their_validation:
        return (
            "The candidate fits its training rows as well as the baseline does, and the "
            f"validation rows less well: {losses}. What it learned does not carry over; train on "
            "more or more varied records."
        )
    return None


def _neither_step(curve: LearningCurve, name: str) -> str:
    train, validation = curve.best
    return (
        f"The {name}'s training shows neither under- nor overfitting: {curve.epochs_run} of at "
        f"most {curve.epoch_limit} epochs, the best one {curve.best_epoch}, with a training loss "
        f"of {train:.4g} and a validation loss of {validation:.4g}. Look at the embeddings next."
    )
