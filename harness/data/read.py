"""Record tables from whatever the settings name: which files are meant, and what their rows hold.

Owns how an entry (a file, a prefix, a folder, a glob) becomes sources, why a row is refused, and
how the accepted ones become records. How each format is read stands in ``fasta``, ``genbank`` and
``inputs``; what a taxonomy adds, in ``taxonomy``.
"""

from __future__ import annotations

import glob
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from harness.data.fasta import find_pair, pair_halves, read_fasta
from harness.data.genbank import cut_unannotated, is_named_genbank, read_genomes
from harness.data.inputs import (
    list_files,
    named_errors,
    open_input,
    read_parquet,
    refuse_repeated,
    size_megabytes,
)
from harness.data.records import RECORD_COLUMNS, RecordSet
from harness.data.taxonomy import join_taxonomy, read_taxonomy
from harness.errors import DataError, MissingInput
from harness.progress import Progress, Task

__all__ = [
    "MAX_REJECT_SHARE",
    "TAKEN",
    "Source",
    "find_sources",
    "printable",
    "read_records",
    "read_table",
    "source_files",
]


TAKEN = (
    "FASTA pairs (PREFIX_nucleotide.fa and PREFIX_protein.fa or .faa, or folders of chunks called "
    "so), GenBank files (.gb, .gbk, .gbff, .gbf, .genbank, .seq), FASTA files of genomes (.fna, "
    ".fa, .fasta), all plain or .gz, record tables (.parquet, .csv), and folders and globs of them"
)
_TABLE_ENDINGS = (".parquet", ".csv")
_FASTA = re.compile(r"(?P<stem>.+)\.(fa|faa|fasta|fna)(\.gz)?", re.IGNORECASE)
_GENOME = re.compile(r"(?P<stem>.+)\.(fa|fasta|fna)(\.gz)?", re.IGNORECASE)
_HALF = re.compile(r"(?P<prefix>.+)_(nucleotide|protein)")
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Files that are read as one.

    Attributes
    ----------
    kind : {"pair", "genbank", "genome", "table"}
        A genome is a FASTA file without annotation.
    files : tuple of Path
        Of a pair the nucleotides, then the proteins; of GenBank files any number.
    """

    kind: Literal["pair", "genbank", "genome", "table"]
    files: tuple[Path, ...]

    @property
    def is_whole(self) -> bool:
        """Whether these are genomes, of which any window can be cut."""
        return self.kind in ("genbank", "genome")


def source_files(entry: Path) -> tuple[Path, ...]:
    """Return all files that an entry stands for, as ``find_sources``."""
    return tuple(file for source in find_sources(entry)[0] for file in source.files)


def find_sources(entry: Path) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Return what an entry stands for.

    Parameters
    ----------
    entry : Path
        A file, a folder, a glob, or what the names of a FASTA pair begin with.

    Returns
    -------
    tuple of (tuple of Source, tuple of str)
        Sorted by path; and lines that name what was passed over.

    Raises
    ------
    MissingInput
        If nothing is there; the message says which names were looked for.
    DataError
        If files cannot be told apart, or a folder cannot be read.
    """
    with named_errors(entry):
        is_folder, is_there = entry.is_dir(), entry.exists()
    if is_folder:
        return _sort_out(entry, list_files(entry))
    if not is_there and glob.has_magic(str(entry)):
        return _sort_out(entry, _matches(entry))
    if entry.suffix in _TABLE_ENDINGS:
        return (Source(kind="table", files=(entry,)),), ()
    if is_there:
        return (_of_file(entry),), ()
    if entry.with_name(f"{entry.name}_nucleotide").is_dir():
        return _sort_out(entry, list_files(entry.with_name(f"{entry.name}_nucleotide")))
    return (_pair(entry),), ()


def _matches(entry: Path) -> list[Path]:
    found = map(Path, sorted(glob.glob(str(entry), recursive=True)))  # noqa: PTH207 - absolute, too
    files = [file for path in found for file in (list_files(path) if path.is_dir() else (path,))]
    return [file for file in dict.fromkeys(files) if not file.name.startswith("._")]


def _of_file(file: Path) -> Source:
    if prefix := _prefix_of(file):
        return _of_prefix(prefix, file)
    return Source(kind="genome" if _GENOME.fullmatch(file.name) else "genbank", files=(file,))


def _pair(prefix: Path) -> Source:
    try:
        return Source(kind="pair", files=find_pair(prefix))
    except MissingInput as error:
        raise MissingInput(error.what, remedy=f"{error.remedy}. Taken are {TAKEN}") from error


def _sort_out(entry: Path, files: Sequence[Path]) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Say what each of several files is, and name those that are nothing."""
    genbank = tuple(file for file in files if is_named_genbank(file))
    annotated = {_stem(file) for file in genbank}
    pairs: dict[Path, Source] = {}
    others: list[Source] = [Source(kind="genbank", files=genbank)] if genbank else []
    passed_over: list[Path] = []
    for file in files:
        if prefix := _prefix_of(file):
            pairs[prefix] = pairs.get(prefix) or _of_prefix(prefix, file)
        elif file.suffix in _TABLE_ENDINGS:
            others.append(Source(kind="table", files=(file,)))
        elif _GENOME.fullmatch(file.name) and _stem(file) not in annotated:
            others.append(Source(kind="genome", files=(file,)))
        elif not is_named_genbank(file):
            passed_over.append(file)
    chunks = [prefix for prefix in pairs if prefix.parent in pairs]  # of a file that is there whole
    passed_over += [file for prefix in chunks for file in pairs.pop(prefix).files]
    sources = (*pairs.values(), *others)
    if not sources:
        raise MissingInput(f"{entry} holds nothing to read", remedy=f"Taken are {TAKEN}")
    return tuple(sorted(sources, key=lambda source: source.files)), tuple(_named(passed_over))


def _stem(file: Path) -> Path:
    """Return a path without its endings: a genome's sequence and annotation are called alike."""
    name = file.name.lower().removesuffix(".gz")
    return file.with_name(name.rpartition(".")[0])


