"""What the trainer takes, and what it refuses before anything starts.

Features that stay on disk give the rows of the stores, and the same training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from harness.embedding import EmbeddingStore, Facts, write_store
from harness.errors import ArtifactError, DataError
from harness.training.features import StoredRows, TrainingData, as_rows, label_rows, read_rows
from tests.training.conftest import Fit, Rows, draw_rows, same_weights


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


def test_lists_and_a_column_of_labels_then_rows_are_the_same() -> None:
    """As tables and scikit-learn hand them over."""
    features: Any = [[1.0, 2.0], [3.0, 4.0]]

    labelled = label_rows("train", features, np.array([[0], [1]]))

    assert labelled.labels.tolist() == [0, 1]
    assert read_rows(labelled.features, torch.tensor([1])).tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.full(100, 2)}, "labels must be 0 or 1; 100 are not, such as 2 of r0"),
        ({"labels": ["viral"] * 100}, "labels must be 0 or 1; 100 are not, such as viral of r0"),
        ({"labels": np.full(100, np.nan)}, "100 are not, such as nan of r0"),
        ({"labels": np.ones(100)}, "both classes are needed, but all 100 rows have label 1"),
        ({"labels": np.ones(99)}, "expected one of labels per row, got 99 for 100 rows"),
        ({"labels": np.ones((50, 2))}, r"expected labels of shape \(rows,\), got \(50, 2\)"),
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


class _Table:
    """An embedder that looks vectors up."""

    name = digest = "table"
    dtype = "float32"
    facts = Facts(engine="a table")

    def __init__(self, vectors: dict[str, npt.NDArray[np.float32]]) -> None:
        self._vectors = vectors
        self.dim = len(next(iter(vectors.values())))

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        return np.stack([self._vectors[name] for name in sequences])


def _write(folder: Path, rows: Rows, dtype: str) -> tuple[EmbeddingStore, EmbeddingStore]:
    """Store the rows' first five and last seven features in shards, in different orders."""
    found = []
    for name, columns, ids in (
        ("first", slice(0, 5), rows.ids),
        ("second", slice(5, 12), rows.ids[::-1]),
    ):
        vectors = {i: rows.features[int(i[1:]), columns] for i in ids}
        (folder / name).mkdir()
        write_store(folder / name, ids, ids, _Table(vectors), dtype=dtype, rows_per_shard=16)
        found.append(EmbeddingStore(folder / name))
    return found[0], found[1]


@pytest.fixture
def stores(tmp_path: Path, rows: Rows) -> tuple[EmbeddingStore, EmbeddingStore]:
    """Return the rows as two stores of several shards."""
    return _write(tmp_path, rows, "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rows_that_are_stored_in_half_the_bytes_then_are_those_that_the_stores_give(
    tmp_path: Path, rows: Rows, dtype: str
) -> None:
    """Widened to float32, which holds each of them exactly."""
    stores = _write(tmp_path, rows, dtype)

    found = StoredRows(stores, rows.ids).read(torch.arange(100)).numpy()

    np.testing.assert_array_equal(found, np.hstack([store.rows(rows.ids) for store in stores]))
    np.testing.assert_allclose(found, rows.features, rtol=2**-8)


class _Brought:
    """Embeddings that something else computed."""

    def __init__(self, store: EmbeddingStore) -> None:
        self.ids, self.dim, self.rows = store.ids, store.dim, store.rows

    def __len__(self) -> int:
        return len(self.ids)


def test_rows_of_another_kind_of_store_then_are_asked_for_by_id(
    stores: tuple[EmbeddingStore, EmbeddingStore], rows: Rows
) -> None:
    """Such as VirNucPro's own files, beside a store of ours."""
    stored = StoredRows([_Brought(stores[0]), stores[1]], rows.ids)
    positions = torch.tensor([99, 0, 17, 17, 50])

    np.testing.assert_array_equal(stored.read(positions).numpy(), rows.features[positions])


def test_stored_rows_then_are_those_of_the_stores_joined(
    stores: tuple[EmbeddingStore, EmbeddingStore], rows: Rows
) -> None:
    """In any order, repeated ones included, across shards and stores of another order."""
    stored = StoredRows(stores, rows.ids)
    positions = torch.tensor([99, 0, 17, 17, 50])

    assert stored.shape == (100, 12)
    np.testing.assert_array_equal(stored.read(positions).numpy(), rows.features[positions])


def test_training_on_stored_rows_then_weights_are_the_same(
    fit: Fit, stores: tuple[EmbeddingStore, EmbeddingStore], rows: Rows
) -> None:
    """Where the features lie changes nothing."""
    assert same_weights(fit(features=StoredRows(stores, rows.ids)).final, fit().final)


def test_predictions_on_stored_rows_then_are_the_same(
    fit: Fit, stores: tuple[EmbeddingStore, EmbeddingStore], rows: Rows
) -> None:
    """They are read in blocks."""
    trained = fit()

    stored = trained.predict(StoredRows(stores, rows.ids))

    np.testing.assert_array_equal(stored, trained.predict(rows.features))


def test_stored_row_that_is_not_finite_then_is_named(
    stores: tuple[EmbeddingStore, EmbeddingStore], rows: Rows
) -> None:
    """They are checked as arrays are."""
    shard = next(iter(sorted(stores[0].folder.glob("shard-*"))))
    content = bytearray(shard.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    shard.write_bytes(content)

    with pytest.raises(DataError, match="1 rows hold features that are not finite, such as r15"):
        label_rows("train", StoredRows(stores, rows.ids), rows.labels, rows.ids)


def test_record_that_is_not_in_a_store_then_error_names_it(
    stores: tuple[EmbeddingStore, EmbeddingStore],
) -> None:
    """And the store."""
    with pytest.raises(DataError, match="first: 1 of 2 records have no embedding, such as 'r100'"):
        StoredRows(stores, ["r0", "r100"])


@pytest.mark.parametrize("kept_bytes", [4, 200])
def test_shard_that_was_cut_short_then_error_names_it(
    stores: tuple[EmbeddingStore, EmbeddingStore], rows: Rows, kept_bytes: int
) -> None:
    """Within its header or within a row."""
    shard = next(iter(sorted(stores[0].folder.glob("shard-*"))))
    shard.write_bytes(shard.read_bytes()[:kept_bytes])

    with pytest.raises(ArtifactError, match=r"shard-00000.*delete this file and run again"):
        StoredRows(stores, rows.ids).read(torch.arange(100))


def test_rows_that_were_drawn_then_differ_by_seed() -> None:
    """The data of these tests are not constant."""
    assert not np.array_equal(draw_rows(3).features, draw_rows(3, seed=1).features)
