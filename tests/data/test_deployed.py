"""Test windows: from genomes or windows to all open frames, and what is said of the rest."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from harness.data.deployed import TestWindows, find_test_windows
from harness.data.records import RECORD_COLUMNS
from harness.data.windows import cut_windows, open_frames
from harness.errors import DataError

RNG = random.Random(1)
GENOMES = {
    "NC_1.1": "".join(RNG.choices("ACG", k=1_201)),  # no T: forward frames hold no stop
    "NC_2.1": "".join(RNG.choices("ACG", k=333)),
}
WINDOWS = {
    f"{accession}_chunk_{number}": window
    for accession, sequence in GENOMES.items()
    for number, window in cut_windows(sequence)
}


def write_fasta(path: Path, sequences: Iterable[tuple[str, str]]) -> Path:
    """Write a FASTA file."""
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences))
    return path


def records_of(windows: dict[str, str], *, frames: Iterable[str] = ("F1",)) -> pd.DataFrame:
    """Return the records of some frames of each window."""
    rows = []
    for name, window in windows.items():
        accession, _, number = name.partition("_chunk_")
        for each in open_frames(accession, int(number), window):
            if each.frame in frames:
                rows.append(
                    {"id": each.id, "nucleotides": each.nucleotides, "protein": each.protein}
                    | {"label": 1, "accession": accession, "window": int(number)}
                    | {"frame": each.frame, "lineage": "L", "source_kind": "phage", "genome": "G"}
                )
    return pd.DataFrame(rows).astype(RECORD_COLUMNS)


RECORDS = records_of(WINDOWS)


@pytest.mark.parametrize("form", ["genomes", "windows"])
def test_test_windows_when_found_then_have_all_open_frames(tmp_path: Path, form: str) -> None:
    """Genomes in FASTA and VirNucPro's windows give the same frames, the test windows' alone."""
    content = GENOMES if form == "genomes" else WINDOWS
    path = write_fasta(tmp_path / "given.fa", content.items())
    test_ids = RECORDS["id"].iloc[[1, 3]]
    found = find_test_windows(RECORDS, test_ids, [path])
    names = ["NC_1.1_chunk_2", "NC_2.1_chunk_1"]
    expected = [
        frame.id for name in names for frame in open_frames(name[:6], int(name[-1]), WINDOWS[name])
    ]
    assert len(expected) > 5
    assert found.frames["id"].tolist() == expected
    assert found.frames["window_id"].unique().tolist() == names
    assert set(found.frames["lineage"]) == {"L"}
    assert found.counts() == {
        "n_windows": 2,
        "n_missing": 0,
        "n_ambiguous": 0,
        "n_short": 1,  # NC_2.1 is a window itself
        "n_trained": 0,
    }


def test_test_windows_when_some_are_doubtful_then_are_counted(tmp_path: Path) -> None:
    """Windows not at hand, with other letters, or half in training: each is a reservation."""
    windows = {name: window for name, window in WINDOWS.items() if name != "NC_1.1_chunk_1"}
    records = records_of(WINDOWS, frames=("F1", "F2"))
    letters = WINDOWS["NC_1.1_chunk_2"]
    windows["NC_1.1_chunk_2"] = letters[:-1] + "N"  # beyond F1's nucleotides
    test_ids = records["id"][records["frame"] == "F1"]
    found = find_test_windows(
        records[~((records["frame"] == "F2") & (records["window"] == 2))],
        test_ids,
        [write_fasta(tmp_path / "windows.fa", windows.items())],
    )
    assert (found.n_windows, found.n_missing, found.n_ambiguous) == (4, 1, 1)
    assert found.n_trained == 2
    assert len(found.reservations()) == 4


def test_test_windows_when_none_are_at_hand_then_one_sentence_says_so() -> None:
    """FASTA pairs alone cannot be judged as deployed."""
    for found in (TestWindows(), find_test_windows(RECORDS, RECORDS["id"], [])):
        (sentence,) = found.reservations()
        assert sentence.startswith("Not judged as deployed")


def test_test_windows_when_a_record_is_no_frame_of_its_window_then_refuse(tmp_path: Path) -> None:
    """Windows of another size, or of another sequence, would be judged silently."""
    other = [(name, window[::-1]) for name, window in WINDOWS.items()]
    path = write_fasta(tmp_path / "windows.fa", other)
    with pytest.raises(DataError, match="4 of 4 test records are no open frame"):
        find_test_windows(RECORDS, RECORDS["id"], [path])


def test_test_windows_when_two_genomes_have_one_accession_then_refuse(tmp_path: Path) -> None:
    """Nothing says which of them the record belongs to."""
    twice = [*GENOMES.items(), ("NC_2.1", GENOMES["NC_2.1"][::-1])]
    path = write_fasta(tmp_path / "genomes.fa", twice)
    with pytest.raises(DataError, match=r"two genomes have the accession 'NC_2\.1'"):
        find_test_windows(RECORDS, RECORDS["id"], [path])


def test_test_windows_when_a_window_has_both_labels_then_refuse() -> None:
    """An accession in both classes is two genomes."""
    records = records_of(WINDOWS, frames=("F1", "F2"))
    records.loc[records["frame"] == "F2", "label"] = 0
    with pytest.raises(DataError, match="test records of both classes"):
        find_test_windows(records, records["id"], [])
