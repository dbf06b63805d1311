"""From the files that users have to the record table.

Reads FASTA pairs, annotated genomes and record tables, labels them by the list they stand in, and
joins the taxonomy. What makes a row unusable is decided by the screening.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from harness.data.formats.fasta import find_pair, read_fasta
from harness.data.formats.genbank import genbank_files
from harness.data.formats.pairs import pair_halves
from harness.data.formats.table import read_table
from harness.data.genomes import read_genomes
from harness.data.inputs import size_megabytes
from harness.data.record_set import RecordSet
from harness.data.records import RECORD_COLUMNS
from harness.data.screening import ACCEPTED, Reasons, find_faults, find_repeats, printable
from harness.data.taxonomy import join_taxonomy, read_taxonomy
from harness.errors import DataError
from harness.progress import Progress, Task

__all__ = ["MAX_REJECT_SHARE", "read_records", "source_files"]

MAX_REJECT_SHARE = Fraction(1, 100)  # more than a stray row: the input is not what it should be

_TABLE_ENDING = ".parquet"
# The same form as parse_record_id, for a whole column.
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
        (``.parquet``). The list gives the label.
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
        rows, rejected = _read_all(inputs, task)
    records, unknown_accessions = join_taxonomy(rows, known)
    record_set = RecordSet(
        records=records.select(list(RECORD_COLUMNS)).to_pandas(),
        rejected=rejected,
        unknown_accessions=unknown_accessions,
    )
    record_set.check_rejects(max_reject_share)
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
    if path.suffix == _TABLE_ENDING:
        return (path,)
    return genbank_files(path) if path.exists() else find_pair(path)


def _refuse_repeated_inputs(paths: list[Path]) -> None:
    if not paths:
        raise ValueError("name at least one input")
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            raise DataError(f"{path} is named {count} times as input. Name it once")


def _read_all(inputs: list[tuple[Path, int]], task: Task) -> tuple[pa.Table, pd.DataFrame]:
    accepted, rejected = [], []
    for path, label in inputs:
        rows = _read_rows(path, label, task)
        good, bad = _divide(rows, find_faults(rows))
        accepted.append(_with_origin(good))
        rejected.append(bad)
    rows = pa.concat_tables(accepted)
    rows, repeated = _divide(rows, find_repeats(rows))
    return rows, pd.concat([*rejected, repeated], ignore_index=True)


def _read_rows(path: Path, label: int, task: Task) -> pa.Table:
    files = source_files(path)
    if path.suffix == _TABLE_ENDING:
        rows = read_table(path, label=label)
        task.advance(size_megabytes(path))
    elif path.exists():
        rows = read_genomes(path)
        task.advance(sum(map(size_megabytes, files)))
    else:
        nucleotides, proteins = (read_fasta(file, task=task) for file in files)
        sources = (str(files[0]), str(files[1]))
        rows = pair_halves(nucleotides, proteins, sources=sources)
    return rows.append_column("label", pa.array(np.full(len(rows), label, dtype=np.int8)))


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
