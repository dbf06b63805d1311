"""FASTA files as tables, and finding the two files of a pair.

Reads millions of records in seconds, so it works on blocks of bytes rather than on an object per
record. Whether ids and sequences are acceptable is decided by the screening.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from harness.data.inputs import named_errors, read_blocks
from harness.errors import DataError, MissingInput
from harness.progress import Task

__all__ = ["find_pair", "read_fasta"]

_NUCLEOTIDE_ENDINGS = (".fa", ".fasta", ".fna")
_PROTEIN_ENDINGS = (".fa", ".faa", ".fasta")

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITESPACE = string.whitespace.encode()
# Sequences become upper-case letters and "*"; any other byte becomes "?", which no alphabet holds.
_SEQUENCE_BYTES = bytes(
    byte if chr(byte) in string.ascii_uppercase + "*" else ord("?")
    for byte in bytes(range(256)).upper()
)


def read_fasta(path: Path, *, task: Task | None = None) -> pa.Table:
    """Read a FASTA file: plain or gzip, any line ends, any case, wrapped or not.

    Parameters
    ----------
    path : Path
        The file.
    task : Task, optional
        Is told how far the file is read, in megabytes on disk.

    Returns
    -------
    pyarrow.Table
        One row per record, in the file's order: ``id`` (the header's first word; bytes that are
        not UTF-8 become U+FFFD) and ``sequence`` (upper case, no whitespace; characters other than
        letters and ``*`` become ``?``).

    Raises
    ------
    MissingInput
        If the file is not there.
    DataError
        If it cannot be read, is empty, or does not begin with a ``>``.
    """
    tables = [_parse(piece) for piece in _whole_records(path, task)]
    if not tables:
        raise DataError(f"{path}: expected FASTA records, but the file is empty")
    return pa.concat_tables(tables)


def find_pair(prefix: Path) -> tuple[Path, Path]:
    """Return the nucleotide file and the protein file of a FASTA pair.

    Parameters
    ----------
    prefix : Path
        What the names begin with: ``data/viral.1.1.identified`` for
        ``data/viral.1.1.identified_nucleotide.fa`` and ``data/viral.1.1.identified_protein.fa``.

    Raises
    ------
    MissingInput
        If one of the two is not there.
    DataError
        If there are several candidates for one of them.
    """
    nucleotides = _find_one(prefix, "nucleotide", _NUCLEOTIDE_ENDINGS)
    return nucleotides, _find_one(prefix, "protein", _PROTEIN_ENDINGS)


def _find_one(prefix: Path, kind: str, endings: tuple[str, ...]) -> Path:
    candidates = [
        prefix.with_name(f"{prefix.name}_{kind}{ending}{packed}")
        for ending in endings
        for packed in ("", ".gz")
    ]
    found = [path for path in candidates if _is_there(path)]
    if not found:
        raise MissingInput(
            f"{prefix}: no {kind} file of a FASTA pair; looked for {_names(candidates)}",
            remedy="Name what the two file names have in common, up to _nucleotide and _protein",
        )
    if len(found) > 1:
        raise DataError(f"{prefix}: several {kind} files: {_names(found)}. Keep one of them")
    return found[0]


def _is_there(path: Path) -> bool:
    """Whether the name exists, be it a broken link: opening it then says what is wrong."""
    with named_errors(path):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _whole_records(path: Path, task: Task | None) -> Iterator[bytes]:
    """Yield pieces that begin with a ``>`` and end where a record ends."""
    held: list[bytes] = []
    for block in _without_preamble(path, read_blocks(path, task=task)):
        cut = block.rfind(b"\n>") + 1
        if cut or block.startswith(b">"):
            piece = b"".join([*held, block[:cut]])
            if piece:
                yield piece
            held = [block[cut:]]
        else:
            held.append(block)
    if held:
        yield b"".join(held)


def _without_preamble(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Drop whitespace before the first record; refuse anything else there."""
    is_first = True
    for block in blocks:
        content = block.removeprefix(_BYTE_ORDER_MARK).lstrip() if is_first else block
        if is_first and content and not content.startswith(b">"):
            raise DataError(
                f"{path}: not a FASTA file: it must begin with '>', begins with {content[:40]!r}"
            )
        is_first = is_first and not content
        if content:
            yield content


def _parse(piece: bytes) -> pa.Table:
    if b"\r" in piece:
        piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    records = [record.partition(b"\n") for record in piece[1:].split(b"\n>")]
    ids = [_first_word(header) for header, _, _ in records]
    sequences = [lines.translate(_SEQUENCE_BYTES, _WHITESPACE) for _, _, lines in records]
    return pa.table(
        {
            "id": pa.array(ids, pa.large_string()),
            "sequence": pa.array(sequences, pa.large_binary()).cast(pa.large_string()),
        }
    )


def _first_word(header: bytes) -> str:
    words = header.split(None, 1)
    return words[0].decode("utf-8", "replace") if words else ""