def _prefix_of(file: Path) -> Path | None:
    """Return what the two files of a pair have in common; of a chunk, its folders' prefix/name."""
    fasta = _FASTA.fullmatch(file.name)
    if fasta is None:
        return None
    if half := _HALF.fullmatch(fasta["stem"]):
        return file.with_name(half["prefix"])
    folder = _HALF.fullmatch(file.parent.name)
    return file.parent.with_name(folder["prefix"]) / fasta["stem"] if folder else None


def _of_prefix(prefix: Path, file: Path) -> Source:
    if prefix.parent == file.parent:
        return _pair(prefix)
    halves = [_chunk(prefix, kind) for kind in ("nucleotide", "protein")]
    return Source(kind="pair", files=tuple(halves))


def _chunk(prefix: Path, kind: str) -> Path:
    folder = prefix.parent.with_name(f"{prefix.parent.name}_{kind}")
    for ending in ("fa", "faa", "fasta", "fna"):
        for packed in ("", ".gz"):
            if (file := folder / f"{prefix.name}.{ending}{packed}").exists():
                return file
    raise MissingInput(
        f"{folder} holds no FASTA file {prefix.name}, the other half of a chunk",
        remedy="Keep the chunks of nucleotides and proteins under the same names",
    )


def _named(files: Iterable[Path]) -> list[str]:
    """Return a line for the files of each ending that are no input."""
    by_ending: dict[str, list[Path]] = {}
    for file in files:
        by_ending.setdefault(file.suffix, []).append(file)
    return [
        "passed over, since nothing that is read is called so: "
        + ", ".join(map(str, same[:_SHOWN]))
        + (f" and {len(same) - _SHOWN} more" if len(same) > _SHOWN else "")
        for same in by_ending.values()
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


def _find_faults(rows: pa.Table) -> Reasons:
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


def _find_repeats(rows: pa.Table) -> Reasons:
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
                refuse_repeated(path, table.column_names)
            except (pa.ArrowException, UnicodeDecodeError) as error:
                raise DataError(f"{path}: not a readable record table: {error}") from error
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
        ``PREFIX_protein.fa`` or ``.faa``, ``.fasta``; plain or gzip; or folders of chunks,
        ``PREFIX_nucleotide/`` and ``PREFIX_protein/``), a GenBank file (cut into windows as
        VirNucPro prepares its training data), a FASTA file of genomes (every frame without a stop
        is a record), a record table (``.parquet``, ``.csv``), or a folder or glob of those. The
        list gives the label.
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
    inputs: list[tuple[Source, int]] = []
    passed_over: list[str] = []
    for path, label in [(path, 1) for path in viral] + [(path, 0) for path in nonviral]:
        sources, lines = find_sources(Path(path))
        inputs += [(source, label) for source in sources]
        passed_over += lines
    if not inputs:
        raise ValueError("name at least one input")
    files = [file for source, _ in inputs for file in source.files]
    total = sum(map(size_megabytes, files))
    _refuse_repeated_inputs(files)
    known = None if taxonomy is None else read_taxonomy(Path(taxonomy))
    with (progress or Progress()).task("reading records", total=total, unit="MB") as task:
        rows, rejected, notes = _read_all(inputs, task)
    records, unknown_accessions = join_taxonomy(rows, known)
    record_set = RecordSet(
        records=records.select(list(RECORD_COLUMNS)).to_pandas(),
        rejected=rejected,
        unknown_accessions=unknown_accessions,
        notes=(*passed_over, *notes),
    )
    record_set.check_rejects(max_reject_share)
    record_set.check_classes()
    return record_set


def _refuse_repeated_inputs(files: Sequence[Path]) -> None:
    for path, count in Counter(path.resolve() for path in files).items():
        if count > 1:
            raise DataError(f"{path} is named {count} times as input. Name it once")


def _read_all(
    inputs: Sequence[tuple[Source, int]], task: Task
) -> tuple[pa.Table, pd.DataFrame, tuple[str, ...]]:
    accepted, rejected = [], []
    notes: list[str] = []
    for source, label in inputs:
        rows, lines = _read_rows(source, label, task)
        notes += lines
        good, bad = _divide(rows, _find_faults(rows))
        accepted.append(_with_origin(good))
        rejected.append(bad)
    rows = pa.concat_tables(accepted)
    rows, repeated = _divide(rows, _find_repeats(rows))
    return rows, pd.concat([*rejected, repeated], ignore_index=True), tuple(notes)


def _read_rows(source: Source, label: int, task: Task) -> tuple[pa.Table, tuple[str, ...]]:
    files = source.files
    notes: tuple[str, ...] = ()
    if source.kind == "pair":
        nucleotides, proteins = (read_fasta(file, task=task) for file in files)
        rows = pair_halves(nucleotides, proteins, sources=(str(files[0]), str(files[1])))
    else:
        if source.kind == "table":
            rows = read_table(files[0], label=label)
        elif source.kind == "genbank":
            rows, notes = read_genomes(files)
        else:
            rows, notes = cut_unannotated(files[0])
        task.advance(sum(map(size_megabytes, files)))
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
