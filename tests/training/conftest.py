"""Small separable data and a recipe that trains on it within a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from harness.config import TrainingConfig
from harness.training.checkpoints import TrainedHead
from harness.training.trainer import HeadTrainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Features and labels that one direction separates, with some noise."""

    features: npt.NDArray[np.float32]  # (row, feature)
    labels: npt.NDArray[np.int8]  # (row,)
    ids: list[str]


def draw_rows(n_rows: int, n_features: int = 12, seed: int = 0) -> Rows:
    """Draw rows whose first feature tells the class."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    labels = (features[:, 0] + 0.3 * rng.normal(size=n_rows) > 0).astype(np.int8)
    return Rows(features=features, labels=labels, ids=[f"r{row}" for row in range(n_rows)])


QUICK = TrainingConfig(epochs=4, batch_size=16, hidden_dim=8, patience=4)
LEARNS = replace(QUICK, epochs=30, patience=30, learning_rate=Fraction(1, 20))
# Learns at once, then overfits: the best epoch is not the last one.
OVERFITS = replace(LEARNS, learning_rate=Fraction(1), dropout=Fraction(0), patience=10)

Fit = Callable[..., TrainedHead]
FitAll = Callable[..., tuple[TrainedHead, ...]]


@pytest.fixture
def rows() -> Rows:
    """Return 100 rows of 12 features."""
    return draw_rows(100)


@pytest.fixture
def fit(fit_all: FitAll) -> Fit:
    """Return a call that trains a head on ``rows``; keywords replace any argument."""
    return lambda seed=42, **changes: fit_all(seeds=(seed,), **changes)[0]


@pytest.fixture
def fit_all(rows: Rows) -> FitAll:
    """Return a call that trains a head for each of some seeds on ``rows``."""

    def call(seeds: Sequence[int] = (42, 43, 44), **changes: Any) -> tuple[TrainedHead, ...]:
        how = {
            name: changes.pop(name)
            for name in ("folder", "name", "takes_signals")
            if name in changes
        }
        return HeadTrainer(**(_arguments(rows) | changes)).fit(seeds=seeds, **how)

    return call


def _arguments(rows: Rows) -> dict[str, Any]:
    validation = draw_rows(40, seed=1)
    return {
        "features": rows.features,
        "labels": rows.labels,
        "ids": rows.ids,
        "validation_features": validation.features,
        "validation_labels": validation.labels,
        "recipe": QUICK,
    }


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products are faster on one thread, and always rounded alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Say whether two heads are equal to the last bit."""
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
