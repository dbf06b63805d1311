"""Taxonomies from tables and GenBank files, and joining them to rows."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from harness.data.taxonomy import TAXONOMY_COLUMNS, join_taxonomy, read_taxonomy
from harness.errors import DataError, MissingInput

GENBANK = """\
LOCUS       {name}                  4 bp    DNA     linear   PHG 06-JUL-2018
ACCESSION   {name}
VERSION     {name}.1
SOURCE      a phage
  ORGANISM  a phage
            Viruses; Straboviridae; Tequatrovirus.
FEATURES             Location/Qualifiers
ORIGIN
        1 acgt
//
"""


def read(folder: Path, content: bytes) -> list[tuple[str, ...]]:
    """Write the content to a file and return the rows read from it."""
    path = folder / "taxonomy.tsv"
    path.write_bytes(content)
    return list(read_taxonomy(path).itertuples(index=False, name=None))


@pytest.mark.parametrize(
    "content",
    [
        b"NC_1.1\tMicroviridae\nNC_2.1\tT4-like\tGCF_1\tphage\n",
        b"accession\tlineage\tgenome\tsource_kind\nNC_1.1\tMicroviridae\nNC_2.1\tT4-like\tGCF_1\tphage",
        b"\xef\xbb\xbfNC_1.1\tMicroviridae\r\n\r\nNC_2.1\tT4-like\tGCF_1\tphage\r\n",
        b"# from NCBI\nNC_1.1 \t Microviridae\t\t\nNC_2.1\tT4-like\tGCF_1\tphage\n",
        b"NC_1.1\tMicroviridae\nNC_1.1\tMicroviridae\nNC_2.1\tT4-like\tGCF_1\tphage\n",
        gzip.compress(b"NC_1.1\tMicroviridae\nNC_2.1\tT4-like\tGCF_1\tphage\n"),
        b"#note\nsource_kind\tgenome\taccession\tx\tlineage\n\t\tNC_1.1\t0\tMicroviridae\n"
        b"phage\tGCF_1\tNC_2.1\t0\tT4-like\n",
        b'Accession,Assembly,Lineage,source kind\n"NC_1.1","","Microviridae"\n'
        b'NC_2.1,GCF_1,"T4-like",phage\n',
        b"#accession.version\tlineage\tassembly\tsource_kind\nNC_1.1\tMicroviridae\n"
        b'NC_2.1\t"T4-like"\tGCF_1\tphage\n',
    ],
    ids=["plain", "header", "crlf", "comment", "repeated", "gzip", "named", "csv", "hash-header"],
)
def test_table_of_any_layout_then_same_rows(tmp_path: Path, content: bytes) -> None:
    """Order under a header, comments, quotes, line ends, blanks and equal lines change nothing."""
    expected = [("NC_1.1", "Microviridae", "", ""), ("NC_2.1", "T4-like", "GCF_1", "phage")]
    assert read(tmp_path, content) == expected


def test_lineage_of_several_taxa_then_one_stands_for_it(tmp_path: Path) -> None:
    """A lineage copied whole is reduced as in GenBank files."""
    content = b"a\tViruses; Monodnaviria; Microviridae; Sinsheimervirus\nb\tBacteria;Mollicutes; \n"
    assert [row[1] for row in read(tmp_path, content)] == ["Microviridae", "Mollicutes"]


def test_accession_that_begins_like_a_header_then_kept_below_the_first_line(
    tmp_path: Path,
) -> None:
    """Only the first line can be a header."""
    content = b"accession\tlineage\naccession7\tMicroviridae\n"
    assert read(tmp_path, content) == [("accession7", "Microviridae", "", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the taxonomy is empty; expected accession <TAB> lineage"),
        (b"accession\tlineage\n", "the taxonomy is empty"),
        (b"a\tx\nNC_1.1 Microviridae\n", r"line 2: expected accession <TAB> .* 'NC_1\.1 Micro"),
        (b"a\tb\tc\td\te\n", "line 1: expected accession"),
        (b"\tMicroviridae\n", "line 1: expected accession"),
        (b"a\tx\nb\ty\na\tz\n", r"'a' stands for \('x', '', ''\) and for \('z', '', ''\)"),
        (b"a\t\x1b[31mred\n", "control characters in the entry of 'a'"),
        (b"a\t\xff\n", "must be UTF-8"),
        (
            b"accession\tgenome\nNC_1.1\tGCF_1\n",
            "columns accession, genome none is called lin",
        ),
        (b"name\tlineage\nNC_1.1\tx\n", "of the columns name, lineage none is called accession"),
        (b"accession\taccession.version\ttaxid\tgi\nNC_1\tNC_1.1\t10841\t0\n", "names of the taxa"),
        (b"NC_1\tNC_1.1\t10841\t0\n", "line 1: 'NC_1.1' is no lineage.* names of the taxa"),
        (b"NC_1.1\t10841\n", "line 1: '10841' is no lineage"),
        (b"\x1f\x8bjunk", "damaged or cut short"),
    ],
)
def test_table_with_a_fault_then_error_says_where(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """What cannot be a taxonomy is refused, with the line."""
    with pytest.raises(DataError, match=rf"taxonomy\.tsv.*{message}"):
        read(tmp_path, content)


def test_missing_taxonomy_then_missing_input(tmp_path: Path) -> None:
    """A wrong path is reported as such."""
    with pytest.raises(MissingInput, match="nowhere"):
        read_taxonomy(tmp_path / "nowhere")


def test_folder_of_genbank_files_then_a_row_for_each_entry(tmp_path: Path) -> None:
    """The lineage comes from ORGANISM."""
    for name in ("NC_1", "NC_2"):
        (tmp_path / f"{name}.gb").write_text(GENBANK.format(name=name))
    rows = list(read_taxonomy(tmp_path).itertuples(index=False, name=None))
    assert rows == [
        ("NC_1.1", "Straboviridae", "NC_1.1", "phage"),
        ("NC_2.1", "Straboviridae", "NC_2.1", "phage"),
    ]


def join(taxonomy: list[tuple[str, ...]] | None) -> tuple[dict[str, list[str]], int]:
    """Join a taxonomy to three rows of two accessions, of which one brings its own lineage."""
    columns = {
        "accession": ["a", "b", "a"],
        "lineage": ["", "own", ""],
        "genome": ["", "", ""],
        "source_kind": ["", "", ""],
    }
    rows = pa.table({name: pa.array(text, pa.large_string()) for name, text in columns.items()})
    table = (
        None
        if taxonomy is None
        else pd.DataFrame(taxonomy, columns=list(TAXONOMY_COLUMNS), dtype="str")
    )
    joined, unknown = join_taxonomy(rows, table)
    return joined.to_pydict(), unknown


def test_join_with_a_known_accession_then_its_rows_are_filled(tmp_path: Path) -> None:
    """Unknown accessions keep what they brought, are genomes of their own, and are counted."""
    joined, unknown = join([("a", "fam", "GCF_1", "phage"), ("z", "other", "", "")])
    assert joined["lineage"] == ["fam", "own", "fam"]
    assert joined["genome"] == ["GCF_1", "b", "GCF_1"]
    assert joined["source_kind"] == ["phage", "", "phage"]
    assert unknown == 1


def test_join_when_one_side_has_no_versions_then_accessions_match() -> None:
    """But not where the taxonomy has several versions of the one without."""
    names = ["NC_1.1", "NC_2", "NC_3", "NC_4.1"]
    accession = pa.chunked_array([names], pa.large_string())
    blank = pa.chunked_array([[""] * 4], pa.large_string())
    rows = pa.table(
        {"accession": accession, "lineage": blank, "genome": blank, "source_kind": blank}
    )
    known = {"NC_1": "one", "NC_2.7": "two", "NC_3.1": "three", "NC_3.2": "other", "NC_4.1": "four"}
    table = pd.DataFrame({name: known.values() for name in TAXONOMY_COLUMNS}, dtype="str")
    table["accession"] = pd.Series(list(known), dtype="str")

    joined, unknown = join_taxonomy(rows, table)

    assert joined["lineage"].to_pylist() == ["one", "two", "", "four"]
    assert unknown == 1


def test_join_with_a_table_of_other_accessions_then_error_shows_both_sides() -> None:
    """Under half of the accessions: such a table is another data set's."""
    with pytest.raises(DataError, match=r"0 of 1 accessions.*records have 'a'; .* has 'x', 'y'\."):
        join([("x", "fam", "", ""), ("y", "fam", "", "")])


def test_join_without_a_taxonomy_then_accessions_are_genomes() -> None:
    """Nothing is unknown where nothing was asked."""
    joined, unknown = join(None)
    assert (joined["genome"], joined["lineage"], unknown) == (["a", "b", "a"], ["", "own", ""], 0)
