"""Taxonomy tables are made of what NCBI and ICTV publish."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.data.taxonomy import make_taxonomy, read_taxonomy
from harness.errors import MissingInput

NODES = {
    "1": ("1", "no rank", "root"),
    "10239": ("1", "acellular root", "Viruses"),
    "10841": ("10239", "family", "Microviridae"),
    "2886930": ("10841", "species", "Escherichia phage phiX174"),
    "2": ("1", "domain", "Bacteria"),
    "561": ("2", "genus", "Escherichia"),
    "562": ("561", "species", "Escherichia coli"),
    "511145": ("562", "strain", "Escherichia coli K-12"),
}


@pytest.fixture
def taxdump(tmp_path: Path) -> Path:
    """Return a folder with a small taxdump, in which an old number was merged."""
    folder = tmp_path / "taxdump"
    folder.mkdir()
    nodes = [f"{n}\t|\t{parent}\t|\t{rank}\t|\tXX\t|\n" for n, (parent, rank, _) in NODES.items()]
    names = [f"{n}\t|\t{name}\t|\t\t|\tscientific name\t|\n" for n, (*_, name) in NODES.items()]
    names.append("562\t|\tBacterium coli\t|\t\t|\tsynonym\t|\n")
    (folder / "nodes.dmp").write_text("".join(nodes))
    (folder / "names.dmp").write_text("".join(names))
    (folder / "merged.dmp").write_text("99\t|\t511145\t|\n")
    return folder


def make(
    sources: list[Path], *accessions: str, taxdump: Path | None = None
) -> list[tuple[str, ...]]:
    """Return the rows of the table that is made."""
    table = make_taxonomy(sources, accessions, taxdump=taxdump)
    return list(table.itertuples(index=False, name=None))


def test_accession2taxid_then_family_or_genus_and_the_kind(tmp_path: Path, taxdump: Path) -> None:
    """As GenBank's own lineage says it; versions and merged numbers are followed."""
    path = tmp_path / "nucl.accession2taxid.gz"
    lines = "NC_001422\tNC_001422.1\t2886930\t9\nU00096\tU00096.3\t99\t1\nX0\tX0.1\t2\t3\n"
    path.write_bytes(gzip.compress(f"accession\taccession.version\ttaxid\tgi\n{lines}".encode()))

    assert make([path], "NC_001422.1", "U00096", taxdump=taxdump) == [
        ("NC_001422.1", "Microviridae", "", "virus"),
        ("U00096", "Escherichia", "", "bacterium"),
    ]


def test_assembly_summary_then_the_assembly_is_the_genome(tmp_path: Path, taxdump: Path) -> None:
    """Its header follows a line of comment."""
    path = tmp_path / "assembly_summary.txt"
    path.write_text("##  See README\n#assembly_accession\tbioproject\ttaxid\nGCF_1.2\tP\t562\n")

    assert make([path], "GCF_1.2", taxdump=taxdump) == [
        ("GCF_1.2", "Escherichia", "GCF_1.2", "bacterium")
    ]


def test_vmr_then_the_segments_of_a_virus_are_one_genome(tmp_path: Path) -> None:
    """A cell may name several, with what they are; the second source fills in."""
    path = tmp_path / "VMR.csv"
    path.write_text(
        "Isolate ID,Realm,Family,Genus,Species,Virus GENBANK accession,Virus REFSEQ accession\n"
        'V1,Riboviria,Arenaviridae,Mammarenavirus,M. lassaense,"L: U73034; S: J04324",'
        '"L: NC_004297; S: NC_004296"\n'
    )

    assert make([path], "NC_004296.1", "U73034") == [
        ("NC_004296.1", "Arenaviridae", "NC_004297", "virus"),
        ("U73034", "Arenaviridae", "U73034", "virus"),
    ]


def test_made_table_when_read_then_says_the_same(tmp_path: Path) -> None:
    """What an earlier source does not tell, a later one fills in."""
    for name, row in {"a": "NC_1\t\tG1", "b": "NC_1.1\tFamily\tG2"}.items():
        (tmp_path / name).write_text(f"accession\tlineage\tgenome\n{row}\n")
    table = make_taxonomy([tmp_path / "a", tmp_path / "b"], ["NC_1.1"])
    table.to_csv(tmp_path / "made.tsv", sep="\t", index=False)

    rows = read_taxonomy(tmp_path / "made.tsv").itertuples(index=False, name=None)
    assert list(rows) == [("NC_1.1", "Family", "G1", "")]


def test_taxids_without_a_taxdump_then_says_what_to_name(tmp_path: Path) -> None:
    """Numbers are no lineages."""
    (tmp_path / "x").write_text("accession\taccession.version\ttaxid\tgi\nA\tA.1\t2\t3\n")

    with pytest.raises(MissingInput) as refused:
        make([tmp_path / "x"], "A")
    assert "--taxdump" in refused.value.remedy
