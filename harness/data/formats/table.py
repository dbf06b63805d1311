"""Record tables in Parquet files as input for reading.

Only their form is checked here; their rows go through the same screening as all others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.data.inputs import named_errors
from harness.data.records import RECORD_COLUMNS
from harness.errors import DataError

__all__ = ["read_table"]

_NEEDED = ("id", "nucleotides", "protein")
_ARROW_TYPES = {"str": pa.large_string(), "int8": pa.int8(), "int32": pa.int32()}


def read_table(path: Path, *, label: int) -> pa.Table:
    """Read a record table from a Parquet file.

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
        If it is not Parquet, lacks a column, or holds rows of the other class.
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
    with named_errors(path), path.open("rb") as file:
        try:
            table = pq.read_table(file)
        except pa.ArrowException as error:
            raise DataError(f"{path}: not a readable Parquet file: {error}") from error
    if not len(table):
        raise DataError(f"{path}: expected records, but the table is empty")
    return table


def _column(path: Path, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = _ARROW_TYPES[RECORD_COLUMNS[name]]
    try:
        return pc.fill_null(column.cast(kind), "" if kind == pa.large_string() else -1)
    except pa.ArrowException as error:
        raise DataError(f"{path}: column {name!r} cannot be read as {kind}: {error}") from error
