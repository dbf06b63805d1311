"""From a package's files to one genome: its sequences and its proteins.

Reads GFF3 with a FASTA section, GenBank, and FASTA; finds genes where nothing is annotated.
"""

# mypy: untyped-calls-exclude=Bio
# (Biopython ships no types)

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyrodigal
from Bio import SeqIO
from Bio.Seq import reverse_complement, translate

from acceptance.data.sources import Source
from harness.data.records import GENETIC_CODE
from harness.errors import DataError

__all__ = ["Genome", "read_genome"]

_FASTA_SECTION = "##FASTA\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Genome:
    """The sequences of one assembly, by accession, and its proteins."""

    contigs: Mapping[str, str]
    proteins: tuple[str, ...]


def read_genome(source: Source, members: Mapping[str, bytes]) -> Genome:
    """Read one genome from the members of its archive.

    Raises
    ------
    DataError
        If an accession is missing, or pieces of a sequence do not follow each other.
    """
    text = members[source.member].decode("utf-8")
    genome = _READERS[source.reader](text, set(source.accessions))
    if missing := sorted(set(source.accessions) - set(genome.contigs)):
        raise DataError(f"{source.member}: no sequence {missing[0]!r} for {source.genome}")
    if source.genes == "annotated":
        return genome
    proteins = _find_proteins(genome.contigs, is_meta=source.genes == "pyrodigal-meta")
    return Genome(contigs=genome.contigs, proteins=proteins)


def _find_proteins(contigs: Mapping[str, str], *, is_meta: bool) -> tuple[str, ...]:
    """Find genes with Prodigal's method; meta mode is for genomes too short to train it on."""
    finder = pyrodigal.GeneFinder(meta=is_meta)
    if not is_meta:
        first, *others = contigs.values()
        finder.train(first, *others, translation_table=GENETIC_CODE)
    return tuple(
        gene.translate(translation_table=GENETIC_CODE, include_stop=False)
        for sequence in contigs.values()
        for gene in finder.find_genes(sequence)
    )


def _read_gff(text: str, accessions: set[str]) -> Genome:
    features, _, fasta = text.partition(_FASTA_SECTION)
    genome = _read_fasta(fasta, accessions)
    rows = [line.split("\t") for line in features.splitlines() if "\tCDS\t" in line]
    proteins = [_translate_row(row, genome.contigs) for row in rows if row[0] in genome.contigs]
    return Genome(contigs=genome.contigs, proteins=tuple(proteins))


def _translate_row(row: list[str], contigs: Mapping[str, str]) -> str:
    accession, start, end, strand = row[0], int(row[3]), int(row[4]), row[6]
    codons = contigs[accession][start - 1 : end]
    protein: str = translate(
        reverse_complement(codons) if strand == "-" else codons, table=GENETIC_CODE
    )
    return protein.removesuffix("*")


def _read_genbank(text: str, accessions: set[str]) -> Genome:
    records = [
        record
        for record in SeqIO.parse(io.StringIO(text), "genbank")
        if not accessions or record.id in accessions
    ]
    return Genome(
        contigs={record.id: str(record.seq).upper() for record in records},
        proteins=tuple(
            protein
            for record in records
            for feature in record.features
            if feature.type == "CDS"
            for protein in feature.qualifiers.get("translation", ())
        ),
    )


def _read_fasta(text: str, accessions: set[str]) -> Genome:
    pieces = (
        (*_parse_header(record.id), str(record.seq).upper())
        for record in SeqIO.parse(io.StringIO(text), "fasta")
    )
    chosen = (piece for piece in pieces if not accessions or piece[0] in accessions)
    return Genome(contigs=_join_pieces(chosen), proteins=())


def _parse_header(name: str) -> tuple[str, int]:
    """Take an accession and the piece's start from one of three kinds of FASTA id.

    NCBI's old ``gi|9629357|ref|NC_001802.1|``, tiara's ``bacteria_AE015924.1_15000_30000``, and
    the plain accession.
    """
    if name.startswith("gi|"):
        return name.split("|")[3], 0
    words = name.split("_")
    if len(words) >= 4 and words[-1].isdigit() and words[-2].isdigit():
        return "_".join(words[1:-2]), int(words[-2])
    return name, 0


def _join_pieces(pieces: Iterable[tuple[str, int, str]]) -> dict[str, str]:
    joined: dict[str, list[str]] = {}
    ends: dict[str, int] = {}
    for accession, start, sequence in pieces:
        if start != ends.get(accession, 0):
            raise DataError(
                f"{accession}: a piece starts at {start}, expected {ends.get(accession, 0)}"
            )
        joined.setdefault(accession, []).append(sequence)
        ends[accession] = start + len(sequence)
    return {accession: "".join(parts) for accession, parts in joined.items()}


_READERS = {"gff": _read_gff, "genbank": _read_genbank, "fasta": _read_fasta}
