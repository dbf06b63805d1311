"""FASTA files as tables: every layout that users have, and every broken one."""

from __future__ import annotations

import gzip
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.fasta import check_sequences_beside, find_pair, read_fasta
from harness.data.inputs import size_megabytes
from harness.errors import DataError, MissingInput

EXPECTED = [("a.1_chunk_1F1", "ACGTAC"), ("b", "GGTT")]


def read(folder: Path, content: bytes) -> list[tuple[str, str]]:
    """Write the content to a file and return what is read from it."""
    path = folder / "x.fa"
    path.write_bytes(content)
    table = read_fasta(path)
    return list(zip(table["id"].to_pylist(), table["sequence"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    "content",
    [
        b">a.1_chunk_1F1\nACGTAC\n>b\nGGTT\n",
        b">a.1_chunk_1F1\nACGTAC\n>b\nGGTT",
        b">a.1_chunk_1F1\r\nACGTAC\r\n>b\r\nGGTT\r\n",
        b">a.1_chunk_1F1\rACGTAC\r>b\rGGTT\r",
        b">a.1_chunk_1F1\nacGTac\n>b\nggtt\n",
        b">a.1_chunk_1F1\nACG\nTA\nC\n>b\nGG\nTT\n",
        b"\xef\xbb\xbf\n\n>a.1_chunk_1F1 a phage | <b>x</b>\nACGTAC\n\n\n>b\tmore\n GG TT \n\n",
        gzip.compress(b">a.1_chunk_1F1\nACGTAC\n>b\nGGTT\n"),
    ],
    ids=["plain", "no-end", "crlf", "cr", "lower", "wrapped", "blanks", "gzip"],
)
def test_layout_of_any_kind_then_same_records(tmp_path: Path, content: bytes) -> None:
    """Line ends, case, wrapping, blanks, a byte order mark and gzip change nothing."""
    assert read(tmp_path, content) == EXPECTED


@pytest.mark.parametrize(
    "name", ["gi|29|ref|NC_1.1|_chunk_2F1", "<script>alert(1)</script>", "a,b;c", "é", "a>b"]
)
def test_unusual_id_then_kept_letter_by_letter(tmp_path: Path, name: str) -> None:
    """Pipes, HTML, separators and letters beyond ASCII are part of the id."""
    assert read(tmp_path, f">{name} rest\nAC\n".encode()) == [(name, "AC")]


def test_id_that_is_not_utf8_then_marked(tmp_path: Path) -> None:
    """What cannot be decoded shows as U+FFFD, which the screening refuses."""
    assert read(tmp_path, b">a\xff\nAC\n") == [("a\ufffd", "AC")]


def test_sequence_with_other_bytes_then_cannot_pass_for_letters(tmp_path: Path) -> None:
    """They keep their place, and the screening refuses them."""
    assert read(tmp_path, b">a\nA-C\x00\xc3\xa9*1\n") == [("a", "A-C\0é*1")]


def test_header_only_then_empty_sequence(tmp_path: Path) -> None:
    """A header without a sequence is still a row."""
    assert read(tmp_path, b">a\n>b\nAC\n>\n") == [("a", ""), ("b", "AC"), ("", "")]


@pytest.mark.parametrize("content", [b"", b"\n \r\n", gzip.compress(b"", mtime=0)])
def test_empty_file_then_error_says_so(tmp_path: Path, content: bytes) -> None:
    """A file without a record is not an empty data set."""
    with pytest.raises(DataError, match=r"x\.fa: expected FASTA records, but the file is empty"):
        read(tmp_path, content)


@pytest.mark.parametrize("content", [b"\x7fELF\x00\x01", b"ACGT\n>a\nAC\n", b";old\n>a\nAC\n"])
def test_file_that_does_not_begin_with_a_record_then_error_shows_it(
    tmp_path: Path, content: bytes
) -> None:
    """Binary junk and stray lines before the first record are refused."""
    with pytest.raises(DataError, match=r"x\.fa: not a FASTA file: it must begin with '>'"):
        read(tmp_path, content)


def test_single_line_of_ten_megabytes_then_one_record(tmp_path: Path) -> None:
    """A line that is longer than several blocks is one sequence."""
    records = read(tmp_path, b">a\n" + b"ACGTA" * 2_000_000 + b"\n>b\nAC\n")
    assert [(name, len(sequence)) for name, sequence in records] == [("a", 10_000_000), ("b", 2)]


def test_junk_line_of_ten_megabytes_then_short_error(tmp_path: Path) -> None:
    """The message shows the beginning of the line, not all of it."""
    with pytest.raises(DataError) as caught:
        read(tmp_path, b"\x00" * 10_000_000)
    assert len(str(caught.value)) < 500


sequence_ids = st.text("abc|<>.é_", min_size=1).filter(lambda name: not name.startswith(">"))
records_lists = st.lists(st.tuples(sequence_ids, st.text("ACGTN*", max_size=9)), min_size=1)


@settings(max_examples=40)
@given(records=records_lists, width=st.integers(1, 5), n_blank_lines=st.integers(0, 40))
def test_records_written_and_read_then_equal(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str]],
    width: int,
    n_blank_lines: int,
) -> None:
    """However long the lines are."""
    path = tmp_path_factory.getbasetemp() / "law.fa"
    lines = [""] * n_blank_lines
    for name, sequence in records:
        lines.append(f">{name}")
        lines += [sequence[start : start + width] for start in range(0, len(sequence), width)]
    path.write_text("\n".join(lines), encoding="utf-8")
    table = read_fasta(path)
    assert list(zip(*table.to_pydict().values(), strict=True)) == records


