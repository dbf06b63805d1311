"""What is said about the rows that were read: the limit of rejects, the list, the summary."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from harness.data.read import read_records
from harness.errors import DataError

Half = tuple[str, str]  # id and sequence
ALL = Fraction(1)


def write_fasta(path: Path, halves: Sequence[Half]) -> None:
    """Write records to a plain FASTA file."""
    path.write_text("".join(f">{name}\n{text}\n" for name, text in halves), encoding="utf-8")


def write_pair(
    folder: Path, name: str, nucleotides: Sequence[Half], proteins: Sequence[Half]
) -> Path:
    """Write a FASTA pair and return its prefix."""
    write_fasta(folder / f"{name}_nucleotide.fa", nucleotides)
    write_fasta(folder / f"{name}_protein.faa", proteins)
    return folder / name


def test_rejects_at_the_limit_then_accepted_and_over_it_refused(tmp_path: Path) -> None:
    """The share is compared exactly: 1 of 100 is 1%, 1 of 99 is more."""
    ids = [f"a_chunk_{row}F1" for row in range(99)]
    bad = [("bad", "NNN")]
    for name, n_good in (("at", 99), ("over", 98)):
        good = ids[:n_good]
        write_pair(
            tmp_path, name, [(i, "ATG") for i in good] + bad, [(i, "M") for i in [*good, "bad"]]
        )
    assert len(read_records([tmp_path / "at"], []).rejected) == 1
    with pytest.raises(
        DataError, match=r"1 of 99 rows \(1\.010%; bases other than A, C, G, T: 1\)"
    ):
        read_records([tmp_path / "over"], [])


def test_rejects_over_the_limit_then_error_gives_an_example(tmp_path: Path) -> None:
    """The file, the row and the id of one reject are named."""
    prefix = write_pair(tmp_path, "v", [("a|<b>", "NNN")], [("a|<b>", "M")])
    with pytest.raises(DataError, match=r"v_nucleotide\.fa, record 1, id 'a\|<b>': bases other"):
        read_records([prefix], [])


def test_rejected_rows_written_then_a_csv_file_that_any_reader_takes(tmp_path: Path) -> None:
    """Commas, quotes and HTML in ids survive."""
    name = 'a,"<b>"'
    prefix = write_pair(tmp_path, "v", [(name, "NNN"), ("b", "ATG")], [(name, "M"), ("b", "M")])
    path = tmp_path / "rejected.csv"
    read_records([prefix], [], max_reject_share=ALL).write_rejected(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["source", "row", "id", "reason"]
    assert rows[1] == [f"{prefix}_nucleotide.fa", "1", name, "bases other than A, C, G, T"]


def test_no_rejected_rows_written_then_a_header_alone(tmp_path: Path) -> None:
    """An empty list is a file as well."""
    path = tmp_path / "rejected.csv"
    prefix = write_pair(tmp_path, "v", [("a", "ATG")], [("a", "M")])
    read_records([prefix], []).write_rejected(path)
    assert path.read_text() == "source,row,id,reason\n"


def test_summary_then_counts_lengths_lineages_and_rejects(tmp_path: Path) -> None:
    """What `harness prepare` prints."""
    ids = [f"a{row}" for row in range(7)]
    dna = [(i, "ATG" * (row + 1)) for row, i in enumerate(ids)]
    viral = write_pair(tmp_path, "v", [*dna, ("bad", "N")], [(i, "M") for i in [*ids, "bad"]])
    taxonomy = tmp_path / "taxonomy.tsv"
    taxonomy.write_text("".join(f"{i}\tfam{min(row, 5)}\n" for row, i in enumerate(ids)))
    record_set = read_records([viral], [], taxonomy=taxonomy, max_reject_share=ALL)
    assert record_set.summarise() == (
        "records: 7 (7 viral, 0 not viral) of 7 genomes",
        "nucleotides: 3 to 21 bases, median 12",
        "proteins: 1 to 1 residues, median 1",
        "lineages, viral: 6 (fam5 2, fam0 1, fam1 1, fam2 1, fam3 1, ...)",
        "lineages, not viral: unknown",
        "rejected: 1 of 8 rows (12.500%; bases other than A, C, G, T: 1)",
    )


def test_summary_without_any_record_then_still_written(tmp_path: Path) -> None:
    """Input of which nothing is left can be looked at too."""
    prefix = write_pair(tmp_path, "v", [("a", "N")], [("a", "M")])
    lines = read_records([prefix], [], max_reject_share=ALL).summarise()
    assert lines[:2] == ("records: 0 (0 viral, 0 not viral) of 0 genomes", "nucleotides: none")
