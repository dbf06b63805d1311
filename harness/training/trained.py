"""What training yields: the heads, and how they came to be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.config import TrainingConfig
from harness.training.features import Features
from harness.training.head import Head
from harness.training.history import EpochRecord
from harness.training.seeds import Seeds

__all__ = ["Choice", "TrainedHead"]

Choice = Literal["final", "best"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedHead:
    """A head after training.

    Attributes
    ----------
    final : Head
        As the last epoch left it.
    best : Head or None
        A copy from the best epoch on validation, where the recipe says ``save_best``.
    history : tuple of EpochRecord
    best_epoch : int
        Counted from 1.
    recipe : TrainingConfig
    seed : int
        The user's.
    seeds : Seeds
        What was derived from it.
    n_train, n_validation : int
        Rows.
    """

    final: Head
    best: Head | None
    history: tuple[EpochRecord, ...]
    best_epoch: int
    recipe: TrainingConfig
    seed: int
    seeds: Seeds
    n_train: int
    n_validation: int

    @property
    def evaluated(self) -> Choice:
        """Which one is to be evaluated: ``best`` if it was kept, else ``final``."""
        return "final" if self.best is None else "best"

    @property
    def head(self) -> Head:
        """The one to be evaluated."""
        return self.best or self.final

    def epoch_of(self, which: Choice) -> EpochRecord:
        """Return the epoch that a head is from."""
        return self.history[-1 if which == "final" else self.best_epoch - 1]

    @property
    def epochs_run(self) -> int:
        """How many epochs there were."""
        return len(self.history)

    @property
    def stopped_early(self) -> bool:
        """Whether the patience ended before the epochs did."""
        return self.epochs_run < self.recipe.epochs

    def predict(self, features: Features) -> npt.NDArray[np.float32]:
        """Return the probability of the viral class, as ``Head.predict`` does."""
        return self.head.predict(features)

    def to_dict(self) -> dict[str, Any]:
        """Return what is reported of the training, as JSON values."""
        return {
            "evaluated": self.evaluated,
            "epochs_run": self.epochs_run,
            "best_epoch": self.best_epoch,
            "stopped_early": self.stopped_early,
            "n_train": self.n_train,
            "n_validation": self.n_validation,
            "seed": self.seed,
            "seeds": asdict(self.seeds),
            "history": [asdict(record) for record in self.history],
        }
