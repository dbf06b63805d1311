"""The test set on disk: written once, used again, and never silently redrawn."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.data import testset
from harness.data.fasta import read_fasta
from harness.data.records import RECORD_COLUMNS
from harness.data.testset import obtain_test_set
from harness.errors import ArtifactError, DataError

FASTA_FILES = [
    f"{prefix}_{kind}.fa" for prefix in ("nonviral", "viral") for kind in ("nucleotide", "protein")
]


@pytest.fixture
def records() -> pd.DataFrame:
    """Eighty records, half of them viral, that share nothing."""
    rows = np.arange(80)
    spelled = [
        np.base_repr(row + 64, 4).translate(str.maketrans("0123", "ACGT")) for row in range(80)
    ]
    accession = [f"NC_{row // 8}.1" for row in rows]
    columns = {
        "id": [f"{name}_chunk_{row}F1" for name, row in zip(accession, rows, strict=True)],
        "nucleotides": [f"{text}AAAA" for text in spelled],
        "protein": [f"M{text}" for text in spelled],
        "label": rows % 2,
        "accession": accession,
        "window": rows,
        "frame": ["F1"] * 80,
        "lineage": [""] * 80,
        "source_kind": [""] * 80,
        "genome": accession,
    }
    return pd.DataFrame(columns).astype(RECORD_COLUMNS)


def _manifest(directory: Path) -> dict[str, object]:
    manifest: dict[str, object] = json.loads((directory / "manifest.json").read_text("utf-8"))
    return manifest


def test_obtain_test_set_then_writes_fasta_pairs(records: pd.DataFrame, tmp_path: Path) -> None:
    """Each class has its nucleotides and proteins, in one order, with the records' own ids."""
    stored = obtain_test_set(records, tmp_path)
    viral = records[records["id"].isin(stored.split.test) & (records["label"] == 1)]
    nucleotides, protein = (
        read_fasta(stored.folder / f"viral_{kind}.fa").to_pandas()
        for kind in ("nucleotide", "protein")
    )
    assert sorted(p.name for p in stored.folder.glob("*.fa")) == FASTA_FILES
    assert nucleotides["id"].tolist() == protein["id"].tolist() == sorted(viral["id"])
    assert sorted(protein["sequence"]) == sorted(viral["protein"])


