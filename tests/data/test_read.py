"""Reading records: pairs, labels, taxonomy, and what becomes of rows that cannot be records."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.read import read_records
from harness.data.record_set import RecordSet
from harness.data.records import check_records
from harness.errors import DataError, MissingInput
from harness.progress import Progress

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


def write_good(folder: Path, name: str, n_rows: int = 2) -> Path:
    """Write a pair of good records and return its prefix."""
    ids = [f"{name}.1_chunk_{row}F1" for row in range(1, n_rows + 1)]
    return write_pair(folder, name, [(i, "ATGAAA") for i in ids], [(i, "MK") for i in ids])


def rejects(record_set: RecordSet) -> list[tuple[str, int, str, str]]:
    """Return the rejected rows, with the file's name alone."""
    rows = record_set.rejected.itertuples(index=False, name=None)
    return [(Path(source).name, row, name, reason) for source, row, name, reason in rows]


def test_two_lists_then_a_valid_table_with_labels_and_origins(tmp_path: Path) -> None:
    """The list gives the label; the id gives accession, window and frame."""
    viral, other = write_good(tmp_path, "v"), write_good(tmp_path, "b", n_rows=1)
    records = read_records([viral], [str(other)]).records
    check_records(records)
    assert list(records.itertuples(index=False, name=None)) == [
        ("v.1_chunk_1F1", "ATGAAA", "MK", 1, "v.1", 1, "F1", "", "", "v.1"),
        ("v.1_chunk_2F1", "ATGAAA", "MK", 1, "v.1", 2, "F1", "", "", "v.1"),
        ("b.1_chunk_1F1", "ATGAAA", "MK", 0, "b.1", 1, "F1", "", "", "b.1"),
    ]


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("NC_029549.1_chunk_3R2", ("NC_029549.1", 3, "R2")),
        ("a_chunk_b_chunk_12F3", ("a_chunk_b", 12, "F3")),
        ("gi|29|ref|NC_1.1|_chunk_2F1", ("gi|29|ref|NC_1.1|", 2, "F1")),
        ("NC_1.1_chunk_3R4", ("NC_1.1", -1, "")),
        ("NC_1.1_chunk_99999999999F1", ("NC_1.1", -1, "")),
        ("NC_1.1", ("NC_1.1", -1, "")),
        ("_chunk_1F1", ("_chunk_1F1", -1, "")),
    ],
)
def test_id_of_any_form_then_accession_window_and_frame(
    tmp_path: Path, name: str, origin: tuple[str, int, str]
) -> None:
    """An id of another form gives its text before '_chunk_', or all of it."""
    prefix = write_pair(tmp_path, "v", [(name, "ATG")], [(name, "M")])
    (row,) = read_records([prefix], []).records.itertuples()
    assert (row.accession, row.window, row.frame) == origin


def test_taxonomy_then_joined_and_unknown_accessions_counted(tmp_path: Path) -> None:
    """An accession that the taxonomy lacks is no error, but the summary says so."""
    viral, other = write_good(tmp_path, "v"), write_good(tmp_path, "b")
    taxonomy = tmp_path / "taxonomy.tsv"
    taxonomy.write_text("v.1\tMicroviridae\tGCF_1\tphage\n")
    record_set = read_records([viral], [other], taxonomy=taxonomy)
    check_records(record_set.records)
    assert list(record_set.records["lineage"]) == ["Microviridae"] * 2 + [""] * 2
    assert list(record_set.records["genome"]) == ["GCF_1"] * 2 + ["b.1"] * 2
    assert record_set.unknown_accessions == 1
    assert "accessions that the taxonomy does not hold: 1" in record_set.summarise()


@pytest.mark.parametrize(
    ("nucleotides", "protein", "reason"),
    [
        ("", "MK", "empty nucleotides"),
        ("ATGAAN", "MK", "bases other than A, C, G, T"),
        ("AUG-AA", "MK", "bases other than A, C, G, T"),
        ("ATGAAA", "", "empty protein"),
        ("ATGAAA", "*", "empty protein"),
        ("ATGAAA", "M*K", "stop inside the protein"),
        ("ATGAAA", "MK**", "stop inside the protein"),
        ("ATGAAA", "M-K", "a character in the protein that is no residue"),
        ("ATGAAA", "M1", "a character in the protein that is no residue"),
        ("", "", "empty nucleotides"),
    ],
)
def test_row_with_a_fault_then_rejected_with_its_reason(
    tmp_path: Path, nucleotides: str, protein: str, reason: str
) -> None:
    """The other rows stay."""
    prefix = write_pair(
        tmp_path, "v", [("a", "ATG"), ("b", nucleotides)], [("a", "M"), ("b", protein)]
    )
    record_set = read_records([prefix], [], max_reject_share=ALL)
    assert list(record_set.records["id"]) == ["a"]
    assert rejects(record_set) == [("v_nucleotide.fa", 2, "b", reason)]


