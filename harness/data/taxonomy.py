"""Which lineage, genome and kind of source an accession belongs to: tables read, joined and made.

Owns how such a table, or GenBank files in its place, is read and joined to records, and how one is
made of what NCBI (accession2taxid, assembly_summary.txt, taxdump) and ICTV (VMR) publish. How one
GenBank entry is read, and which taxon stands for a lineage, is decided in ``genbank``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from harness.data.genbank import DOMAINS, choose_lineage, is_genbank, read_genbank
from harness.data.inputs import open_text
from harness.errors import DataError, MissingInput

__all__ = ["TAXONOMY_COLUMNS", "join_taxonomy", "make_taxonomy", "read_taxonomy"]


TAXONOMY_COLUMNS = ("accession", "lineage", "genome", "source_kind")

_LAYOUT = "accession <TAB> lineage [<TAB> genome [<TAB> source_kind]]"
# What people call each column, in lower case with underscores; the first one found is taken.
_NAMES = {
    "accession": ("accession", "accession_version", "accession_number"),
    "lineage": ("lineage", "taxonomy", "family"),
    "genome": ("genome", "assembly", "assembly_accession"),
    "source_kind": ("source_kind",),
}
_ALL_NAMES = frozenset(chain.from_iterable(_NAMES.values()))
_VERSION = r"\.\d+$"
_MIN_KNOWN_SHARE = Fraction(1, 2)
_SHOWN = 3
_NUMBERS = (
    f"Give a table {_LAYOUT}. One of taxon numbers (NCBI's accession2taxid) says nothing without "
    "the names of the taxa: `harness taxonomy` puts both together"
)


def read_taxonomy(path: Path) -> pd.DataFrame:
    """Read a taxonomy.

    Parameters
    ----------
    path : Path
        A table separated by tabs or commas (plain or gzip, UTF-8), or a GenBank file, or a folder
        of those. Where its first line names an accession, the columns are taken by name; otherwise
        they are accession, lineage and, if known, genome and source_kind. Blank lines and lines
        that start with ``#`` are passed over.

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
    rows = _from_genbank(path) if is_genbank(path) else _from_table(path)
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
        ``TAXONOMY_COLUMNS``. What it does not know stays as it is in ``rows``. An accession without
        its version stands for the one with it, on either side.

    Returns
    -------
    tuple of (pyarrow.Table, int)
        The rows, in which each genome that is still "" is the accession; and how many accessions
        the taxonomy does not hold.

    Raises
    ------
    DataError
        If it holds less than half of the accessions whose lineage nothing else tells.
    """
    unknown = 0
    if taxonomy is not None:
        table = pa.Table.from_pandas(taxonomy, preserve_index=False)
        places = _find(rows["accession"], table["accession"])
        unknown = len(pc.unique(rows["accession"].filter(pc.is_null(places))))
        _check_matches(rows, places, table["accession"])
        for name in TAXONOMY_COLUMNS[1:]:
            found = pc.fill_null(table[name].take(places), "")
            rows = _replace(rows, name, _first_known(found, rows[name]))
    return _replace(rows, "genome", _first_known(rows["genome"], rows["accession"])), unknown


def _find(accessions: pa.ChunkedArray, known: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the place of each accession among those that are known; null where there is none."""
    bare = pc.replace_substring_regex(known, _VERSION, "")
    is_shared = bare.to_pandas().duplicated(keep=False).to_numpy()  # by several versions
    unversioned = pc.if_else(pa.array(is_shared), None, bare.combine_chunks())
    return pc.coalesce(
        pc.index_in(accessions, value_set=known),
        pc.index_in(pc.replace_substring_regex(accessions, _VERSION, ""), value_set=known),
        pc.index_in(accessions, value_set=unversioned),
    )


def _check_matches(rows: pa.Table, places: pa.ChunkedArray, known: pa.ChunkedArray) -> None:
    is_open = pc.equal(rows["lineage"], "")
    needed = pc.unique(rows["accession"].filter(is_open))
    missing = pc.unique(rows["accession"].filter(pc.and_(is_open, pc.is_null(places))))
    if len(needed) - len(missing) < _MIN_KNOWN_SHARE * len(needed):
        raise DataError(
            f"the taxonomy holds {len(needed) - len(missing):,} of {len(needed):,} accessions, "
            f"under 50%. The records have {_shown(missing)}; the taxonomy has {_shown(known)}. "
            "Name the table of these records, with the accessions that their ids begin with"
        )