class Sum:
    """Adds the steps that it is told."""

    done = 0.0

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Add."""
        self.done += steps


def test_progress_of_a_packed_file_then_counts_megabytes_on_disk(tmp_path: Path) -> None:
    """The bar reaches its end: the steps add up to the size of the packed file."""
    path = tmp_path / "packed.gz"
    path.write_bytes(gzip.compress(b">a\nACGT\n", mtime=0) * 40)
    task = Sum()

    read_fasta(path, task=task)

    assert task.done == pytest.approx(size_megabytes(path))


@settings(max_examples=50)
@given(content=st.binary(max_size=60))
def test_any_bytes_then_rows_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """No content makes another error, and every '>' that begins a line is a row."""
    path = tmp_path_factory.getbasetemp() / "junk.fa"
    path.write_bytes(b">" + content)
    table = read_fasta(path)
    lines = (b"\n>" + content).replace(b"\r", b"\n")
    assert len(table) == lines.count(b"\n>")


@pytest.mark.parametrize("ending", ["fa", "faa", "fasta", "fa.gz", "faa.gz", "fasta.gz"])
def test_pair_with_any_usual_ending_then_found(tmp_path: Path, ending: str) -> None:
    """Prefixes may hold dots, as VirNucPro's do."""
    nucleotides = tmp_path / "viral.1.1.identified_nucleotide.fa"
    protein = tmp_path / f"viral.1.1.identified_protein.{ending}"
    nucleotides.touch()
    protein.touch()
    assert find_pair(tmp_path / "viral.1.1.identified") == (nucleotides, protein)


def test_pair_without_its_protein_file_then_says_what_was_looked_for(tmp_path: Path) -> None:
    """The names that would have done are listed."""
    (tmp_path / "v_nucleotide.fa").touch()
    with pytest.raises(MissingInput, match=r"v_protein\.fa, v_protein\.fa\.gz, v_protein\.faa"):
        find_pair(tmp_path / "v")


def test_pair_with_two_candidates_then_error_names_both(tmp_path: Path) -> None:
    """Which of two versions is meant is not guessed."""
    for name in ("v_nucleotide.fa", "v_nucleotide.fa.gz", "v_protein.fa"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"v_nucleotide\.fa, v_nucleotide\.fa\.gz\. Keep one"):
        find_pair(tmp_path / "v")


def test_pair_with_a_link_to_itself_then_found_and_refused_when_read(tmp_path: Path) -> None:
    """A broken link is not reported as missing: it is there, and cannot be read."""
    link = tmp_path / "v_nucleotide.fa"
    link.symlink_to(link)
    (tmp_path / "v_protein.fa").touch()
    nucleotides, _ = find_pair(tmp_path / "v")
    with pytest.raises(DataError, match="Too many levels"):
        read_fasta(nucleotides)


def test_pair_in_a_folder_that_is_a_link_to_itself_then_error_says_so(tmp_path: Path) -> None:
    """What cannot be looked at is not reported as missing."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="Too many levels"):
        find_pair(tmp_path / "loop" / "v")


@pytest.mark.parametrize(("sequence", "is_refused"), [("MK*", False), ("MKL", True), ("ML", True)])
def test_sequences_beside_embeddings_when_they_differ_then_the_join_is_refused(
    tmp_path: Path, sequence: str, is_refused: bool
) -> None:
    """One id, two sequences: the vector would stand for another record's; strangers do no harm."""
    (tmp_path / "output_1.fa").write_text(f">b\n{sequence}\n>stranger\nAAA\n")
    records = pd.DataFrame({"id": ["a", "b"], "protein": ["MA", "MK"]}, dtype="str")
    files = [tmp_path / "output_1_ESM.pt", tmp_path / "without_fasta_ESM.pt"]
    refusal = pytest.raises(DataError, match=r"output_1_ESM\.pt: 1 of 1 vectors .* 'b' has")
    with refusal if is_refused else nullcontext():
        check_sequences_beside(files, records, endings=["_ESM.pt"], column="protein")
