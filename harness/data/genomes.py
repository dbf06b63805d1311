"""Annotated genomes as input for reading: GenBank entries, cut into records.

How a genome is cut is the windows' business, what an entry holds that of the GenBank reader; the
rows go through the same screening as all others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness.data.formats.genbank import GenBankEntry, read_genbank
from harness.data.windows import extract_fragments
from harness.errors import DataError

__all__ = ["read_genomes"]


def read_genomes(path: Path) -> pa.Table:
    """Read the records of a GenBank file, or of all GenBank files below a folder.

    Parameters
    ----------
    path : Path
        A plain or gzip file, or a folder of them.

    Returns
    -------
    pyarrow.Table
        ``id``, ``nucleotides``, ``protein``, ``lineage``, ``genome``, ``source_kind``, and
        ``source`` and ``row`` (from 1). A frame counts as a gene's if it lies in a protein of its
        genome, whichever entry that stands in.

    Raises
    ------
    MissingInput
        If nothing is there.
    DataError
        If a file cannot be read, an accession stands there twice, or no frame lies within an
        annotated protein.
    """
    genomes: dict[str, list[GenBankEntry]] = defaultdict(list)
    for entry in read_genbank(path):
        genomes[entry.genome].append(entry)
    _refuse_repeats(path, (entry for entries in genomes.values() for entry in entries))
    rows = [row for entries in genomes.values() for row in _cut(entries)]
    if not rows:
        raise DataError(
            f"{path}: no window of 500 bp lies within an annotated protein. Give files with CDS "
            "features, or the records as FASTA pairs"
        )
    names = ("id", "nucleotides", "protein", "lineage", "genome", "source_kind")
    columns = zip(*rows, strict=True)
    table = {
        name: pa.chunked_array([pa.array(column, pa.large_string())])
        for name, column in zip(names, columns, strict=True)
    }
    source = pa.DictionaryArray.from_arrays(np.zeros(len(rows), dtype=np.int32), [str(path)])
    return pa.table({**table, "source": source, "row": np.arange(1, len(rows) + 1)})


def _cut(entries: list[GenBankEntry]) -> Iterable[tuple[str, ...]]:
    by_accession = {entry.accession: entry for entry in entries}
    contigs = {name: entry.sequence for name, entry in by_accession.items()}
    proteins = [protein for entry in entries for protein in entry.proteins]
    for fragment in extract_fragments(contigs, proteins):
        entry = by_accession[fragment.id.accession]
        origin = (entry.lineage, entry.genome, entry.source_kind)
        yield (str(fragment.id), fragment.nucleotides, fragment.protein, *origin)


def _refuse_repeats(path: Path, entries: Iterable[GenBankEntry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.accession in seen:
            raise DataError(f"{path}: {entry.accession} stands there twice. Keep one copy")
        seen.add(entry.accession)
