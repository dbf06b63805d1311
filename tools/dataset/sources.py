"""The genomes of the embedded data set: where each is found, and what it counts as.

Tables only. A lineage is a single-linkage cluster of genomes that share at least 5% of the smaller
one's 21-mers, both strands counted alike. Within clusters every genome shares at least 8% with
another one, and across them no pair more than 3.4%, so the line is clear. The phage files name no
family, so a cluster is called after its best-known member; viruses are called by the family in
their file or their name, cells by their organism.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SOURCES", "Source"]

_Reader = Literal["gff", "genbank", "fasta"]
_Genes = Literal["annotated", "pyrodigal-meta", "pyrodigal-trained"]

_VIRAL_KINDS = frozenset({"phage", "virus"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One genome: where its files are, and what it counts as.

    Attributes
    ----------
    genome : str
        The assembly's name in the taxonomy.
    accessions : tuple of str
        The sequences to use; empty for all that the members hold.
    genes : str
        Whether proteins come from the annotation or from a gene finder.
    """

    genome: str
    lineage: str
    kind: str
    package: str
    member: str
    reader: _Reader
    accessions: tuple[str, ...] = ()
    genes: _Genes = "annotated"

    @property
    def is_viral(self) -> bool:
        """Whether its records have label 1."""
        return self.kind in _VIRAL_KINDS


def _bas(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"Bas{number:02}" for number in range(first, last + 1))


# The phages of lovis4u's guide. Its copies of Lambda and of P2 (NC_001895.1) are left out: the
# first is taken from gbdraw with its published annotation, the second stands under its short name.
_PHAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "BaselCollection": {
        "Bas01-like": _bas(1, 3),
        "Bas04-like": _bas(4, 5),
        "Bas06-like": _bas(6, 7),
        "Bas08-like": _bas(8, 8),
        "Bas09-like": _bas(9, 9),
        "Bas10-like": _bas(10, 11),
        "Bas12-like": _bas(12, 12),
        "Bas13-like": _bas(13, 13),
        "Bas14-like": _bas(14, 18),
        "Bas19-like": _bas(19, 20),
        "Bas21-like": _bas(21, 25),
        "T5-like": (*_bas(26, 34), "T5"),
        "T4-like": (*_bas(35, 47), "T2", "T4D", "T6"),
        "Bas48-like": _bas(48, 59),
        "Bas60-like": _bas(60, 62),
        "Bas63-like": _bas(63, 63),
        "T7-like": (*_bas(64, 66), "T7"),
        "Bas67-like": _bas(67, 68),
        "N4-like": (*_bas(69, 69), "N4"),
        "P1-like": ("P1",),
        "P2-like": ("P2",),
    },
    "gff_files": {"P2-like": ("NC_005056.1", "NC_028943.1", "NC_049457.1", "NC_049461.1")},
    "unailigned_gffs": {"VIPECOMC04-like": ("BK048435.1", "OP072870.1", "PQ423993.1")},
}


def _lovis4u_phages() -> tuple[Source, ...]:
    guide = "lovis4u-0.2.0/lovis4u/lovis4u_data/guide"
    return tuple(
        Source(
            genome=genome,
            lineage=lineage,
            kind="phage",
            package="lovis4u",
            member=f"{guide}/{folder}/{genome}.gff",
            reader="gff",
        )
        for folder, lineages in _PHAGES.items()
        for lineage, genomes in lineages.items()
        for genome in genomes
    )


def _gbdraw(genome: str, lineage: str, kind: str, member: str) -> Source:
    return Source(
        genome=genome,
        lineage=lineage,
        kind=kind,
        package="gbdraw",
        member=f"gbdraw/web/tutorial-data/{member}",
        reader="genbank",
    )


def _biopython(
    genome: str, lineage: str, kind: str, member: str, *, accessions: tuple[str, ...] = ()
) -> Source:
    return Source(
        genome=genome,
        lineage=lineage,
        kind=kind,
        package="biopython",
        member=f"biopython-1.88/Tests/{member}",
        reader="genbank",
        accessions=accessions,
    )


def _tiara(
    genome: str,
    kind: str,
    member: str,
    *,
    accessions: tuple[str, ...],
    lineage: str | None = None,
    genes: _Genes = "pyrodigal-trained",
) -> Source:
    return Source(
        genome=genome,
        lineage=lineage or genome,
        kind=kind,
        package="tiara",
        member=f"tiara/test/test_data/{member}",
        reader="fasta",
        accessions=accessions,
        genes=genes,
    )


