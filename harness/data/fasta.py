"""FASTA files as tables, and finding the two files of a pair.

Reads millions of records in seconds, so it works on blocks of bytes rather than on an object per
record. Whether ids and sequences are acceptable is decided by the screening.

The two halves of a record, from the nucleotide and the protein file of a pair, put together.

Matching is by id. A half without its other half stays in the table, with a null in its place.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from harness.data.inputs import named_errors, read_blocks
from harness.errors import DataError, MissingInput
from harness.progress import Task

__all__ = [
    "find_pair",
    "pair_halves",
    "read_fasta",
]


Rows = npt.NDArray[np.int64]


def pair_halves(nucleotides: pa.Table, proteins: pa.Table, *, sources: tuple[str, str]) -> pa.Table:
    """Match nucleotide and protein records by id.

    Parameters
    ----------
    nucleotides, proteins : pyarrow.Table
        Columns ``id`` and ``sequence``. Where an id occurs several times, its n-th nucleotide
        record belongs to its n-th protein record.
    sources : tuple of str
        The names of the two files.

    Returns
    -------
    pyarrow.Table
        ``id``, ``nucleotides``, ``protein``, ``source`` (the nucleotide file where the row stands
        in it) and ``row`` (its number there, from 1). First the nucleotide file's rows in their
        order, then the proteins without a partner. A stop at a protein's very end is dropped.
    """
    n_pairs = len(nucleotides)
    if nucleotides["id"].equals(proteins["id"]):
        ids, dna, protein = nucleotides["id"], nucleotides["sequence"], proteins["sequence"]
        own_row, is_protein_row = np.arange(n_pairs), np.zeros(n_pairs, dtype=np.int32)
    else:
        partner, alone = _match(nucleotides["id"], proteins["id"])
        ids = pa.chunked_array([*nucleotides["id"].chunks, *proteins["id"].take(alone).chunks])
        nothing = pa.nulls(len(alone), pa.large_string())
        dna = pa.chunked_array([*nucleotides["sequence"].chunks, nothing])
        protein_row = np.concatenate([partner, alone])
        protein = proteins["sequence"].take(pa.array(protein_row, mask=protein_row < 0))
        own_row = np.concatenate([np.arange(n_pairs), alone])
        is_protein_row = np.repeat([0, 1], [n_pairs, len(alone)]).astype(np.int32)
    return pa.table(
        {
            "id": ids,
            "nucleotides": dna,
            "protein": _without_end_stop(protein),
            "source": pa.DictionaryArray.from_arrays(is_protein_row, list(sources)),
            "row": own_row + 1,
        }
    )


def _match(nucleotide_ids: pa.ChunkedArray, protein_ids: pa.ChunkedArray) -> tuple[Rows, Rows]:
    """Return the protein row of each nucleotide row (-1: none), and the proteins left over."""
    left, right = _numbered(nucleotide_ids), _numbered(protein_ids)
    right["protein_row"] = np.arange(len(right))
    merged = left.merge(right, on=["id", "nth"], how="left", validate="one_to_one")
    partner = merged["protein_row"].fillna(-1).to_numpy(dtype=np.int64)
    return partner, np.setdiff1d(np.arange(len(right)), partner)


def _numbered(ids: pa.ChunkedArray) -> pd.DataFrame:
    frame = pd.DataFrame({"id": ids.to_pandas()})
    frame["nth"] = frame.groupby("id").cumcount()
    return frame


def _without_end_stop(protein: pa.ChunkedArray) -> pa.ChunkedArray:
    ends = pc.ends_with(protein, "*")
    if not pc.any(ends).as_py():
        return protein
    return pc.replace_substring_regex(protein, r"\*$", "")


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