def _shown(accessions: pa.Array | pa.ChunkedArray) -> str:
    return ", ".join(map(repr, accessions[:_SHOWN].to_pylist()))


def _first_known(texts: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(texts, ""), others, texts)


def _replace(rows: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)


def _from_genbank(path: Path) -> Iterator[tuple[str, ...]]:
    for entry in read_genbank(path, is_header_only=True):
        yield entry.accession, entry.lineage, entry.genome, entry.source_kind


def _from_table(path: Path) -> Iterator[tuple[str, ...]]:
    rows = table_rows(path)
    first = next(rows, (0, []))
    if _is_header(first[1]):
        columns, width = _columns_by_name(path, first[1]), len(first[1])
    else:
        columns = {name: place for place, name in enumerate(TAXONOMY_COLUMNS)}
        rows, width = chain([first] if first[0] else [], rows), len(TAXONOMY_COLUMNS)
    for number, fields in rows:
        row = {name: fields[at] for name, at in columns.items() if at < len(fields)}
        if not 2 <= len(fields) <= width or not row.get("accession"):
            raise DataError(
                f"{path}, line {number}: expected {_LAYOUT}, got {' '.join(fields)[:80]!r}"
            )
        lineage = row.get("lineage", "")
        if lineage.isdigit() or re.fullmatch(re.escape(row["accession"]) + _VERSION, lineage):
            raise DataError(f"{path}, line {number}: {lineage!r} is no lineage. {_NUMBERS}")
        taxa = [taxon.strip() for taxon in lineage.split(";")]
        family = choose_lineage([taxon for taxon in taxa if taxon])
        yield row["accession"], family, row.get("genome", ""), row.get("source_kind", "")


def _columns_by_name(path: Path, header: list[str]) -> dict[str, int]:
    names = [column_name(name) for name in header]
    columns = {
        column: names.index(known[0])
        for column, aliases in _NAMES.items()
        if (known := [alias for alias in aliases if alias in names])
    }
    for column in ("accession", "lineage"):
        if column not in columns:
            raise DataError(
                f"{path}: of the columns {', '.join(header)[:200]} none is called "
                f"{' or '.join(_NAMES[column])}. {_NUMBERS}"
            )
    return columns


def _is_header(fields: list[str]) -> bool:
    return len(fields) > 1 and not _ALL_NAMES.isdisjoint(map(column_name, fields))


def column_name(name: str) -> str:
    """Return a column's name in lower case with underscores."""
    return re.sub(r"[ .\-]", "_", name.lower())


def table_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is no comment, but for a header's."""
    delimiter = ""
    with open_text(path) as (lines, _):
        try:
            for number, line in enumerate(lines, start=1):
                separator = delimiter or ("\t" if "\t" in line else ",")
                fields = _split(line.lstrip("# "), separator)
                is_row = not line.startswith("#") or (not delimiter and _is_header(fields))
                if any(fields) and is_row:
                    delimiter = separator
                    yield number, fields
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: a taxonomy must be UTF-8 text: {error}") from error


def _split(line: str, separator: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=separator), [])]


_Row = tuple[str, ...]  # of TAXONOMY_COLUMNS
_TAXON = "taxid"
_ACCESSIONS = ("accession_version", "accession", "assembly_accession")
_VMR_ACCESSIONS = ("virus_genbank_accession", "virus_refseq_accession")
_RANKS = ("realm", "kingdom", "phylum", "class", "order", "family", "genus")
_ACCESSION = re.compile(r"[A-Z]{1,2}_?\d{5,9}(?:\.\d+)?")
_DUMPS = ("nodes.dmp", "names.dmp", "merged.dmp")


