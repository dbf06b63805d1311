"""What an entry of [data] stands for, told by names; and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.read import find_sources, read_records
from harness.errors import MissingInput

# An open frame of 30 bases, with a stop in none.
GENOME = ">NC_1.1 made up\n" + "GCTGCAGCCGCGGCTGCAGCCGCGGCTGCA\n"


def write_chunks(folder: Path, name: str, n_chunks: int = 2) -> None:
    """Write a FASTA pair in chunks, as VirNucPro's tools leave it."""
    for kind, sequence in (("nucleotide", "ATGAAA"), ("protein", "MK")):
        (folder / f"{name}_{kind}").mkdir(parents=True)
        for number in range(1, n_chunks + 1):
            text = f">{name}.1_chunk_{number}F1\n{sequence}\n"
            (folder / f"{name}_{kind}" / f"output_{number}.fa").write_text(text)


def kinds(entry: Path) -> list[tuple[str, list[str]]]:
    """Return the kind of each source, and the names of its files."""
    found, _ = find_sources(entry)
    return [(source.kind, [file.name for file in source.files]) for source in found]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return a folder with one of each."""
    write_chunks(tmp_path, "c")
    for kind in ("nucleotide", "protein"):
        (tmp_path / f"p_{kind}.fa").touch()
    for name in ("a.GBK.gz", "a.fna.gz", "g.fna", "t.parquet", "notes.txt", "._g.fna"):
        (tmp_path / name).touch()
    return tmp_path


def test_folder_then_everything_in_it_is_sorted_out(lab: Path) -> None:
    """A sequence beside its annotation is not read twice; what is nothing is named, once."""
    assert kinds(lab) == [
        ("genbank", ["a.GBK.gz"]),
        ("pair", ["output_1.fa", "output_1.fa"]),
        ("pair", ["output_2.fa", "output_2.fa"]),
        ("genome", ["g.fna"]),
        ("pair", ["p_nucleotide.fa", "p_protein.fa"]),
        ("table", ["t.parquet"]),
    ]
    _, notes = find_sources(lab)
    assert [note.rpartition("/")[2] for note in notes] == ["a.fna.gz", "notes.txt"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("p", [("pair", ["p_nucleotide.fa", "p_protein.fa"])]),
        ("p_protein.fa", [("pair", ["p_nucleotide.fa", "p_protein.fa"])]),
        ("p_*.fa", [("pair", ["p_nucleotide.fa", "p_protein.fa"])]),
        ("c", [("pair", ["output_1.fa", "output_1.fa"]), ("pair", ["output_2.fa", "output_2.fa"])]),
        ("c_protein/output_1.fa", [("pair", ["output_1.fa", "output_1.fa"])]),
        ("c_nucleotide/*_1.fa", [("pair", ["output_1.fa", "output_1.fa"])]),
        ("*.fna", [("genome", ["g.fna"])]),
    ],
)
def test_entry_of_any_form_then_its_files(
    lab: Path, entry: str, expected: list[tuple[str, list[str]]]
) -> None:
    """A prefix, one half, a glob, chunks."""
    assert kinds(lab / entry) == expected


def test_chunks_of_a_file_that_is_there_whole_then_passed_over(tmp_path: Path) -> None:
    """Their records would all stand there twice."""
    write_chunks(tmp_path, "c", n_chunks=1)
    for kind in ("nucleotide", "protein"):
        (tmp_path / f"c_{kind}.fa").touch()

    assert kinds(tmp_path) == [("pair", ["c_nucleotide.fa", "c_protein.fa"])]


@pytest.mark.parametrize("entry", ["nothing", "*.gb", "empty"])
def test_entry_without_anything_then_the_refusal_says_what_is_taken(
    tmp_path: Path, entry: str
) -> None:
    """Nobody has to guess twice."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(MissingInput) as refused:
        find_sources(tmp_path / entry)
    assert "Taken are FASTA pairs" in refused.value.remedy


def test_genome_without_annotation_then_each_open_frame_is_a_record(tmp_path: Path) -> None:
    """As VirNucPro predicts; the summary says that it does not train so."""
    write_chunks(tmp_path, "c")
    (tmp_path / "genome.fna").write_text(GENOME)

    found = read_records([tmp_path / "genome.fna"], [tmp_path / "c"])

    ids = found.records["id"][found.records["label"] == 1].tolist()
    assert ids == [f"NC_1.1_chunk_1{frame}" for frame in ("F1", "F2", "F3", "R1", "R2", "R3")]
    assert any("no annotation, so each of 6 frames" in note for note in found.notes)
