"""Which lineage, genome and kind of source an accession belongs to, from TSV or GenBank files.

How one GenBank entry is read, and which taxon stands for a lineage, is decided in ``genbank``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from harness.data.genbank import choose_lineage, is_genbank, read_genbank
from harness.data.inputs import read_blocks
from harness.errors import DataError

__all__ = ["TAXONOMY_COLUMNS", "join_taxonomy", "read_taxonomy"]

TAXONOMY_COLUMNS = ("accession", "lineage", "genome", "source_kind")

_LAYOUT = "accession <TAB> lineage [<TAB> genome [<TAB> source_kind]]"


def read_taxonomy(path: Path) -> pd.DataFrame:
    """Read a taxonomy.

    Parameters
    ----------
    path : Path
        A tab-separated file (plain or gzip, UTF-8), or a GenBank file, or a folder of those. The
        TSV's columns are accession, lineage and, if known, genome and source_kind. A first line
        that starts with ``accession``, blank lines and lines that start with ``#`` are passed over.

    Returns
    -------
    DataFrame
        ``TAXONOMY_COLUMNS``, one row per accession; unknown text is "". Of a lineage that is given
        as ``widest; ...; narrowest`` the virus family stands for it, otherwise the last taxon.

    Raises
    ------
    MissingInput
        If nothing is there.
    DataError
        If it cannot be read, or an accession stands for two different things.
    """
    rows = _from_genbank(path) if is_genbank(path) else _from_tsv(path)
    table: dict[str, tuple[str, ...]] = {}
    for accession, *values in rows:
        if not "".join([accession, *values]).isprintable():
            raise DataError(f"{path}: control characters in the entry of {accession!r}")
        known = table.setdefault(accession, tuple(values))
        if known != tuple(values):
            raise DataError(
                f"{path}: {accession!r} stands for {known} and for {tuple(values)}. Keep one"
            )
    if not table:
        raise DataError(f"{path}: the taxonomy is empty; expected {_LAYOUT}")
    return pd.DataFrame(
        [(accession, *values) for accession, values in table.items()],
        columns=list(TAXONOMY_COLUMNS),
        dtype="str",
    )


def join_taxonomy(rows: pa.Table, taxonomy: pd.DataFrame | None) -> tuple[pa.Table, int]:
    """Fill in the lineage, genome and source kind of each row by its accession.

    Parameters
    ----------
    rows : pyarrow.Table
        With the text columns ``accession``, ``lineage``, ``genome``, ``source_kind``.
    taxonomy : DataFrame, optional
        ``TAXONOMY_COLUMNS``. What it does not know stays as it is in ``rows``.

    Returns
    -------
    tuple of (pyarrow.Table, int)
        The rows, in which each genome that is still "" is the accession; and how many accessions
        the taxonomy does not hold.
    """
    unknown = 0
    if taxonomy is not None:
        table = pa.Table.from_pandas(taxonomy, preserve_index=False)
        places = pc.index_in(rows["accession"], value_set=table["accession"])
        unknown = len(pc.unique(rows["accession"].filter(pc.is_null(places))))
        for name in TAXONOMY_COLUMNS[1:]:
            found = pc.fill_null(table[name].take(places), "")
            rows = _replace(rows, name, _first_known(found, rows[name]))
    return _replace(rows, "genome", _first_known(rows["genome"], rows["accession"])), unknown


def _first_known(texts: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(texts, ""), others, texts)


def _replace(rows: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)


def _from_genbank(path: Path) -> Iterator[tuple[str, ...]]:
    for entry in read_genbank(path, is_header_only=True):
        yield entry.accession, entry.lineage, entry.genome, entry.source_kind


def _from_tsv(path: Path) -> Iterator[tuple[str, ...]]:
    for number, line in _lines(path):
        fields = [field.strip() for field in line.split("\t")]
        if not 2 <= len(fields) <= len(TAXONOMY_COLUMNS) or not fields[0]:
            raise DataError(f"{path}, line {number}: expected {_LAYOUT}, got {line[:80]!r}")
        accession, lineage, *others = fields
        genome, source_kind = [*others, "", ""][:2]
        taxa = [taxon.strip() for taxon in lineage.split(";")]
        yield accession, choose_lineage([taxon for taxon in taxa if taxon]), genome, source_kind


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    content = b"".join(read_blocks(path))
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a taxonomy must be UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        is_header = number == 1 and line.startswith("accession")
        if line.strip() and not is_header and not line.startswith("#"):
            yield number, line
