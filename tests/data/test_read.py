"""Reading records: pairs, labels, taxonomy, and what becomes of rows that cannot be records.

Record tables in Parquet files as input.
"""

from __future__ import annotations

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
from harness.data.records import RecordSet, check_records
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
    assert "lineages, viral: 1 (Microviridae 2)" in record_set.summarise()
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


@pytest.mark.parametrize(
    ("nucleotides", "proteins"), [(("ATG", "ATG"), ("M", "K")), (("ATG", "AAA"), ("M", "M"))]
)
def test_rows_of_one_id_that_differ_in_one_half_then_all_are_rejected(
    tmp_path: Path, nucleotides: tuple[str, str], proteins: tuple[str, str]
) -> None:
    """Nothing says which of them is right."""
    prefix = write_pair(
        tmp_path, "v", [("a", text) for text in nucleotides], [("a", text) for text in proteins]
    )
    record_set = read_records([prefix], [], max_reject_share=ALL)
    assert list(record_set.rejected["reason"]) == ["one id with two sequences"] * 2


def test_one_protein_for_two_nucleotide_rows_then_the_first_gets_it(tmp_path: Path) -> None:
    """The row left over is the later one."""
    prefix = write_pair(tmp_path, "v", [("a", "ATG"), ("a", "AAA")], [("a", "M")])
    record_set = read_records([prefix], [], max_reject_share=ALL)
    assert list(record_set.records["nucleotides"]) == ["ATG"]
    assert rejects(record_set) == [("v_nucleotide.fa", 2, "a", "no protein record with this id")]


def test_id_that_is_not_utf8_then_rejected(tmp_path: Path) -> None:
    """Two such ids might be different and look alike."""
    (tmp_path / "v_nucleotide.fa").write_bytes(b">a\xff\nATG\n")
    (tmp_path / "v_protein.fa").write_bytes(b">a\xff\nM\n")
    ((_, _, name, reason),) = rejects(read_records([tmp_path / "v"], [], max_reject_share=ALL))
    assert name == "a\ufffd"
    assert reason.startswith("unusable id")


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


def test_table_beside_a_pair_then_one_table_of_records(tmp_path: Path) -> None:
    """The kinds of input may be mixed."""
    table = tmp_path / "x.parquet"
    pd.DataFrame({"id": ["t"], "nucleotides": ["ATG"], "protein": ["M"]}).to_parquet(table)
    records = read_records([write_good(tmp_path, "v", n_rows=1)], [table]).records
    check_records(records)
    assert list(zip(records["id"], records["label"], strict=True)) == [
        ("v.1_chunk_1F1", 1),
        ("t", 0),
    ]


def test_packed_and_wrapped_files_then_read_like_plain_ones(tmp_path: Path) -> None:
    """One half may be packed, in lower case, wrapped and with CRLF."""
    (tmp_path / "v_nucleotide.fna.gz").write_bytes(gzip.compress(b">a\r\natg\r\naaa\r\n"))
    (tmp_path / "v_protein.fasta").write_bytes(b">a x\nm\nk")
    (row,) = read_records([tmp_path / "v"], []).records.itertuples()
    assert (row.id, row.nucleotides, row.protein) == ("a", "ATGAAA", "MK")


def test_progress_then_reaches_the_size_of_the_files(tmp_path: Path) -> None:
    """The bar counts the megabytes of all files."""
    stream, prefix = io.StringIO(), write_good(tmp_path, "v")
    read_records([prefix], [], progress=Progress(stream))
    n_bytes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert stream.getvalue().startswith(f"reading records: {n_bytes / 1e6:.3g} MB")


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


def test_link_to_itself_then_error_names_it(tmp_path: Path) -> None:
    """A broken link is found before anything is read."""
    prefix = write_good(tmp_path, "v")
    link = tmp_path / "v_protein.faa"
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(DataError, match=r"v_protein\.faa: cannot be read: Too many levels"):
        read_records([prefix], [])


def write_table(path: Path, **columns: Sequence[object]) -> Path:
    """Write a record table with some columns."""
    defaults = {"id": ["a_chunk_1F1", "b"], "nucleotides": ["atg", "AAA"], "protein": ["M", "k"]}
    table = pd.DataFrame({**defaults, **columns})
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.csv"])
def test_table_whose_proteins_end_in_a_stop_then_it_is_dropped(tmp_path: Path, name: str) -> None:
    """As gene finders write it; a stop inside stays a fault, and a lone one is no protein."""
    ids, proteins = ["a", "b", "c", "d"], ["MK*", "MK", "M*K*", "*"]
    table = write_table(tmp_path / name, id=ids, nucleotides=["ATGAAA"] * 4, protein=proteins)
    record_set = read_records([table], [], max_reject_share=ALL)
    assert record_set.records["protein"].tolist() == ["MK", "MK"]
    assert record_set.rejected["reason"].tolist() == ["stop inside the protein", "empty protein"]


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
    with pytest.raises(DataError, match=r"x\.parquet: not a readable Parquet table"):
        read_records([path], [])
