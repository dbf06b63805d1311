"""From the files that users have to the record table: every row is a record or has a reason.

Finds what each input is (FASTA pair, annotated genomes, record table), labels it by the list it
stands in, decides by columns which rows can be records, and joins the taxonomy. How a FASTA or
GenBank file is read is the business of those modules.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from harness.data.fasta import find_pair, pair_halves, read_fasta
from harness.data.genbank import genbank_files, read_genomes
from harness.data.inputs import open_input, read_parquet, refuse_repeated, size_megabytes
from harness.data.records import RECORD_COLUMNS, RecordSet
from harness.data.taxonomy import join_taxonomy, read_taxonomy
from harness.errors import DataError
from harness.progress import Progress, Task

__all__ = [
    "ACCEPTED",
    "MAX_REJECT_SHARE",
    "Reasons",
    "find_faults",
    "find_repeats",
    "printable",
    "read_records",
    "read_table",
    "source_files",
]


ACCEPTED = ""
UNUSABLE_ID = "unusable id (empty, over 255 characters, not printable)"
NO_NUCLEOTIDES = "no nucleotide record with this id"
NO_PROTEIN = "no protein record with this id"
EMPTY_NUCLEOTIDES = "empty nucleotides"
AMBIGUOUS = "bases other than A, C, G, T"
EMPTY_PROTEIN = "empty protein"
STOP_INSIDE = "stop inside the protein"
NO_RESIDUE = "a character in the protein that is no residue"
TWO_LABELS = "one id with two labels"
TWO_SEQUENCES = "one id with two sequences"
REPEATED_ID = "duplicate id"

_LONGEST_ID = 255
_FORBIDDEN = r"[\s\x{FFFD}]"  # FASTA ends an id at a space; U+FFFD stands for what was not UTF-8

Reasons = npt.NDArray[np.object_]


def find_faults(rows: pa.Table) -> Reasons:
    """Say what is wrong with each row by itself.

    Parameters
    ----------
    rows : pyarrow.Table
        Columns ``id``, ``nucleotides``, ``protein``.

    Returns
    -------
    object array of str, (n_rows,)
        The first reason that applies, ``ACCEPTED`` where none does.
    """
    ids, nucleotides, protein = rows["id"], rows["nucleotides"], rows["protein"]
    faults = {
        UNUSABLE_ID: _is_unusable(ids),
        NO_NUCLEOTIDES: pc.is_null(nucleotides),
        NO_PROTEIN: pc.is_null(protein),
        EMPTY_NUCLEOTIDES: pc.equal(pc.binary_length(nucleotides), 0),
        AMBIGUOUS: _holds_others_than(nucleotides, "ACGT"),
        EMPTY_PROTEIN: pc.equal(pc.binary_length(protein), 0),
        STOP_INSIDE: pc.match_substring(protein, "*"),
        NO_RESIDUE: _holds_others_than(protein, string.ascii_uppercase),
    }
    return _first_reason({reason: _mask(column) for reason, column in faults.items()})


def find_repeats(rows: pa.Table) -> Reasons:
    """Say which rows share their id with another row.

    Parameters
    ----------
    rows : pyarrow.Table
        Columns ``id``, ``nucleotides``, ``protein``, ``label``.

    Returns
    -------
    object array of str, (n_rows,)
        Of identical rows the first is accepted. Rows that differ are all refused, since nothing
        says which is right; so the order of the input changes nothing.
    """
    reasons = np.full(len(rows), ACCEPTED, dtype=object)
    if pc.count_distinct(rows["id"]).as_py() == len(rows):
        return reasons
    is_shared = rows["id"].to_pandas().duplicated(keep=False).to_numpy()
    shared = rows.select(["id", "label", "nucleotides", "protein"]).filter(pa.array(is_shared))
    frame = shared.to_pandas()
    counts = frame.groupby("id").transform("nunique")
    reasons[is_shared] = _first_reason(
        {
            TWO_LABELS: (counts["label"] > 1).to_numpy(),
            TWO_SEQUENCES: ((counts["nucleotides"] > 1) | (counts["protein"] > 1)).to_numpy(),
            REPEATED_ID: frame.duplicated("id").to_numpy(),
        }
    )
    return reasons


def printable(text: str) -> str:
    """Return an id that is safe to show: escapes for what cannot be printed, and not too long."""
    shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return shown[:_LONGEST_ID]


def _is_unusable(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    length = pc.utf8_length(ids)
    is_bad_length = pc.or_(pc.equal(length, 0), pc.greater(length, _LONGEST_ID))
    is_unprintable = pc.invert(pc.utf8_is_printable(ids))
    return pc.or_(is_bad_length, pc.or_(is_unprintable, pc.match_substring_regex(ids, _FORBIDDEN)))


def _holds_others_than(sequences: pa.ChunkedArray, letters: str) -> pa.ChunkedArray:
    # Trimming stops at the first other letter from either end: four times as fast as a regex.
    return pc.not_equal(pc.binary_length(pc.ascii_trim(sequences, letters)), 0)


def _mask(column: Any) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = pc.fill_null(column, False).to_numpy()
    return mask


def _first_reason(masks: dict[str, npt.NDArray[np.bool_]]) -> Reasons:
    reasons = np.full(len(next(iter(masks.values()))), ACCEPTED, dtype=object)
    for reason, mask in reversed(masks.items()):
        reasons[mask] = reason
    return reasons


_NEEDED = ("id", "nucleotides", "protein")
_ARROW_TYPES = {"str": pa.large_string(), "int8": pa.int8(), "int32": pa.int32()}


def read_table(path: Path, *, label: int) -> pa.Table:
    """Read a record table from a Parquet or CSV file.

    Parameters
    ----------
    path : Path
        It must have the columns ``id``, ``nucleotides``, ``protein``; others of
        ``RECORD_COLUMNS`` are used where they are there.
    label : int
        The label of the list that names the file, which its own labels must agree with.

    Returns
    -------
    pyarrow.Table
        The columns found, without the label, and ``source`` and ``row`` (from 1). Sequences are in
        upper case; a missing value is "" or -1.

    Raises
    ------
    MissingInput
        If the file is not there.
    DataError
        If it is not such a table, lacks a column, or holds rows of the other class.
    """
    table = _read(path)
    if missing := [name for name in _NEEDED if name not in table.column_names]:
        raise DataError(f"{path}: no column {missing[0]!r}; it has {table.column_names}")
    columns = {
        name: _column(path, table[name], name)
        for name in RECORD_COLUMNS
        if name in table.column_names
    }
    if not pc.all(pc.equal(columns.pop("label", pa.array([label])), label)).as_py():
        raise DataError(
            f"{path}: stands in the list for label {label}, but holds rows of another label. "
            "Name each class's table in its own list"
        )
    for name in ("nucleotides", "protein"):
        columns[name] = pc.ascii_upper(columns[name])
    columns["source"] = pa.DictionaryArray.from_arrays(
        np.zeros(len(table), dtype=np.int32), [str(path)]
    )
    return pa.table({**columns, "row": np.arange(1, len(table) + 1)})


def _read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        table = read_parquet(path)
    else:
        with open_input(path) as (stream, _):
            try:
                table = _read_csv(stream)
                names = table.column_names
            except (pa.ArrowException, UnicodeDecodeError) as error:
                raise DataError(f"{path}: not a readable record table: {error}") from error
        refuse_repeated(path, names)
    if not len(table):
        raise DataError(f"{path}: expected records, but the table is empty")
    return table


def _read_csv(stream: BinaryIO) -> pa.Table:
    kinds = {name: _ARROW_TYPES[kind] for name, kind in RECORD_COLUMNS.items()}
    return csv.read_csv(stream, convert_options=csv.ConvertOptions(column_types=kinds))


def _column(path: Path, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = _ARROW_TYPES[RECORD_COLUMNS[name]]
    try:
        return pc.fill_null(column.cast(kind), "" if kind == pa.large_string() else -1)
    except pa.ArrowException as error:
        raise DataError(f"{path}: column {name!r} cannot be read as {kind}: {error}") from error


MAX_REJECT_SHARE = Fraction(1, 100)  # more than a stray row: the input is not what it should be

_TABLE_ENDINGS = (".parquet", ".csv")
# NC_029549.1_chunk_3R2
_RECORD_ID = r"^(?P<accession>.+)_chunk_(?P<window>\d{1,9})(?P<frame>[FR][123])$"


def read_records(
    viral: Sequence[str | Path],
    nonviral: Sequence[str | Path],
    *,
    taxonomy: str | Path | None = None,
    max_reject_share: Fraction = MAX_REJECT_SHARE,
    progress: Progress | None = None,
) -> RecordSet:
    """Read records of both classes; every row is a record or is rejected with a reason.

    Parameters
    ----------
    viral, nonviral : sequence of path
        Each is what the names of a FASTA pair begin with (``PREFIX_nucleotide.fa`` and
        ``PREFIX_protein.fa`` or ``.faa``, ``.fasta``; plain or gzip), a GenBank file or a folder
        of those (cut into windows as VirNucPro prepares its training data), or a record table
        (``.parquet``, ``.csv``). The list gives the label.
    taxonomy : path, optional
        See ``read_taxonomy``. Without it, and for accessions it does not hold, the lineage and the
        source kind are "" and each accession is a genome of its own.
    max_reject_share : Fraction
        The largest share of rejected rows, in [0, 1].
    progress : Progress, optional
        Shows the megabytes read.

    Returns
    -------
    RecordSet
        Records in the order of the input.

    Raises
    ------
    MissingInput
        If a file is not there; the message says which names were looked for.
    DataError
        If a file cannot be read, is named twice, or too many rows are rejected.

    Notes
    -----
    Sequences become upper case, and a stop at the very end of a protein is dropped. Ids of the form
    ``NC_029549.1_chunk_3R2`` give accession, window and frame; of others the part before
    ``_chunk_`` is the accession. A row is rejected for: an unusable id, a missing other half, empty
    nucleotides or protein, bases other than ACGT, a stop or a character that is no residue in the
    protein. Of rows with one id the first is kept if all are identical, otherwise none.
    """
    inputs = [(Path(path), 1) for path in viral] + [(Path(path), 0) for path in nonviral]
    _refuse_repeated_inputs([path for path, _ in inputs])
    known = None if taxonomy is None else read_taxonomy(Path(taxonomy))
    total = sum(size_megabytes(file) for path, _ in inputs for file in source_files(path))
    with (progress or Progress()).task("reading records", total=total, unit="MB") as task:
        rows, rejected, notes = _read_all(inputs, task)
    records, unknown_accessions = join_taxonomy(rows, known)
    record_set = RecordSet(
        records=records.select(list(RECORD_COLUMNS)).to_pandas(),
        rejected=rejected,
        unknown_accessions=unknown_accessions,
        notes=notes,
    )
    record_set.check_rejects(max_reject_share)
    record_set.check_classes()
    return record_set


def source_files(path: Path) -> tuple[Path, ...]:
    """Return the files that one input of ``read_records`` stands for.

    Raises
    ------
    MissingInput
        If they are not there; the message says which names were looked for.
    DataError
        If they cannot be told apart, or a folder cannot be read.
    """
    if path.suffix in _TABLE_ENDINGS:
        return (path,)
    return genbank_files(path) if path.exists() else find_pair(path)


def _refuse_repeated_inputs(paths: list[Path]) -> None:
    if not paths:
        raise ValueError("name at least one input")
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            raise DataError(f"{path} is named {count} times as input. Name it once")


def _read_all(
    inputs: list[tuple[Path, int]], task: Task
) -> tuple[pa.Table, pd.DataFrame, tuple[str, ...]]:
    accepted, rejected = [], []
    notes: list[str] = []
    for path, label in inputs:
        rows, lines = _read_rows(path, label, task)
        notes += lines
        good, bad = _divide(rows, find_faults(rows))
        accepted.append(_with_origin(good))
        rejected.append(bad)
    rows = pa.concat_tables(accepted)
    rows, repeated = _divide(rows, find_repeats(rows))
    return rows, pd.concat([*rejected, repeated], ignore_index=True), tuple(notes)


def _read_rows(path: Path, label: int, task: Task) -> tuple[pa.Table, tuple[str, ...]]:
    files = source_files(path)
    notes: tuple[str, ...] = ()
    if path.suffix in _TABLE_ENDINGS:
        rows = read_table(path, label=label)
        task.advance(size_megabytes(path))
    elif path.exists():
        rows, notes = read_genomes(path)
        task.advance(sum(map(size_megabytes, files)))
    else:
        nucleotides, proteins = (read_fasta(file, task=task) for file in files)
        sources = (str(files[0]), str(files[1]))
        rows = pair_halves(nucleotides, proteins, sources=sources)
    rows = _without_end_stops(rows)
    return rows.append_column("label", pa.array(np.full(len(rows), label, dtype=np.int8))), notes


def _without_end_stops(rows: pa.Table) -> pa.Table:
    """Drop the stop at a protein's very end, which gene finders write."""
    if not pc.any(pc.ends_with(rows["protein"], "*")).as_py():
        return rows
    whole = pc.replace_substring_regex(rows["protein"], r"\*$", "")
    return rows.set_column(rows.column_names.index("protein"), "protein", whole)


