"""What the trainer takes, and what it refuses before anything starts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from harness.errors import DataError
from harness.training.features import TrainingData, as_rows, label_rows
from tests.training.conftest import Fit, Rows


def test_training_data_then_has_no_place_for_test_rows() -> None:
    """The test set cannot be reached from the trainer."""
    assert {field.name for field in fields(TrainingData)} == {"train", "validation", "batch_size"}


@pytest.mark.parametrize(
    "convert",
    [
        lambda array: array.astype(np.float64),
        lambda array: np.asfortranarray(array),
        lambda array: torch.from_numpy(array),
    ],
    ids=["float64", "fortran", "tensor"],
)
def test_features_of_any_kind_then_become_float32_rows(rows: Rows, convert: Any) -> None:
    """Arrays and tensors, whatever their precision and memory order."""
    found = as_rows(convert(rows.features))

    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), rows.features)


def test_read_only_features_then_are_taken_without_a_copy(rows: Rows) -> None:
    """Memory-mapped files may not be written, and need not be."""
    rows.features.flags.writeable = False

    found = as_rows(rows.features)

    assert isinstance(found, torch.Tensor)
    assert found.data_ptr() == rows.features.ctypes.data


@pytest.mark.parametrize("ids", [None, ["a", "b", "c", "d"], pd.Series(["a", "b", "c", "d"])])
def test_feature_that_is_not_finite_then_rows_are_named(ids: Any) -> None:
    """By id, or by number where there are no ids."""
    features = np.zeros((4, 2))
    features[1, 0], features[3, 1] = np.nan, np.inf

    expected = "row 1, row 3" if ids is None else "b, d"
    with pytest.raises(DataError, match=f"train: 2 rows hold features .* {expected}"):
        label_rows("train", features, [0, 1, 0, 1], ids)


def test_large_finite_features_then_are_accepted() -> None:
    """Their sum overflows, but none of them is infinite."""
    assert len(label_rows("train", np.full((4, 2), 3e38), [0, 1, 0, 1])) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.full(100, 2)}, "labels must be 0 or 1; 100 are not, such as 2 of r0"),
        ({"labels": ["viral"] * 100}, "labels must be 0 or 1; 100 are not, such as viral of r0"),
        ({"labels": np.full(100, np.nan)}, "100 are not, such as nan of r0"),
        ({"labels": np.ones(100)}, "both classes are needed, but all 100 rows have label 1"),
        ({"labels": np.ones(99)}, "expected one of labels per row, got 99 for 100 rows"),
        ({"ids": ["a"]}, "expected one of ids per row, got 1 for 100 rows"),
        ({"features": np.zeros(100)}, r"expected features of shape \(rows, features\), got"),
        ({"validation_features": np.zeros((40, 13))}, "expected 12 features, got 13 features"),
        ({"validation_labels": np.zeros(40)}, "validation: both classes are needed"),
    ],
)
def test_rows_that_cannot_be_trained_on_then_error_says_why(
    fit: Fit, changes: dict[str, Any], message: str
) -> None:
    """Before anything is trained."""
    with pytest.raises(DataError, match=message):
        fit(**changes)


def test_fewer_rows_than_a_batch_then_error(fit: Fit, rows: Rows) -> None:
    """A batch is the least that can be trained on."""
    with pytest.raises(DataError, match="expected at least one batch of 16 training rows, got 15"):
        fit(features=rows.features[:15], labels=rows.labels[:15], ids=None)