def test_obtain_test_set_then_manifest_says_what_was_drawn(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """Ids, seed, settings and digests can be read without this package."""
    stored = obtain_test_set(
        records, tmp_path, seed=7, sampling_unit="genome", validation_fraction="0.25"
    )
    manifest = _manifest(tmp_path)
    assert manifest["ids"] == stored.split.test.tolist()
    assert manifest["ids_sha256"] == stored.split.id_digests()
    assert manifest["seeds_tried"] == []
    request = manifest["request"]
    assert isinstance(request, dict)
    assert (request["seed"], request["sampling_unit"]) == (7, "genome")
    assert len(stored.split.validation) == 18  # of 72 in the training part


def test_obtain_test_set_when_asked_again_then_uses_it_again(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """The same request finds the same set, in whatever order the records come now."""
    first = obtain_test_set(records, tmp_path, test_fraction="0.10")
    again = obtain_test_set(records.iloc[::-1], tmp_path, test_fraction=0.1)
    assert (first.is_reused, again.is_reused) == (False, True)
    assert again.folder == first.folder
    assert again.split.id_digests() == first.split.id_digests()


@pytest.mark.parametrize(
    ("seed", "fraction", "unit", "named"),
    [
        (43, "0.10", "record", r"seed 42 \(asked for: 43\)"),
        (42, "0.20", "record", r"test_fraction 1/10 \(asked for: 1/5\)"),
        (42, "0.10", "genome", r"sampling_unit record \(asked for: genome\)"),
    ],
)
def test_obtain_test_set_when_another_stands_there_then_refuses(
    records: pd.DataFrame, tmp_path: Path, seed: int, fraction: str, unit: str, named: str
) -> None:
    """Nobody gets another test set without asking for a redraw."""
    obtain_test_set(records, tmp_path)
    with pytest.raises(ArtifactError, match=rf"{named}.*redraw=True"):
        obtain_test_set(records, tmp_path, seed=seed, test_fraction=fraction, sampling_unit=unit)


def test_obtain_test_set_when_records_were_added_then_refuses(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """More records would give another test set."""
    obtain_test_set(records.iloc[:-1], tmp_path)
    with pytest.raises(ArtifactError, match=r"n_records 79 \(asked for: 80\)"):
        obtain_test_set(records, tmp_path)


def test_obtain_test_set_when_redrawn_then_earlier_seeds_are_recorded(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """Every seed that was tried before stands beside the one in use, and its files stay."""
    first = obtain_test_set(records, tmp_path, seed=1)
    obtain_test_set(records, tmp_path, seed=2, redraw=True)
    third = obtain_test_set(records, tmp_path, seed=3, redraw=True)
    assert third.seeds_tried == (1, 2)
    assert _manifest(tmp_path)["seeds_tried"] == [1, 2]
    assert (first.folder / "split.parquet").exists()
    assert obtain_test_set(records, tmp_path, seed=3).seeds_tried == (1, 2)


def test_obtain_test_set_when_redraw_asks_for_the_same_then_nothing_is_drawn(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """The set that stands there is what was asked for; no seed was tried."""
    obtain_test_set(records, tmp_path)
    again = obtain_test_set(records, tmp_path, redraw=True)
    assert again.is_reused
    assert again.seeds_tried == ()


@pytest.mark.parametrize("name", ["viral_protein.fa", "split.parquet"])
def test_obtain_test_set_when_a_file_was_changed_then_names_it(
    records: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    """A test set that somebody edited is not the one that was drawn."""
    with (obtain_test_set(records, tmp_path).folder / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ArtifactError, match=f"{name}: is not the file"):
        obtain_test_set(records, tmp_path)


def test_obtain_test_set_when_sequences_changed_then_refuses(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """The same ids with other sequences are other records."""
    obtain_test_set(records, tmp_path)
    records["protein"] = records["protein"] + "K"
    with pytest.raises(ArtifactError, match=r"viral_protein\.fa: the records of the test set"):
        obtain_test_set(records, tmp_path)


def test_obtain_test_set_when_the_manifest_is_gone_then_refuses(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """Without the manifest nobody knows which seeds were tried."""
    obtain_test_set(records, tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"holds draw_1 but no manifest\.json"):
        obtain_test_set(records, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ('{"draw": 1}', "draw, files, request, seeds_tried")],
)
def test_obtain_test_set_when_the_manifest_is_damaged_then_says_so(
    records: pd.DataFrame, tmp_path: Path, content: str, message: str
) -> None:
    """A manifest that cannot be understood does not lead to a new draw."""
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        obtain_test_set(records, tmp_path)


def test_obtain_test_set_when_writing_was_interrupted_then_draws_again(
    records: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-written files are no test set, and do not stand in the way of one."""
    with monkeypatch.context() as patched:
        patched.setattr(testset, "digest_file", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            obtain_test_set(records, tmp_path)
    assert not obtain_test_set(records, tmp_path).is_reused
    assert [path.name for path in tmp_path.glob("draw_*")] == ["draw_1"]


def test_obtain_test_set_when_a_redraw_was_interrupted_then_its_files_are_replaced(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """A folder that no manifest names is no draw; nothing of it gets into the next one."""
    obtain_test_set(records, tmp_path)
    for leftover in ("draw_2", "draw_2.partial"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "stale").touch()
    stored = obtain_test_set(records, tmp_path, seed=2, redraw=True)
    assert stored.folder.name == "draw_2"
    assert not (stored.folder / "stale").exists()


def _interrupt(path: Path) -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize("bad_id", ["two words", "a\ttab", "a\nbreak", ""])
def test_obtain_test_set_when_an_id_breaks_fasta_then_names_it(
    records: pd.DataFrame, tmp_path: Path, bad_id: str
) -> None:
    """A header is read up to its first white space, so such an id would come back as another."""
    records["id"] = pd.Series([*records["id"][:-1], bad_id], dtype="str")
    with pytest.raises(DataError, match="cannot stand in a FASTA header"):
        obtain_test_set(records, tmp_path, test_fraction="0.999")
    assert not (tmp_path / "manifest.json").exists()