_VIRUSES = (
    # DE3 carries T7's RNA polymerase gene; the rest of it is Lambda's.
    _gbdraw("NC_001416.1", "Lambda-like", "phage", "lambda/NC_001416.gb"),
    _gbdraw("NC_042057.1", "Lambda-like", "phage", "de3/NC_042057.1.gb"),
    _biopython("phiX174", "Microviridae", "phage", "GFF/NC_001422.gbk"),
    # The second of two isolates: the first has nothing but another copy of the same gene.
    _biopython(
        "Feline panleukopenia virus 94-1",
        "Parvoviridae",
        "virus",
        "GenBank/gbvrl1_start.seq",
        accessions=("AB000049.1", "AB000050.1"),
    ),
    _biopython("Influenza A virus", "Orthomyxoviridae", "virus", "GenBank/EU851978.gbk"),
    Source(
        genome="HIV-1",
        lineage="Retroviridae",
        kind="virus",
        package="biopython",
        member="biopython-1.88/Tests/GFF/NC_001802.fna",
        reader="fasta",
        genes="pyrodigal-meta",
    ),
    Source(
        genome="Lassa virus",
        lineage="Arenaviridae",
        kind="virus",
        package="clasv",
        member="CLASV/raw_data/All_LASV_06_07_24.fasta",
        reader="fasta",
        accessions=("NC_004296.1", "NC_004297.1"),
        genes="pyrodigal-meta",
    ),
)

_FIVE = "hepatoplasmataceae-five"
_CLUSTERS = "aminoglycoside-bgc-five"

# Animal mitochondria are left out: they use other genetic codes, and under code 11 not one frame
# of the annotated ones (human, zebrafish, fly, worm) lies within an annotated protein.
_CELLS = (
    _gbdraw("AP027133.1", "Hepatoplasma scabrum", "bacterium", "depth-1kb/AP027133.gb"),
    _gbdraw("AP027131.1", "Hepatoplasma vulgare", "bacterium", f"{_FIVE}/AP027131.gb"),
    _gbdraw("AP027132.1", "Hepatoplasma crinochetorum", "bacterium", f"{_FIVE}/AP027132.gb"),
    _gbdraw("NZ_CP006932.1", "Hepatoplasma crinochetorum", "bacterium", f"{_FIVE}/NZ_CP006932.gb"),
    _gbdraw("AP027078.1", "Tyloplasma litorale", "bacterium", f"{_FIVE}/AP027078.gb"),
    *(
        _gbdraw(cluster, "Streptomyces", "bacterium", f"{_CLUSTERS}/{cluster}.gbk")
        for cluster in ("BGC0000708", "BGC0000709", "BGC0000711", "BGC0000712", "BGC0000713")
    ),
    _tiara(
        "Porphyromonas gingivalis", "bacterium", "bacteria_fr.fasta", accessions=("AE015924.1",)
    ),
    _tiara("Methanobacterium sp. MB1", "archaeon", "archaea_fr.fasta", accessions=("HG425166.1",)),
    _biopython("pPCP1", "Yersinia pestis", "plasmid", "GenBank/NC_005816.gb"),
    _gbdraw(
        "Nicotiana tabacum plastid",
        "Angiosperm plastids",
        "plastid",
        "tobacco-plastome-regions/NC_001879.gbk",
    ),
    _biopython(
        "Arabidopsis thaliana plastid", "Angiosperm plastids", "plastid", "GenBank/NC_000932.gb"
    ),
    _tiara(
        "Acorus gramineus plastid",
        "plastid",
        "plast_fr.fasta",
        accessions=("NC_026299.1",),
        lineage="Angiosperm plastids",
        genes="pyrodigal-meta",
    ),
    _biopython("Arabidopsis thaliana", "Arabidopsis thaliana", "eukaryote", "GenBank/arab1.gb"),
    _biopython(
        "Drosophila melanogaster",
        "Drosophila melanogaster",
        "eukaryote",
        "GenBank/extra_keywords.gb",
    ),
    # Annotated eukaryotes yield few frames, since introns interrupt them. This fungus yields many,
    # but from a gene finder made for prokaryotes; its eight longest scaffolds are enough.
    _tiara(
        "Fibroporia radiculosa",
        "eukaryote",
        "eukarya_fr.fasta",
        accessions=(
            "NW_012133457.1",
            "NW_012133392.1",
            "NW_012133166.1",
            "NW_012133383.1",
            "NW_012133393.1",
            "NW_012133375.1",
            "NW_012133307.1",
            "NW_012133411.1",
        ),
    ),
)

SOURCES: tuple[Source, ...] = (*_lovis4u_phages(), *_VIRUSES, *_CELLS)