def make_taxonomy(
    sources: Sequence[Path], accessions: Collection[str], *, taxdump: Path | None = None
) -> pd.DataFrame:
    """Return what some sources tell of some accessions.

    Parameters
    ----------
    sources : sequence of Path
        Any that ``read_taxonomy`` reads, NCBI's accession2taxid or assembly_summary.txt, or ICTV's
        VMR as csv. What an earlier one does not tell a later one fills in.
    accessions : collection of str
        Of the records; versions may be left out on either side.
    taxdump : Path, optional
        NCBI's names.dmp, nodes.dmp and merged.dmp; needed for tables with taxids.

    Returns
    -------
    DataFrame
        ``TAXONOMY_COLUMNS``, one row per accession that is known, sorted.

    Raises
    ------
    MissingInput
        If a file is not there, or taxids come without a taxdump.
    DataError
        If a source cannot be read.
    """
    wanted = {_bare(name): name for name in accessions}
    known: dict[str, _Row] = {}
    for source in sources:
        for accession, *values in _read(source, wanted, taxdump):
            if name := wanted.get(_bare(accession)):
                former = known.get(name, (name, *[""] * len(values)))
                known[name] = (name, *(a or b for a, b in zip(former[1:], values, strict=True)))
    return pd.DataFrame(sorted(known.values()), columns=list(TAXONOMY_COLUMNS), dtype="str")


def _bare(accession: str) -> str:
    return re.sub(_VERSION, "", accession)


def _read(path: Path, wanted: Collection[str], taxdump: Path | None) -> Iterable[_Row]:
    header = [] if is_genbank(path) else next(table_rows(path), (0, []))[1]
    names = [column_name(field) for field in header]
    if _TAXON in names and (key := next((name for name in _ACCESSIONS if name in names), None)):
        if taxdump is None:
            raise MissingInput(
                f"{path} tells taxids, which say nothing without the names of the taxa",
                remedy="Name the folder of NCBI's names.dmp, nodes.dmp and merged.dmp: --taxdump",
            )
        is_assembly = key == "assembly_accession"
        return _of_taxids(path, names.index(key), names.index(_TAXON), wanted, taxdump, is_assembly)
    if set(names) & set(_VMR_ACCESSIONS):
        return _of_vmr(path, names)
    return read_taxonomy(path).itertuples(index=False, name=None)


def _of_taxids(
    path: Path, key: int, taxon: int, wanted: Collection[str], taxdump: Path, is_assembly: bool
) -> Iterator[_Row]:
    """Yield the rows of a table with taxids; hundreds of millions of lines, few of them wanted."""
    nodes = _Nodes(taxdump)
    with open_text(path) as (lines, _):
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if len(fields) > max(key, taxon) and _bare(fields[key]) in wanted:
                lineage, kind = nodes.describe(fields[taxon])
                yield fields[key], lineage, fields[key] if is_assembly else "", kind


class _Nodes:
    """NCBI's taxonomy: each taxon's name, rank and parent."""

    def __init__(self, folder: Path) -> None:
        nodes, names, merged = (folder / name for name in _DUMPS)
        self._parents = {row[0]: (row[1], row[2]) for row in _dump(nodes)}
        self._names = {row[0]: row[1] for row in _dump(names) if row[3] == "scientific name"}
        self._merged = {row[0]: row[1] for row in _dump(merged)} if merged.exists() else {}
        self.describe = cache(self._describe)

    def _describe(self, taxid: str) -> tuple[str, str]:
        """Return the taxon that stands for a lineage, as in GenBank files, and the source kind."""
        taxid = self._merged.get(taxid, taxid)
        taxa: list[str] = []
        while taxid in self._parents:
            parent, rank = self._parents[taxid]
            taxa = [] if rank == "species" else [self._names.get(taxid, ""), *taxa]
            if parent == taxid:
                break
            taxid = parent
        kinds = [DOMAINS[name] for name in taxa if name in DOMAINS]
        return choose_lineage(taxa), "".join(kinds[:1])


def _dump(path: Path) -> Iterator[list[str]]:
    with open_text(path) as (lines, _):
        for line in lines:
            fields = line.rstrip("\t|\n").split("\t|\t")
            if len(fields) < 2:
                raise DataError(f"{path}: not a file of NCBI's taxdump: {line[:60]!r}")
            yield fields


def _of_vmr(path: Path, names: Sequence[str]) -> Iterator[_Row]:
    """Yield each accession of each virus; the segments of one virus are one genome."""
    rows = table_rows(path)
    next(rows)
    for _, fields in rows:
        row = dict(zip(names, fields, strict=False))
        taxa = [row[rank] for rank in _RANKS if row.get(rank)]
        for column in _VMR_ACCESSIONS:
            found = _ACCESSION.findall(row.get(column, ""))
            for accession in found:
                yield accession, row.get("family") or choose_lineage(taxa), found[0], "virus"
