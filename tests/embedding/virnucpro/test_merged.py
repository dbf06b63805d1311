"""Features that VirNucPro merged, joined by id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.data.virnucpro import write_merged
from harness.embedding.virnucpro import MergedFeatures, SomeColumns
from harness.errors import DataError

FEATURES = np.arange(20, dtype=np.float32).reshape(5, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return three viral rows and two others, in two merged folders."""
    for name, rows, label in (("viral.1.1_merged", [0, 1, 2], 1), ("bacteria_merged", [3, 4], 0)):
        (tmp_path / name).mkdir()
        write_merged(
            tmp_path / name / "output_1_merged.pt",
            [f"r{n}" for n in rows],
            FEATURES[rows],
            label=label,
        )
    return tmp_path


def test_rows_when_asked_across_files_then_each_id_gets_its_own(folder: Path) -> None:
    """Rows are joined by id, whatever file they are in."""
    store = MergedFeatures(folder)

    assert (store.rows(["r4", "r0", "r3"]) == FEATURES[[4, 0, 3]]).all()
    assert (len(store), store.dim) == (5, 4)


def test_rows_when_a_record_has_none_then_it_is_named(folder: Path) -> None:
    """Rows in are rows out, or an error."""
    with pytest.raises(DataError, match="1 of 2 records have no features, such as 'r9'"):
        MergedFeatures(folder).rows(["r0", "r9"])


def test_check_labels_when_they_differ_from_the_records_then_one_is_named(folder: Path) -> None:
    """Features of the other class are features of other data."""
    records = pd.DataFrame({"id": ["r0", "r3"], "label": [1, 1]})

    with pytest.raises(DataError, match=r"1 rows have another label than their records.*'r3'"):
        MergedFeatures(folder).check_labels(records)


def test_check_labels_when_they_agree_then_nothing_is_raised(folder: Path) -> None:
    """Rows without a record, such as those left out by a sample, do not matter."""
    store = MergedFeatures(folder)

    store.check_labels(pd.DataFrame({"id": ["r0", "r3"], "label": [1, 0]}))

    assert "r4" in store.ids


@pytest.mark.parametrize("columns", [slice(-3, None), slice(None, 1), slice(-99, None)])
def test_some_columns_when_read_then_they_are_those_of_the_features(
    folder: Path, columns: slice
) -> None:
    """The protein embedding follows the nucleotide embedding."""
    part = SomeColumns(MergedFeatures(folder), columns)

    assert (part.rows(["r1"]) == FEATURES[[1], columns]).all()
    assert part.dim == FEATURES[:, columns].shape[1]


def test_sha256_when_a_value_changes_then_it_differs(folder: Path) -> None:
    """A head trained on other features is another head."""
    before = MergedFeatures(folder).sha256
    path = folder / "bacteria_merged" / "output_1_merged.pt"
    write_merged(path, ["r3", "r4"], FEATURES[[4, 3]], label=0)

    assert MergedFeatures(folder).sha256 != before
