"""The test set on disk: written once, used again, and never silently redrawn."""

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.data import testset
from harness.data.fasta import read_fasta
from harness.data.records import RECORD_COLUMNS
from harness.data.testset import obtain_test_set, read_test_ids
from harness.data.virnucpro import write_merged
from harness.errors import ArtifactError, DataError, MissingInput

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
    assert len(stored.split.validation) == 16  # of 72 in the training part; genomes have 8 rows


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


@pytest.mark.parametrize("unit", ["genome", "lineage"])
def test_obtain_test_set_when_another_taxonomy_divides_its_units_then_refuses(
    records: pd.DataFrame, tmp_path: Path, unit: str
) -> None:
    """What was drawn whole must be whole by what is known now; by record nothing changes."""
    stored = obtain_test_set(records, tmp_path / unit, sampling_unit=unit)
    obtain_test_set(records, tmp_path / "record")
    one = records.assign(genome="assembly 1", lineage="Lineage viridae")
    two = records.assign(genome=np.where(records["accession"] < "NC_5", "low", "high"))

    with pytest.raises(ArtifactError, match=f"of its {unit}s are in the training part, too"):
        obtain_test_set(one, tmp_path / unit, sampling_unit=unit)
    redrawn = obtain_test_set(two, tmp_path / unit, sampling_unit=unit, redraw=True)
    assert redrawn.split.id_digests() != stored.split.id_digests()
    assert obtain_test_set(one, tmp_path / "record").is_reused


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


def test_obtain_test_set_when_ids_are_brought_then_they_are_the_test_set(
    records: pd.DataFrame, tmp_path: Path
) -> None:
    """Whatever their share; the manifest says so, and another set is refused beside it."""
    brought = records["id"].iloc[:31]

    stored = obtain_test_set(records, tmp_path, test_ids=brought)

    assert stored.split.test.tolist() == sorted(brought)
    assert [count.n_test == count.target_test for count in stored.split.counts] == [True, True]
    assert _manifest(tmp_path)["brought"] is True
    again = obtain_test_set(records, tmp_path, test_ids=brought.iloc[::-1])
    assert (again.is_reused, again.split.is_brought) == (True, True)
    with pytest.raises(ArtifactError, match="another test set stands there"):
        obtain_test_set(records, tmp_path)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["x", "NC_0.1_chunk_0F1"], "1 of 2 ids .* are no records, such as 'x'"),
        (["NC_0.1_chunk_0F1"], "no record of label 1"),
    ],
)
def test_obtain_test_set_when_brought_ids_cannot_be_one_then_says_why(
    records: pd.DataFrame, tmp_path: Path, ids: list[str], words: str
) -> None:
    """Strangers, and a class that would be absent."""
    with pytest.raises(DataError, match=words):
        obtain_test_set(records, tmp_path, test_ids=pd.Series(ids))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "# mine\na\nb\n\na\n"),
        ("ids.csv", "label,id\n1,a\n0,b\n"),
        ("ids.fa", ">a x\nAC\n>b\nAC\n"),
        ("test_set/viral_nucleotide.fa", ">a\nAC\n>b\nAC\n"),
    ],
)
def test_test_ids_of_any_form_then_read(tmp_path: Path, name: str, content: str) -> None:
    """A list, a table's column, FASTA, a folder of it; each id once."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)

    named = path.parent if path.parent != tmp_path else path
    assert read_test_ids(named).tolist() == ["a", "b"]


def test_test_ids_of_virnucpro_then_the_first_tenth_of_its_own_shuffle(tmp_path: Path) -> None:
    """Its folder of viruses comes first, then the others by name; files by name, 10 before 2."""
    for folder, names in {
        "archaea_merged": ["output_1"],
        "viral.1.1_merged": ["output_10", "output_2"],
    }.items():
        for name in names:
            ids = [f"{folder}/{name}/{row}" for row in range(7)]
            path = tmp_path / folder / f"{name}_merged.pt"
            write_merged(path, ids, np.zeros((7, 3), dtype=np.float32))
    listed = [
        f"{file}/{row}"
        for file in (
            "viral.1.1_merged/output_10", "viral.1.1_merged/output_2", "archaea_merged/output_1"
        )
        for row in range(7)
    ]  # fmt: skip
    order = [*range(21)]
    random.seed(42)
    random.shuffle(order)

    found = read_test_ids(tmp_path / "virnucpro", features=tmp_path)

    assert found.tolist() == [listed[number] for number in order[:2]]


def test_test_ids_of_virnucpro_without_its_files_then_says_what_to_name(tmp_path: Path) -> None:
    """Which rows it tested on follows from the files that it merged."""
    with pytest.raises(MissingInput, match=r"needs the merged files that train\.py read"):
        read_test_ids(tmp_path / "virnucpro")