def test_protein_with_a_stop_at_its_end_then_accepted_without_it(tmp_path: Path) -> None:
    """Many tools end a protein with a star; the other rows are as they were."""
    prefix = write_pair(tmp_path, "v", [("a", "ATG"), ("b", "ATG")], [("a", "MX*"), ("b", "M")])
    assert list(read_records([prefix], []).records["protein"]) == ["MX", "M"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("a\u202eb", r"a\u202eb"),
        ("a\x00", r"a\x00"),
        ("", ""),
        ("x" * 300, "x" * 255),
    ],
)
def test_unusable_id_then_rejected_and_shown_safely(tmp_path: Path, name: str, shown: str) -> None:
    """Control characters reach neither the terminal nor the CSV file."""
    prefix = write_pair(tmp_path, "v", [(name, "ATG"), ("a", "ATG")], [(name, "M"), ("a", "M")])
    record_set = read_records([prefix], [], max_reject_share=ALL)
    ((_, row, found, reason),) = rejects(record_set)
    assert (row, found) == (1, shown)
    assert reason.startswith("unusable id")


def test_halves_without_partner_then_rejected_either_way(tmp_path: Path) -> None:
    """Each half is listed with its own file and place; the others are paired by id."""
    prefix = write_pair(
        tmp_path,
        "v",
        [("a", "ATG"), ("only-dna", "ATG"), ("b", "AAA")],
        [("b", "K"), ("only-protein", "M"), ("a", "M")],
    )
    record_set = read_records([prefix], [], max_reject_share=ALL)
    records = record_set.records
    assert list(zip(records["id"], records["nucleotides"], records["protein"], strict=True)) == [
        ("a", "ATG", "M"),
        ("b", "AAA", "K"),
    ]
    assert rejects(record_set) == [
        ("v_nucleotide.fa", 2, "only-dna", "no protein record with this id"),
        ("v_protein.faa", 2, "only-protein", "no nucleotide record with this id"),
    ]


def test_identical_rows_then_the_first_is_kept(tmp_path: Path) -> None:
    """A record that was written twice counts once."""
    prefix = write_pair(tmp_path, "v", [("a", "ATG")] * 2, [("a", "M")] * 2)
    record_set = read_records([prefix], [], max_reject_share=ALL)
    assert len(record_set.records) == 1
    assert rejects(record_set) == [("v_nucleotide.fa", 2, "a", "duplicate id")]


def test_duplicated_headers_in_another_order_then_paired_in_turn(tmp_path: Path) -> None:
    """The n-th nucleotides of an id belong to its n-th protein; differing rows are all refused."""
    prefix = write_pair(
        tmp_path,
        "v",
        [("a", "ATG"), ("b", "ATG"), ("a", "AAA")],
        [("b", "M"), ("a", "M"), ("a", "K")],
    )
    record_set = read_records([prefix], [], max_reject_share=ALL)
    assert list(record_set.records["id"]) == ["b"]
    assert rejects(record_set) == [
        ("v_nucleotide.fa", 1, "a", "one id with two sequences"),
        ("v_nucleotide.fa", 3, "a", "one id with two sequences"),
    ]


def test_one_id_with_two_labels_then_both_rows_are_rejected(tmp_path: Path) -> None:
    """Which label is right cannot be told, so neither row is used."""
    viral = write_pair(tmp_path, "v", [("a", "ATG"), ("b", "ATG")], [("a", "M"), ("b", "M")])
    other = write_pair(tmp_path, "o", [("a", "ATG")], [("a", "M")])
    record_set = read_records([viral], [other], max_reject_share=ALL)
    assert list(record_set.records["id"]) == ["b"]
    assert rejects(record_set) == [
        ("v_nucleotide.fa", 1, "a", "one id with two labels"),
        ("o_nucleotide.fa", 1, "a", "one id with two labels"),
    ]


halves = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "é\x07"]), st.sampled_from(["ATG", "AAN", "", "AAA"])
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=20)
@given(inputs=st.lists(st.tuples(halves, halves, st.booleans()), min_size=1, max_size=3))
def test_every_row_in_then_a_record_or_rejected(
    tmp_path_factory: pytest.TempPathFactory,
    inputs: list[tuple[list[Half], list[Half], bool]],
) -> None:
    """Records and rejects together are all nucleotide rows, and all proteins left over."""
    folder = tmp_path_factory.getbasetemp()
    prefixes = [
        (write_pair(folder, f"p{number}", dna, protein), is_viral)
        for number, (dna, protein, is_viral) in enumerate(inputs)
    ]
    record_set = read_records(
        [prefix for prefix, is_viral in prefixes if is_viral],
        [prefix for prefix, is_viral in prefixes if not is_viral],
        max_reject_share=ALL,
    )
    check_records(record_set.records)
    left_over = sum(
        (Counter(name for name, _ in protein) - Counter(name for name, _ in dna)).total()
        for dna, protein, _ in inputs
    )
    is_protein = record_set.rejected["source"].str.endswith("_protein.faa")
    assert is_protein.sum() == left_over
    assert len(record_set.records) + (~is_protein).sum() == sum(len(dna) for dna, _, _ in inputs)
    assert not record_set.rejected.duplicated(["source", "row"]).any()


