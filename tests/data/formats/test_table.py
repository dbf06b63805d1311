"""Record tables in Parquet files as input."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from harness.data.read import read_records
from harness.data.records import check_records
from harness.errors import DataError

ALL = Fraction(1)


def write_table(path: Path, **columns: Sequence[object]) -> Path:
    """Write a record table with some columns."""
    defaults = {"id": ["a_chunk_1F1", "b"], "nucleotides": ["atg", "AAA"], "protein": ["M", "k"]}
    pd.DataFrame({**defaults, **columns}).to_parquet(path)
    return path


def test_table_with_the_needed_columns_then_read_like_a_pair(tmp_path: Path) -> None:
    """The rest follows from the id and the list."""
    records = read_records([], [write_table(tmp_path / "x.parquet")]).records
    check_records(records)
    assert list(records.itertuples(index=False, name=None)) == [
        ("a_chunk_1F1", "ATG", "M", 0, "a", 1, "F1", "", "", "a"),
        ("b", "AAA", "K", 0, "b", -1, "", "", "", "b"),
    ]


def test_records_written_as_a_table_and_read_then_equal(tmp_path: Path) -> None:
    """What the table knows stays, and is joined with tables that know less."""
    taxonomy = tmp_path / "taxonomy.tsv"
    taxonomy.write_text("a\tMicroviridae\tGCF_1\tphage\n")
    first = write_table(tmp_path / "first.parquet")
    records = read_records([first], [], taxonomy=taxonomy).records
    records.to_parquet(tmp_path / "second.parquet")
    other = write_table(tmp_path / "other.parquet", id=["c", "d"])
    again = read_records([tmp_path / "second.parquet"], [other]).records
    pd.testing.assert_frame_equal(again[again["label"] == 1], records)


def test_table_with_missing_values_then_their_rows_are_rejected(tmp_path: Path) -> None:
    """A null is not a sequence, and an id with a space could not stand in FASTA."""
    table = write_table(
        tmp_path / "x.parquet", id=["a b", "b"], nucleotides=["ATG", None], protein=["M", "K"]
    )
    record_set = read_records([table], [], max_reject_share=ALL)
    assert list(zip(record_set.rejected["id"], record_set.rejected["reason"], strict=True)) == [
        ("a b", "unusable id (empty, over 255 characters, not printable)"),
        ("b", "empty nucleotides"),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0, 1]}, "stands in the list for label 1, but holds rows of another label"),
        ({"label": ["x", "y"]}, "column 'label' cannot be read as int8"),
        ({"nucleotides": [[1], [2]]}, "column 'nucleotides' cannot be read as large_string"),
        ({"id": [], "nucleotides": [], "protein": []}, "the table is empty"),
    ],
)
def test_table_with_a_fault_then_error_says_which(
    tmp_path: Path, columns: dict[str, Sequence[object]], message: str
) -> None:
    """A table of another form, or in the wrong list, is refused."""
    table = write_table(tmp_path / "x.parquet", **columns)
    with pytest.raises(DataError, match=rf"x\.parquet: .*{message}"):
        read_records([table], [])


def test_table_without_a_column_then_error_names_it(tmp_path: Path) -> None:
    """The columns that are there are listed."""
    path = tmp_path / "x.parquet"
    pd.DataFrame({"id": ["a"], "dna": ["ATG"]}).to_parquet(path)
    with pytest.raises(DataError, match=r"no column 'nucleotides'; it has \['id', 'dna'\]"):
        read_records([path], [])


@pytest.mark.parametrize("content", [b"", b"junk" * 100])
def test_table_that_is_not_parquet_then_error(tmp_path: Path, content: bytes) -> None:
    """Junk under the right ending is refused."""
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.parquet: not a readable Parquet file"):
        read_records([path], [])
