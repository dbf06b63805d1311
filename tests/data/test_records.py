"""Windows, frames and the rule that makes a frame a record.

What is said about the rows that were read: the limit of rejects, the list, the summary.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from Bio.Seq import reverse_complement, translate
from hypothesis import given
from hypothesis import strategies as st

from harness.data.read import read_records
from harness.data.records import (
    GENETIC_CODE,
    Fragment,
    cut_windows,
    extract_fragments,
    parse_record_id,
)
from harness.errors import DataError

# mypy: untyped-calls-exclude=Bio
# (Biopython ships no types)


LENGTH = 20  # nucleotides: short windows, so that open frames are common

genomes = st.text("ACGT", max_size=130)
proteins = st.lists(st.text("ACDEFGHIKLMNPQRSTVWY*", max_size=30), max_size=4)


def six_frames(sequence: str) -> list[str]:
    """Translate a sequence in all frames, so that every open frame of a window is annotated."""
    strands = sequence, reverse_complement(sequence)
    return [
        translate(strand[offset : offset + (len(strand) - offset) // 3 * 3], table=GENETIC_CODE)
        for strand in strands
        for offset in range(3)
    ]


def fragments_of(genome: str, annotated: Sequence[str]) -> list[Fragment]:
    """Prepare a genome of one contig in short windows."""
    return list(extract_fragments({"NC_1.1": genome}, annotated, length=LENGTH))


@given(genomes, st.integers(5, 40))
def test_windows_when_joined_then_are_the_genome_without_its_last_piece(
    genome: str, length: int
) -> None:
    """Windows tile the genome, numbered from 1."""
    windows = list(cut_windows(genome, length=length))
    assert [number for number, _ in windows] == list(range(1, len(genome) // length + 1))
    assert "".join(window for _, window in windows) == genome[: len(windows) * length]


@given(st.text("ACGTacgtNnRU", max_size=60))
def test_windows_when_a_base_is_ambiguous_then_only_that_window_is_missing(genome: str) -> None:
    """A window is kept, upper-case, exactly if it holds nothing but A, C, G and T."""
    pieces = {start // 5 + 1: genome[start : start + 5] for start in range(0, len(genome) - 4, 5)}
    expected = {number: piece.upper() for number, piece in pieces.items() if set(piece) <= BASES}
    assert dict(cut_windows(genome, length=5)) == expected


BASES = set("ACGTacgt")


def test_windows_when_length_is_not_given_then_are_500_bp() -> None:
    """VirNucPro's window is the default."""
    assert [len(window) for _, window in cut_windows("A" * 1499)] == [500, 500]


def test_windows_when_too_short_for_a_codon_in_each_frame_then_raise() -> None:
    """A window of four bases has no codon in its third frame."""
    with pytest.raises(ValueError, match="at least 5, got 4"):
        list(cut_windows("ACGTACGT", length=4))


@given(genomes)
def test_fragment_when_translated_then_is_its_protein(genome: str) -> None:
    """A fragment's nucleotides are whole codons without a stop, and its protein their meaning."""
    for fragment in fragments_of(genome, six_frames(genome)):
        assert translate(fragment.nucleotides, table=GENETIC_CODE) == fragment.protein
        assert len(fragment.nucleotides) == 3 * len(fragment.protein) >= LENGTH - 4


@given(genomes)
def test_fragments_when_the_genome_is_reversed_then_change_strand_only(genome: str) -> None:
    """Reverse-complementing a genome of whole windows turns F frames into R frames."""
    whole = genome[: len(genome) // LENGTH * LENGTH]
    annotated, last = six_frames(whole), len(whole) // LENGTH
    mirrored = {
        (last + 1 - each.id.window, each.id.frame.translate(SWAP), each.nucleotides)
        for each in fragments_of(reverse_complement(whole), annotated)
    }
    assert mirrored == {
        (each.id.window, each.id.frame, each.nucleotides) for each in fragments_of(whole, annotated)
    }


SWAP = str.maketrans("FR", "RF")


@given(genomes, proteins)
def test_fragments_when_searched_at_once_then_are_those_found_one_by_one(
    genome: str, annotated: list[str]
) -> None:
    """Joining the proteins for the search neither loses a match nor invents one."""
    chosen = [*annotated, *six_frames(genome)[::2]]
    every = fragments_of(genome, six_frames(genome))
    expected = [each for each in every if any(each.protein in protein for protein in chosen)]
    assert fragments_of(genome, chosen) == expected


@given(genomes)
def test_fragment_id_when_parsed_then_says_where_it_lies(genome: str) -> None:
    """The id leads back to the frame's place in the genome."""
    for fragment in fragments_of(genome, six_frames(genome)):
        place = parse_record_id(str(fragment.id))
        assert place is not None
        window = genome[(place.window - 1) * LENGTH : place.window * LENGTH]
        strand = window if place.frame[0] == "F" else reverse_complement(window)
        assert strand[int(place.frame[1]) - 1 :].startswith(fragment.nucleotides)


def test_fragments_when_frames_are_named_then_follow_strand_and_offset() -> None:
    """F2 starts at the window's second base, R1 at the last base's complement."""
    window = "CAAACCCAAACCCAAACCCA"
    found = {each.id.frame: each.nucleotides for each in fragments_of(window, six_frames(window))}
    assert found["F2"] == "AAACCCAAACCCAAACCC"
    assert found["R1"] == "TGGGTTTGGGTTTGGGTT"
    assert list(found) == sorted(found)


@pytest.mark.parametrize(("codon", "residue"), [("TAA", "*"), ("TAG", "*"), ("TGA", "W")])
def test_fragments_when_a_frame_has_a_stop_then_leave_it_out(codon: str, residue: str) -> None:
    """A stop of code 11 ends a protein, whatever the annotation says or another code would."""
    assert fragments_of(f"AAA{codon}AAAAAAAAAAAAAA", [f"K{residue}KKKK"]) == []


def test_fragments_when_a_frame_spans_two_proteins_then_leave_it_out() -> None:
    """The end of one protein and the start of the next are not a protein."""
    genome = "AAAAAACCCCCCGGGGGG" + "TA"
    assert [each.protein for each in fragments_of(genome, ["KKPPGG"])] == ["KKPPGG"]
    assert fragments_of(genome, ["KKP", "PGG"]) == []


def test_fragments_when_the_protein_lies_on_another_contig_then_are_kept() -> None:
    """Proteins are those of the genome, not of the contig."""
    contigs = {"A.1": "C" * LENGTH, "B.1": "A" * LENGTH}
    found = extract_fragments(contigs, ["K" * 6], length=LENGTH)
    assert {str(each.id) for each in found} == {f"B.1_chunk_1F{frame}" for frame in (1, 2, 3)}


def test_fragments_when_nothing_is_annotated_then_are_none() -> None:
    """A genome without proteins gives no records."""
    assert fragments_of("A" * LENGTH, []) == []


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
