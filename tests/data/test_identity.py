"""Identity of test proteins to training proteins: with MMseqs2, without it, and when it fails."""

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.data.leakage import IdentityBins, measure_identity
from harness.data.split import Split
from harness.errors import DataError

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
