"""From a package's files to one genome: its sequences, each with its proteins.

Reads GFF3 with a FASTA section, GenBank, and FASTA; finds genes where nothing is annotated.
"""

# mypy: untyped-calls-exclude=Bio
# (Biopython ships no types)

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import pyrodigal
from Bio import SeqIO
from Bio.Seq import reverse_complement, translate

from harness.errors import DataError
from tools.dataset.sources import Source

__all__ = ["Contig", "read_genome"]

_GENETIC_CODE: Final = (
    11  # of bacteria, archaea, plastids and their viruses: it starts at more codons
)
_FASTA_SECTION = "##FASTA\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contig:
    """One sequence of a genome, and its proteins."""

    accession: str
    sequence: str
    proteins: tuple[str, ...] = ()


def read_genome(source: Source, members: Mapping[str, bytes]) -> list[Contig]:
    """Read one genome from the members of its archive.

    Raises
    ------
    DataError
        If an accession is missing, or pieces of a sequence do not follow each other.
    """
    text = members[source.member].decode("utf-8")
    contigs = _READERS[source.reader](text)
    if wanted := set(source.accessions):
        contigs = [contig for contig in contigs if contig.accession in wanted]
        if missing := sorted(wanted - {contig.accession for contig in contigs}):
            raise DataError(f"{source.member}: no sequence {missing[0]!r} for {source.genome}")
    if source.genes == "annotated":
        return contigs
    return _find_proteins(contigs, is_meta=source.genes == "pyrodigal-meta")


def _find_proteins(contigs: list[Contig], *, is_meta: bool) -> list[Contig]:
    """Find genes with Prodigal's method; meta mode is for genomes too short to train it on."""
    finder = pyrodigal.GeneFinder(meta=is_meta)
    if not is_meta:
        first, *others = (contig.sequence for contig in contigs)
        finder.train(first, *others, translation_table=_GENETIC_CODE)
    return [
        replace(
            contig,
            proteins=tuple(
                gene.translate(translation_table=_GENETIC_CODE, include_stop=False)
                for gene in finder.find_genes(contig.sequence)
            ),
        )
        for contig in contigs
    ]


def _read_gff(text: str) -> list[Contig]:
    features, _, fasta = text.partition(_FASTA_SECTION)
    genes = [line.split("\t") for line in features.splitlines() if "\tCDS\t" in line]
    return [
        replace(
            contig,
            proteins=tuple(
                _translate_row(gene, contig.sequence)
                for gene in genes
                if gene[0] == contig.accession
            ),
        )
        for contig in _read_fasta(fasta)
    ]


def _translate_row(row: list[str], sequence: str) -> str:
    start, end, strand = int(row[3]), int(row[4]), row[6]
    codons = sequence[start - 1 : end]
    protein: str = translate(
        reverse_complement(codons) if strand == "-" else codons, table=_GENETIC_CODE
    )
    return protein.removesuffix("*")


def _read_genbank(text: str) -> list[Contig]:
    return [
        Contig(
            accession=record.id,
            sequence=str(record.seq).upper(),
            proteins=tuple(
                protein
                for feature in record.features
                for protein in feature.qualifiers.get("translation", ())
            ),
        )
        for record in SeqIO.parse(io.StringIO(text), "genbank")
    ]


def _read_fasta(text: str) -> list[Contig]:
    pieces = (
        (*_parse_header(record.id), str(record.seq).upper())
        for record in SeqIO.parse(io.StringIO(text), "fasta")
    )
    return [Contig(accession=name, sequence=text) for name, text in _join_pieces(pieces).items()]


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