def _divide(rows: pa.Table, reasons: Reasons) -> tuple[pa.Table, pd.DataFrame]:
    """Part the rows into those without a reason against them, and a list of the others."""
    is_good = reasons == ACCEPTED
    refused = rows.select(["source", "row", "id"]).filter(pa.array(~is_good))
    rejected = pd.DataFrame(
        {
            "source": refused["source"].cast(pa.large_string()).to_pandas(),
            "row": refused["row"].to_pandas(),
            "id": pd.Series([printable(name) for name in refused["id"].to_pylist()], dtype="str"),
            "reason": pd.Series(reasons[~is_good], dtype="str"),
        }
    )
    return (rows if is_good.all() else rows.filter(pa.array(is_good))), rejected


def _with_origin(rows: pa.Table) -> pa.Table:
    """Add the columns that the input did not have: what the id says, and blanks."""
    parsed = pc.extract_regex(rows["id"], _RECORD_ID)
    accession = pc.struct_field(parsed, "accession")
    if accession.null_count:
        before_chunk = pc.replace_substring_regex(rows["id"], r"^(.+)_chunk_.*$", r"\1")
        accession = pc.coalesce(accession, before_chunk)
    derived = {
        "accession": accession,
        "window": pc.fill_null(pc.struct_field(parsed, "window").cast(pa.int32()), -1),
        "frame": pc.fill_null(pc.struct_field(parsed, "frame"), ""),
    }
    blank = pa.array(np.full(len(rows), ""), pa.large_string())
    for name in RECORD_COLUMNS:
        if name not in rows.column_names:
            rows = rows.append_column(name, derived.get(name, blank))
    return rows.select([*RECORD_COLUMNS, "source", "row"])
