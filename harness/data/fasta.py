"""FASTA pairs as tables: finding the two files, reading each, and putting the halves together.

Parsing is Biopython's. Matching is by id: a half without its other half stays in the table, with a
null in its place. Whether ids and sequences are acceptable is decided by the screening.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from Bio.SeqIO.FastaIO import SimpleFastaParser

from harness.data.inputs import named_errors, open_text
from harness.errors import DataError, MissingInput
from harness.progress import Task

__all__ = [
    "check_sequences_beside",
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
        order, then the proteins without a partner.
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
            "protein": protein,
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


_NUCLEOTIDE_ENDINGS = (".fa", ".fasta", ".fna")
_PROTEIN_ENDINGS = (".fa", ".faa", ".fasta")
_EMBEDDED_ENDINGS = (".fa", ".faa", ".fasta", ".fna")

_RECORDS_PER_CHUNK = 1 << 17  # held as Python text before they become columns
_MEGABYTE = 1e6


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
        not UTF-8 become U+FFFD) and ``sequence`` (upper case, line ends and blanks left out).

    Raises
    ------
    MissingInput
        If the file is not there.
    DataError
        If it cannot be read, is empty, or does not begin with a ``>``.
    """
    with open_text(path, errors="replace") as (text, file):
        records = SimpleFastaParser(_from_first_record(path, text))  # type: ignore[no-untyped-call]
        tables, position = [], 0
        while chunk := list(islice(records, _RECORDS_PER_CHUNK)):
            tables.append(_columns(chunk))
            if task is not None:
                task.advance((file.tell() - position) / _MEGABYTE)
                position = file.tell()
    if not tables:
        raise DataError(f"{path}: expected FASTA records, but the file is empty")
    return pa.concat_tables(tables)


def _from_first_record(path: Path, lines: Iterator[str]) -> Iterator[str]:
    """Drop blank lines before the first record; refuse anything else there."""
    for line in lines:
        if line.strip():
            if not line.lstrip().startswith(">"):
                raise DataError(
                    f"{path}: not a FASTA file: it must begin with '>', begins with {line[:40]!r}"
                )
            return chain([line.lstrip()], lines)
    return lines


def _columns(records: list[tuple[str, str]]) -> pa.Table:
    ids = [header.split(None, 1)[0] if header.strip() else "" for header, _ in records]
    sequences = pa.array([sequence for _, sequence in records], pa.large_string())
    return pa.table({"id": pa.array(ids, pa.large_string()), "sequence": pc.ascii_upper(sequences)})


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


def check_sequences_beside(
    files: Sequence[Path], records: pd.DataFrame, *, endings: Sequence[str], column: str
) -> None:
    """Refuse embedding files that were made from other sequences than the records of their ids.

    The files hold ids alone; but VirNucPro's tools write ``output_1_ESM.pt`` beside the
    ``output_1.fa`` that was embedded. Where that is there, its sequences are compared.

    Parameters
    ----------
    files : sequence of Path
        Embedding files.
    records : DataFrame
        A record table.
    endings : sequence of str
        How their names may end, such as ``_ESM.pt``.
    column : str
        What was embedded: ``nucleotides`` or ``protein``.

    Raises
    ------
    DataError
        If a sequence differs from the record's, or a FASTA file cannot be read.
    """
    own = records.set_index("id")[column]
    for file in files:
        ending = next(one for one in endings if file.name.endswith(one))
        stem = file.name.removesuffix(ending)
        for source in filter(_is_there, (file.with_name(f"{stem}{e}") for e in _EMBEDDED_ENDINGS)):
            table = read_fasta(source).to_pandas().set_index("id")["sequence"].str.rstrip("*")
            pairs = pd.DataFrame({"embedded": table, "own": own.reindex(table.index)}).dropna()
            other = pairs[pairs["embedded"] != pairs["own"]]
            if len(other):
                first = other.iloc[0]
                raise DataError(
                    f"{file}: {len(other):,} of {len(pairs):,} vectors were made from other "
                    f"sequences than the records of their ids: {other.index[0]!r} has "
                    f"{len(first['embedded'])} letters in {source.name} and {len(first['own'])} in "
                    "the records, or others. Embed the records that are judged, or judge those "
                    "that were embedded"
                )


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