@settings(max_examples=10)
@given(dna=st.permutations(["a", "b", "c", "c"]), protein=st.permutations(["a", "b", "c", "d"]))
def test_order_of_rows_then_changes_no_record(
    tmp_path_factory: pytest.TempPathFactory, dna: list[str], protein: list[str]
) -> None:
    """Pairing goes by id alone."""
    folder = tmp_path_factory.getbasetemp()
    sequences = {"a": ("ATG", "M"), "b": ("AAA", "K"), "c": ("TTT", "F"), "d": ("GGG", "G")}
    prefix = write_pair(
        folder,
        "p",
        [(name, sequences[name][0]) for name in dna],
        [(name, sequences[name][1]) for name in protein],
    )
    records = read_records([prefix], [], max_reject_share=ALL).records
    found = {row.id: (row.nucleotides, row.protein) for row in records.itertuples()}
    assert found == {name: sequences[name] for name in "abc"}


def test_packed_and_wrapped_files_then_read_like_plain_ones(tmp_path: Path) -> None:
    """One half may be packed, in lower case, wrapped and with CRLF."""
    (tmp_path / "v_nucleotide.fna.gz").write_bytes(gzip.compress(b">a\r\natg\r\naaa\r\n"))
    (tmp_path / "v_protein.fasta").write_bytes(b">a x\nm\nk")
    (row,) = read_records([tmp_path / "v"], []).records.itertuples()
    assert (row.id, row.nucleotides, row.protein) == ("a", "ATGAAA", "MK")


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
    read_records([write_good(tmp_path, "v")], []).write_rejected(path)
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


def test_progress_then_reaches_the_size_of_the_files(tmp_path: Path) -> None:
    """The bar counts the megabytes of all files."""
    stream, prefix = io.StringIO(), write_good(tmp_path, "v")
    read_records([prefix], [], progress=Progress(stream))
    n_bytes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert stream.getvalue().startswith(f"reading records: {n_bytes / 1e6:g} MB")


def test_input_named_twice_then_error_names_it(tmp_path: Path) -> None:
    """The same files in both lists would make every row doubtful."""
    prefix = write_good(tmp_path, "v")
    with pytest.raises(DataError, match="v is named 2 times"):
        read_records([prefix], [tmp_path / "x" / ".." / "v"])


def test_no_input_then_value_error() -> None:
    """Nothing to read is a mistake of the caller."""
    with pytest.raises(ValueError, match="at least one input"):
        read_records([], [])


def test_missing_pair_then_missing_input(tmp_path: Path) -> None:
    """A wrong prefix halts with the names that were looked for."""
    with pytest.raises(MissingInput, match=r"looked for v_nucleotide\.fa"):
        read_records([tmp_path / "v"], [])


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
    """What the table knows stays, and tables and pairs may stand side by side."""
    taxonomy = tmp_path / "taxonomy.tsv"
    taxonomy.write_text("v.1\tMicroviridae\tGCF_1\tphage\n")
    records = read_records([write_good(tmp_path, "v")], [], taxonomy=taxonomy).records
    records.to_parquet(tmp_path / "v.parquet")
    again = read_records([tmp_path / "v.parquet"], [write_good(tmp_path, "b")]).records
    pd.testing.assert_frame_equal(again[again["label"] == 1], records)


def test_table_with_missing_values_then_their_rows_are_rejected(tmp_path: Path) -> None:
    """A null is not a sequence, and an id with a space could not stand in FASTA."""
    table = write_table(
        tmp_path / "x.parquet", id=["a b", "b"], nucleotides=["ATG", None], protein=["M", "K"]
    )
    record_set = read_records([table], [], max_reject_share=ALL)
    assert [reject[2:] for reject in rejects(record_set)] == [
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


def test_link_to_itself_then_error_names_it(tmp_path: Path) -> None:
    """A broken link is found before anything is read."""
    prefix = write_good(tmp_path, "v")
    link = tmp_path / "v_protein.faa"
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(DataError, match=r"v_protein\.faa: cannot be read: Too many levels"):
        read_records([prefix], [])
