"""Each leak is planted in an otherwise clean split and must be counted exactly.

Identity of test proteins to training proteins: with MMseqs2, without it, and when it fails.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.leakage import (
    IdentityBins,
    LeakReport,
    find_leaks,
    measure_identity,
)
from harness.data.records import RECORD_COLUMNS
from harness.data.split import Split, draw_split
from harness.errors import DataError

PARTS = ("train", "validation", "test")
OPPOSITE = str.maketrans("ACGT", "TGCA")
IN_TRAINING = "of the training part"


def _records(n: int = 6) -> pd.DataFrame:
    """Build records that share nothing."""
    spelled = ["".join(bases) for bases in itertools.islice(itertools.product("ACG", repeat=4), n)]
    accession = [f"NC_{i}.1" for i in range(n)]
    columns = {
        "id": [f"{name}_chunk_0F1" for name in accession],
        "nucleotides": [f"{text}AAAA" for text in spelled],
        "protein": [f"M{text}" for text in spelled],
        "label": np.arange(n) % 2,
        "accession": accession,
        "window": [0] * n,
        "frame": ["F1"] * n,
        "lineage": [""] * n,
        "source_kind": [""] * n,
        "genome": accession,
    }
    return pd.DataFrame(columns).astype(RECORD_COLUMNS)


def _split(
    records: pd.DataFrame, parts: Sequence[Sequence[int]] = ((0, 1), (2, 3), (4, 5))
) -> Split:
    """Split by row numbers: 0 and 1 train, 2 and 3 validation, 4 and 5 test, if not said."""
    train, validation, test = (
        records["id"].iloc[list(rows)].reset_index(drop=True) for rows in parts
    )
    return Split(
        train=train,
        validation=validation,
        test=test,
        sampling_unit="record",
        test_fraction=Fraction(1, 3),
        validation_fraction=Fraction(1, 2),
        seed=0,
        counts=(),
    )


def _repeat(records: pd.DataFrame, column: str, row: int, copied: int) -> None:
    texts = records[column].tolist()
    texts[row] = texts[copied]
    records[column] = pd.Series(texts, dtype="str")


def _found(report: LeakReport) -> dict[str, int]:
    return {check.what: check.count for check in report.leaks}


def test_find_leaks_in_a_clean_split_then_finds_none() -> None:
    """Nothing is shared, so every check is there with a count of 0."""
    records = _records()
    report = find_leaks(records, _split(records))
    assert _found(report) == {}
    assert len(report.checks) == 10


def test_find_leaks_when_an_id_is_in_test_and_train_then_it_is_named() -> None:
    """The same record must not be trained on and tested on."""
    records = _records()
    report = find_leaks(records, _split(records, ((0, 1), (2, 3), (0, 4, 5))))
    assert report.leaks[0].what == f"test rows with the same id as a row {IN_TRAINING}"
    assert report.leaks[0].examples == (("NC_0.1_chunk_0F1", "NC_0.1_chunk_0F1"),)


@pytest.mark.parametrize("training_row", [0, 2])
@pytest.mark.parametrize("column", ["nucleotides", "protein"])
def test_find_leaks_when_test_repeats_a_sequence_then_the_pair_is_named(
    column: str, training_row: int
) -> None:
    """A test row with a sequence from train or validation is a leak."""
    records = _records()
    _repeat(records, column, 4, copied=training_row)
    (leak,) = find_leaks(records, _split(records)).leaks
    assert leak.what == f"test rows with the same {column} as a row {IN_TRAINING}"
    assert leak.examples == ((records["id"][4], records["id"][training_row]),)


def test_find_leaks_when_test_repeats_the_other_strand_then_counts_it() -> None:
    """The reverse complement is the same piece of genome."""
    records = _records()
    sequences = records["nucleotides"].tolist()
    opposite = sequences[1].translate(OPPOSITE)[::-1]
    records["nucleotides"] = pd.Series([*sequences[:5], opposite], dtype="str")
    expected = {f"test rows with the same nucleotides as a row {IN_TRAINING}": 1}
    assert _found(find_leaks(records, _split(records))) == expected


def test_find_leaks_when_validation_repeats_train_then_counts_it() -> None:
    """Training must not be stopped by sequences that it was trained on."""
    records = _records()
    _repeat(records, "protein", 2, copied=0)
    _repeat(records, "protein", 3, copied=1)
    report = find_leaks(records, _split(records, ((0, 1), (1, 2, 3), (4, 5))))
    assert _found(report) == {
        "validation rows with the same id as a row of train": 1,
        "validation rows with the same nucleotides as a row of train": 1,
        "validation rows with the same protein as a row of train": 3,
    }


@pytest.mark.parametrize("column", ["nucleotides", "protein"])
def test_find_leaks_when_one_sequence_has_two_labels_then_the_pair_is_named(column: str) -> None:
    """Contradicting labels are an error even inside one part."""
    records = _records()
    _repeat(records, column, 4, copied=5)
    (leak,) = find_leaks(records, _split(records)).leaks
    assert leak.what == f"{column} with two labels (distinct sequences)"
    assert leak.examples == (("NC_5.1_chunk_0F1", "NC_4.1_chunk_0F1"),)


def test_find_leaks_when_records_and_parts_do_not_match_then_both_sides_are_counted() -> None:
    """Every record is in a part, and every id of a part is a record."""
    records = _records(7)
    split = dataclasses.replace(_split(records), train=pd.Series(["stranger"], dtype="str"))
    assert _found(find_leaks(records, split)) == {
        "records in no part of the split": 3,
        "ids in the split without a record": 1,
    }


def test_find_leaks_then_shows_at_most_five_examples() -> None:
    """The count is exact, the examples are few."""
    records = _records(40)
    records["protein"] = pd.Series(["M"] * 40, dtype="str")
    report = find_leaks(records, _split(records, (range(20), (), range(20, 40))))
    assert report.leaks[0].count == 20
    assert len(report.leaks[0].examples) == 5


def test_find_leaks_of_a_table_without_unique_ids_is_refused() -> None:
    """Two rows with one id cannot be told apart."""
    records = pd.concat([_records(), _records()])
    with pytest.raises(DataError, match="occur twice"):
        find_leaks(records, _split(records))


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 15), min_size=2, max_size=40),
    st.sampled_from(["record", "window", "genome"]),
)
def test_find_leaks_in_a_drawn_split_then_finds_none(sequences: list[int], unit: str) -> None:
    """What the sampler draws is clean, however often sequences repeat."""
    distinct = _records(16)
    records = distinct.iloc[sequences].reset_index(drop=True)
    records["id"] = [f"NC_{i}.1_chunk_0F1" for i in range(len(records))]
    report = find_leaks(records.astype(RECORD_COLUMNS), draw_split(records, sampling_unit=unit))
    assert report.leaks == ()


def test_find_leaks_then_reports_what_is_close_to_the_test_rows() -> None:
    """Same genome, neighbouring window and other frame are counted apart, of all test rows."""
    records = _records(8)
    records["genome"] = pd.Series(["A", ""] + ["A"] * 4 + ["B", ""], dtype="str")
    records["accession"] = pd.Series(["A"] * 7 + ["C"], dtype="str")
    records["window"] = np.array([3, 9, 9, 9, 4, 3, 8, 3], dtype=np.int32)
    report = find_leaks(records, _split(records, ((0, 1), (2, 3), (4, 5, 6, 7))))
    assert [(near.what.split(" in ")[0], near.count) for near in report.nearby] == [
        ("genome", 2),  # rows 4 and 5; that of row 7 is unknown
        ("neighbouring window", 2),  # row 4 after row 0, row 6 before row 1
        ("other frame of the same window", 1),  # row 5, with row 0
    ]
    assert report.nearby[0].share == Fraction(1, 2)


@pytest.mark.parametrize(("train_window", "test_window"), [(0, -1), (-1, 0), (-1, -1)])
def test_find_leaks_when_a_window_is_unknown_then_it_is_close_to_nothing(
    train_window: int, test_window: int
) -> None:
    """A missing window number is no place, not even next to window 0."""
    records = _records(2)
    records["accession"] = pd.Series(["A", "A"], dtype="str")
    records["window"] = np.array([train_window, test_window], dtype=np.int32)
    report = find_leaks(records, _split(records, ((0,), (), (1,))))
    assert [near.count for near in report.nearby[1:]] == [0, 0]


def test_find_leaks_when_nothing_is_tested_then_shares_are_zero() -> None:
    """An empty test set is close to nothing."""
    records = _records(2)
    report = find_leaks(records, _split(records, ((0,), (1,), ())))
    assert [near.share for near in report.nearby] == [0, 0, 0]


RESIDUES = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def _protein(seed: int, length: int = 166) -> str:
    return "".join(np.random.default_rng(seed).choice(RESIDUES, size=length))


def _mutated(protein: str, n_residues: int) -> str:
    """Replace residues by others."""
    rng = np.random.default_rng(n_residues)
    letters = np.searchsorted(RESIDUES, list(protein))
    places = rng.choice(len(protein), size=n_residues, replace=False)
    letters[places] = (letters[places] + rng.integers(1, 20, size=n_residues)) % 20
    return "".join(RESIDUES[letters])


def _split_records(test: list[str], train: list[str]) -> tuple[pd.DataFrame, Split]:
    """Build the columns that are read, and a split of just these rows."""
    ids = pd.Series(
        [f"test_{i}" for i in range(len(test))] + [f"train_{i}" for i in range(len(train))],
        dtype="str",
    )
    records = pd.DataFrame({"id": ids, "protein": pd.Series(test + train, dtype="str")})
    split = Split(
        train=ids[len(test) :],
        validation=ids[:0],
        test=ids[: len(test)],
        sampling_unit="record",
        test_fraction=Fraction(1, 10),
        validation_fraction=Fraction(1, 10),
        seed=0,
        counts=(),
    )
    return records, split


def _put_on_path(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "mmseqs"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


TRAIN = [_protein(seed) for seed in range(8)]
TEST = {
    "the same": TRAIN[0],
    "the same once more": TRAIN[0],
    "a fifth replaced": _mutated(TRAIN[1], 33),
    "most replaced": _mutated(TRAIN[2], 90),
    "another protein": _protein(99),
    "a part of a training protein": TRAIN[3][:120],
    "half of a training protein, then another": TRAIN[4][:83] + _protein(98, 83),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[IdentityBins, Path]:
    """Run MMseqs2 once; with the folder that it was given."""
    if shutil.which("mmseqs") is None:
        pytest.skip("MMseqs2 is not installed (apt-get install mmseqs2)")
    scratch = tmp_path_factory.mktemp("scratch")
    test = list(TEST.values())
    return measure_identity(*_split_records(test, TRAIN), threads=1, scratch=scratch), scratch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("the same", ">=90"),
        ("a fifth replaced", "50-90"),
        ("most replaced", "30-50"),
        ("another protein", "<30"),
        ("a part of a training protein", ">=90"),
        ("half of a training protein, then another", "<30"),
        ("the same once more", ">=90"),
    ],
)
def test_measure_identity_of_a_test_protein_then_finds_its_bin(
    measured: tuple[IdentityBins, Path], case: str, expected: str
) -> None:
    """The best hit that covers 0.8 of the test protein decides; without a hit, the lowest bin."""
    assert measured[0].rows["bin"][list(TEST).index(case)] == expected


@pytest.mark.slow
def test_measure_identity_then_counts_add_up(measured: tuple[IdentityBins, Path]) -> None:
    """Every test record is in one bin; without a hit its identity is unknown."""
    result, _ = measured
    assert result.counts == {"<30": 2, "30-50": 1, "50-90": 1, ">=90": 3}
    assert result.rows["identity"].isna().tolist() == [False] * 4 + [True, False, True]


@pytest.mark.slow
def test_measure_identity_then_says_which_version_measured(
    measured: tuple[IdentityBins, Path],
) -> None:
    """The version stands beside the numbers, and no temporary file stays behind."""
    result, scratch = measured
    assert result.is_measured
    assert result.version
    assert list(scratch.iterdir()) == []


def test_measure_identity_when_mmseqs_is_absent_then_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is measured, and the reader is told what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    result = measure_identity(*_split_records([_protein(0)], [_protein(1)]))
    assert not result.is_measured
    assert "apt-get install mmseqs2" in result.remedy
    assert result.counts == {}
    assert (len(result.rows), result.n_test) == (0, 1)


def test_measure_identity_when_mmseqs_fails_then_shows_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken search is an error, never a table without hits."""
    _put_on_path(tmp_path, 'echo "no space left for $2" >&2; exit 3', monkeypatch)
    with pytest.raises(DataError, match=f"easy-search ended with 3: no space left for {tmp_path}"):
        measure_identity(*_split_records([_protein(0)], [_protein(1)]), scratch=tmp_path)


