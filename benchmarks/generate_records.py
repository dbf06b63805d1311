"""Generated record tables of VirNucPro's shape, for measurements at sizes that nobody ships.

Everything is random but the structure: genomes of log-normal length in lineages of one class,
windows in a row, frames of a window, opposite frames that are each other's reverse complement,
and sequences that several genomes of a lineage share. Nothing here resembles real biology.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from Bio.Data import CodonTable

from harness.data.records import RECORD_COLUMNS

__all__ = ["generate_records"]

CODONS_PER_RECORD = 166  # a window of 500 bases, read in one frame
VIRAL_SHARE = 0.3  # of the genomes
OPPOSITE_SHARE = 0.1  # of the windows with two frames
REPEATED_SHARE = 0.01  # rows that carry the sequence of another row of their lineage
ROWS_PER_BATCH = 100_000

Integers = npt.NDArray[np.integer]


def _opposite(codon: str) -> str:
    return codon.translate(str.maketrans("ACGT", "TGCA"))[::-1]


# Codons that are no stop on either strand, and what they spell.
RESIDUE_OF = CodonTable.unambiguous_dna_by_id[1].forward_table
CODONS = [codon for codon in RESIDUE_OF if _opposite(codon) in RESIDUE_OF]
NUCLEOTIDES = np.array([list(codon.encode()) for codon in CODONS], dtype=np.uint8)
RESIDUES = np.array([list(RESIDUE_OF[codon].encode()) for codon in CODONS], dtype=np.uint8)
OPPOSITE = np.array([CODONS.index(_opposite(codon)) for codon in CODONS], dtype=np.uint8)


def generate_records(
    n_records: int, n_genomes: int = 12_000, n_lineages: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Generate a valid record table.

    Parameters
    ----------
    n_records : int
        Rows; at least ``n_genomes``.
    n_genomes : int
        Genomes, of one accession each.
    n_lineages : int
        Lineages; each belongs to one class.
    seed : int
        The same seed gives the same table.

    Returns
    -------
    DataFrame
        With the columns of ``RECORD_COLUMNS``, sorted by genome and window.
    """
    rng = np.random.default_rng(seed)
    genome = _genome_of_rows(rng, n_records, n_genomes)
    row_in_genome = np.arange(n_records) - np.searchsorted(genome, genome)
    lineage = rng.integers(n_lineages, size=n_genomes)[genome]
    label = (lineage < VIRAL_SHARE * n_lineages).astype(np.int8)
    # Three records to two windows: frame F3 alone, then F1 with R2, or with its opposite R3.
    cycle, place = np.divmod(row_in_genome, 3)
    window = (2 * cycle + (place > 0)).astype(np.int32)
    accession = _join("NC_", genome, ".1")
    is_opposite = (place == 2) & (rng.random(n_records) < OPPOSITE_SHARE)
    frame = pa.array(["F3", "F1", "R2", "R3"], pa.large_string()).take(
        pa.array(place + is_opposite)
    )
    codons = _codons(rng, lineage, is_opposite)
    columns = {
        "id": _join(accession, "_chunk_", window, frame),
        "nucleotides": _texts(codons, NUCLEOTIDES),
        "protein": _texts(codons, RESIDUES),
        "label": label,
        "accession": accession,
        "window": window,
        "frame": frame,
        "lineage": _join("lineage ", lineage),
        "source_kind": pa.array(["bacterium", "phage"], pa.large_string()).take(pa.array(label)),
        "genome": accession,
    }
    return pd.DataFrame({name: _column(columns[name]) for name in RECORD_COLUMNS})


def _genome_of_rows(rng: np.random.Generator, n_records: int, n_genomes: int) -> Integers:
    lengths = rng.lognormal(size=n_genomes)
    extra_rows = rng.multinomial(n_records - n_genomes, lengths / lengths.sum())
    return np.repeat(np.arange(n_genomes), 1 + extra_rows)


def _codons(
    rng: np.random.Generator, lineage: Integers, is_opposite: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Return indices into CODONS: (row, codon)."""
    shape = (len(lineage), CODONS_PER_RECORD)
    codons = rng.integers(len(CODONS), size=shape, dtype=np.uint8)
    order = np.lexsort([rng.random(len(lineage)), lineage])  # by lineage, at random within
    row, before = order[1:], order[:-1]
    is_copy = (lineage[row] == lineage[before]) & (rng.random(len(row)) < REPEATED_SHARE)
    codons[row[is_copy]] = codons[before[is_copy]]
    opposite = np.flatnonzero(is_opposite)
    codons[opposite] = OPPOSITE[codons[opposite - 1, ::-1]]
    return codons


def _texts(codons: npt.NDArray[np.uint8], letters: npt.NDArray[np.uint8]) -> pa.ChunkedArray:
    """Spell each row: ``letters`` are the bytes of each codon, (codon, n_letters)."""
    width = codons.shape[1] * letters.shape[1]
    chunks = []
    for start in range(0, len(codons), ROWS_PER_BATCH):
        spelled = letters[codons[start : start + ROWS_PER_BATCH]]  # (row, codon, letter)
        offsets = np.arange(len(spelled) + 1) * width
        chunks.append(
            pa.LargeStringArray.from_buffers(
                len(spelled), pa.py_buffer(offsets), pa.py_buffer(spelled)
            )
        )
    return pa.chunked_array(chunks, pa.large_string())


def _join(*parts: str | Integers | pa.Array) -> pa.Array:
    texts = [
        pa.scalar(part, pa.large_string())
        if isinstance(part, str)
        else pa.array(part).cast(pa.large_string())
        for part in parts
    ]
    return pc.binary_join_element_wise(*texts, pa.scalar("", pa.large_string()))


def _column(values: npt.NDArray[np.int8] | pa.Array | pa.ChunkedArray) -> pd.Series:
    if isinstance(values, np.ndarray):
        return pd.Series(values)
    return pd.Series(pd.array(values, dtype=pd.ArrowDtype(pa.large_string()))).astype("str")
