"""A taxonomy table made of what NCBI and ICTV publish, for the accessions of some records.

Owns NCBI's accession2taxid, assembly_summary.txt and taxdump, and ICTV's VMR. What the table then
says of records is ``taxonomy``'s business.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from harness.data.genbank import DOMAINS, choose_lineage, is_genbank
from harness.data.inputs import open_text
from harness.data.taxonomy import TAXONOMY_COLUMNS, column_name, read_taxonomy, table_rows
from harness.errors import DataError, MissingInput

__all__ = ["make_taxonomy"]

_Row = tuple[str, ...]  # of TAXONOMY_COLUMNS
_TAXON = "taxid"
_ACCESSIONS = ("accession_version", "accession", "assembly_accession")
_VMR_ACCESSIONS = ("virus_genbank_accession", "virus_refseq_accession")
_RANKS = ("realm", "kingdom", "phylum", "class", "order", "family", "genus")
_ACCESSION = re.compile(r"[A-Z]{1,2}_?\d{5,9}(?:\.\d+)?")
_DUMPS = ("nodes.dmp", "names.dmp", "merged.dmp")
_VERSION = re.compile(r"\.\d+$")


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
    return _VERSION.sub("", accession)


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