def test_measure_identity_when_nothing_can_be_searched_then_nothing_is_similar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty training part has no hits; MMseqs2 would refuse it."""
    _put_on_path(tmp_path, '[ "$1" = version ] && echo 14', monkeypatch)
    result = measure_identity(*_split_records([_protein(0)], []))
    assert result.counts["<30"] == 1


def test_measure_identity_of_many_rows_then_measures_one_sample_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample stands for a large test set; which rows it holds depends on the seed alone."""
    _put_on_path(tmp_path, '[ "$1" = version ] && echo 14', monkeypatch)
    records, split = _split_records([_protein(seed, 20) for seed in range(50)], [])
    samples = [
        measure_identity(table, split, max_rows=10, seed=seed).rows["id"]
        for table, seed in ((records, 1), (records.iloc[::-1], 1), (records, 2))
    ]
    assert len(samples[0]) == 10
    assert set(samples[0]) == set(samples[1]) != set(samples[2])


@pytest.mark.parametrize(("test", "train"), [(["", "MK"], ["MK"]), (["MK"], ["MK", ""])])
def test_measure_identity_when_a_protein_is_unknown_then_names_the_record(
    test: list[str], train: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record without a protein has no identity, not a low one."""
    _put_on_path(tmp_path, "exit 0", monkeypatch)
    with pytest.raises(DataError, match=r"1 records have no protein, such as 't"):
        measure_identity(*_split_records(test, train))
