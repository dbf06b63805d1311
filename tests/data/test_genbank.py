"""GenBank files: sequence, proteins, lineage, records, and what is wrong with broken ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from Bio.Seq import Seq
from Bio.SeqFeature import CompoundLocation, FeatureLocation, SeqFeature
from Bio.SeqIO import write
from Bio.SeqRecord import SeqRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.genbank import GenBankEntry, choose_lineage, is_genbank, read_genbank
from harness.data.read import read_records
from harness.data.records import check_records
from harness.errors import DataError, MissingInput

# mypy: untyped-calls-exclude=Bio

PHAGE = """\
LOCUS       NC_001422                 30 bp ss-DNA     circular PHG 06-JUL-2018
DEFINITION  a phage, complete genome.
ACCESSION   NC_001422
VERSION     NC_001422.1
DBLINK      BioProject: PRJNA14015
            Assembly: GCF_000819615.1
SOURCE      Escherichia phage phiX174
  ORGANISM  Escherichia phage phiX174
            Viruses; Monodnaviria; Sangervirae; Microviridae;
            Bullavirinae; Sinsheimervirus.
FEATURES             Location/Qualifiers
     source          1..30
                     /organism="Escherichia phage phiX174"
     CDS             1..9
                     /codon_start=1
                     /transl_table=11
                     /translation="MKL"
     CDS             complement(10..21)
                     /codon_start=1
                     /transl_table=11
     CDS             22..30
                     /pseudo
ORIGIN
        1 gtgaaacttt tatttgcgca tgacgtaaac
//
"""
UNTRANSLATED = PHAGE.replace('                     /translation="MKL"\n', "")
PLASTID = """\
LOCUS       NC_000932                 10 bp    DNA     circular PLN 06-JUL-2018
ACCESSION   NC_000932
VERSION     NC_000932.1
SOURCE      chloroplast Arabidopsis thaliana (thale cress)
  ORGANISM  Arabidopsis thaliana
            Eukaryota; Viridiplantae; Brassicaceae; Camelineae; Arabidopsis.
FEATURES             Location/Qualifiers
ORIGIN
        1 acgtacgtac
//
"""


def read(folder: Path, content: str) -> tuple[GenBankEntry, ...]:
    """Write the content to a file and return its entries."""
    path = folder / "x.gb"
    path.write_text(content)
    return tuple(read_genbank(path))


def test_phage_then_sequence_proteins_lineage_and_assembly(tmp_path: Path) -> None:
    """As in VirNucPro, the proteins are the translations that the entry holds (M for GTG)."""
    (entry,) = read(tmp_path, PHAGE)
    assert entry == GenBankEntry(
        accession="NC_001422.1",
        lineage="Microviridae",
        source_kind="phage",
        genome="GCF_000819615.1",
        sequence="GTGAAACTTTTATTTGCGCATGACGTAAAC",
        proteins=("MKL",),
    )


def test_entry_without_any_translation_then_genes_are_translated_but_pseudogenes(
    tmp_path: Path,
) -> None:
    """It says so, since VirNucPro would make no records of it."""
    (entry,) = read(tmp_path, UNTRANSLATED)
    assert entry.proteins == ("VKL", "MRK")
    assert entry.is_translated_here


@pytest.mark.parametrize("strand", [1, -1])
def test_gene_over_the_origin_then_its_protein_is_whole(tmp_path: Path, strand: int) -> None:
    """The pieces of a join() are read in the gene's order on either strand."""
    gene = Seq("ATGAAACTGTTTTATGCTCGT")
    record = SeqRecord(gene[12:] + gene[:12], id="QQ1.1", name="QQ1")
    record.annotations["molecule_type"] = "DNA"
    pieces = [FeatureLocation(9, 21, strand=1), FeatureLocation(0, 9, strand=1)]
    record.features = [SeqFeature(CompoundLocation(pieces), type="CDS")]
    if strand < 0:
        record = record.reverse_complement(id=True, name=True, annotations=True)
    write(record, tmp_path / "x.gb", "genbank")
    (entry,) = read_genbank(tmp_path / "x.gb")
    assert entry.proteins == ("MKLFYAR",)


def test_plastid_then_last_taxon_and_its_kind(tmp_path: Path) -> None:
    """Without a virus family the last taxon stands for the lineage; no assembly: the accession."""
    (entry,) = read(tmp_path, PLASTID)
    found = (entry.lineage, entry.source_kind, entry.genome)
    assert found == ("Arabidopsis", "plastid", "NC_000932.1")


@pytest.mark.parametrize(
    ("division", "source", "domain", "kind"),
    [
        ("VRL", "Lassa virus", "Viruses", "virus"),
        ("PHG", "Escherichia phage", "Viruses", "phage"),
        ("BCT", "Yersinia pestis", "Bacteria", "bacterium"),
        ("BCT", "Methanobacterium", "Archaea", "archaeon"),
        ("PRI", "human", "Eukaryota", "eukaryote"),
        ("PRI", "mitochondrion Homo sapiens (human)", "Eukaryota", "mitochondrion"),
        ("SYN", "synthetic DNA construct", "other sequences", ""),
    ],
)
def test_source_of_each_kind_then_named(
    tmp_path: Path, division: str, source: str, domain: str, kind: str
) -> None:
    """The domain decides, an organelle before it, and GenBank's division tells phages."""
    content = (
        PLASTID.replace("PLN", division)
        .replace("chloroplast Arabidopsis thaliana (thale cress)", source)
        .replace("Eukaryota", domain)
    )
    (entry,) = read(tmp_path, content)
    assert entry.source_kind == kind


def test_plasmid_when_its_definition_says_so_then_is_no_chromosome(tmp_path: Path) -> None:
    """False positives are told by kind of source, and plasmids are one of their own."""
    content = PLASTID.replace("chloroplast Arabidopsis thaliana (thale cress)", "Yersinia pestis")
    content = content.replace("Eukaryota", "Bacteria")
    content = content.replace("ACCESSION", "DEFINITION  Y. pestis plasmid pPCP1.\nACCESSION", 1)
    (entry,) = read(tmp_path, content)
    assert entry.source_kind == "plasmid"


def test_headers_only_then_no_sequence_and_no_proteins(tmp_path: Path) -> None:
    """A taxonomy needs no features, so these may even be broken."""
    path = tmp_path / "x.gb"
    path.write_text(PHAGE.replace('"MKL"', '"MKL'))
    (entry,) = read_genbank(path, is_header_only=True)
    found = (entry.lineage, entry.genome, entry.sequence, entry.proteins)
    assert found == ("Microviridae", "GCF_000819615.1", "", ())


def test_folder_then_entries_of_all_its_files_in_order(tmp_path: Path) -> None:
    """Packed files and CRLF line ends are read as well; other files are passed over."""
    (tmp_path / "deeper").mkdir()
    (tmp_path / "a.gbk.gz").write_bytes(gzip.compress((PHAGE + PLASTID).encode()))
    crlf = PHAGE.replace("NC_001422", "NC_000002").replace("\n", "\r\n").encode()
    (tmp_path / "deeper" / "b.gbff").write_bytes(crlf)
    (tmp_path / "notes.txt").write_text("nothing")
    accessions = [entry.accession for entry in read_genbank(tmp_path)]
    assert accessions == ["NC_001422.1", "NC_000932.1", "NC_000002.1"]


def test_folder_without_genbank_files_then_missing_input(tmp_path: Path) -> None:
    """The endings that were looked for are listed."""
    with pytest.raises(MissingInput, match=r"holds no GenBank file; looked for \.gb, "):
        tuple(read_genbank(tmp_path))


@pytest.mark.parametrize("content", ["", "junk\x00\x01\n", ">a\nACGT\n"])
def test_file_without_an_entry_then_error(tmp_path: Path, content: str) -> None:
    """A file of another kind is not an empty taxonomy."""
    with pytest.raises(DataError, match=r"x\.gb: expected GenBank entries"):
        read(tmp_path, content)


def test_file_cut_short_anywhere_then_error(tmp_path: Path) -> None:
    """No part of an entry passes for the whole; Biopython alone would only warn."""
    for length in range(1, len(PHAGE) - 3, 23):
        with pytest.raises(DataError, match=r"x\.gb"):
            read(tmp_path, PHAGE[:length])


@pytest.mark.parametrize(
    ("old", "new"),
    [("gtgaaacttt ", ""), ("//\n", "")],
    ids=["fewer-bases-than-locus-says", "no-end-mark"],
)
def test_sequence_that_is_not_whole_then_error(tmp_path: Path, old: str, new: str) -> None:
    """Biopython only warns of both."""
    with pytest.raises(DataError, match=r"x\.gb: the sequence is cut short"):
        read(tmp_path, PHAGE.replace(old, new))


@pytest.mark.parametrize(
    "content",
    [
        PHAGE.replace("ORIGIN\n", "").replace("//\n", "") + PLASTID,
        PHAGE.replace('/translation="MKL"', '/translation="MKL'),
        PHAGE.replace('/organism="Esch', '\n                     organism="Esch'),
    ],
    ids=["no-origin-no-end", "open-quote", "qualifier-without-slash"],
)
def test_feature_table_with_a_fault_then_error(tmp_path: Path, content: str) -> None:
    """Biopython raises an error of another kind for each of these."""
    with pytest.raises(DataError, match=r"x\.gb: not a readable GenBank file"):
        read(tmp_path, content)


def test_coding_sequence_of_broken_codons_then_whole_ones_are_translated(tmp_path: Path) -> None:
    """A gene at a fragment's edge may end within a codon."""
    content = UNTRANSLATED.replace("complement(10..21)", "complement(11..>21)")
    (entry,) = read(tmp_path, content)
    assert entry.proteins == ("VKL", "MRK")


@given(place=st.integers(0, len(PHAGE) - 1), text=st.text(max_size=20))
@settings(max_examples=40)
def test_entry_with_changed_text_then_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, text: str
) -> None:
    """Whatever was damaged, no other error comes out."""
    folder = tmp_path_factory.getbasetemp()
    path = folder / "changed.gb"
    path.write_text(PHAGE[:place] + text + PHAGE[place + len(text) :], encoding="utf-8")
    try:
        entries = tuple(read_genbank(path))
    except DataError:
        return
    assert all(entry.accession for entry in entries)


def test_entry_without_its_sequence_then_error_says_what_to_download(tmp_path: Path) -> None:
    """An assembly's outline (CONTIG) has no bases to cut into windows."""
    content = PLASTID.replace("ORIGIN\n        1 acgtacgtac\n", "CONTIG      join(X1.1:1..10)\n")
    with pytest.raises(DataError, match=r"NC_000932\.1 has no sequence of its own"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        UNTRANSLATED.replace("gtgaaacttt tatttgcgca tgacgtaaac", "mklllfahdvmklllfahdvmklllfahdv"),
        UNTRANSLATED.replace("complement(10..21)", "X1.1:1..9"),
        UNTRANSLATED.replace("transl_table=11", "transl_table=99"),
    ],
    ids=["a-protein", "in-another-entry", "unknown-code"],
)
def test_coding_sequence_that_cannot_be_translated_then_error_names_it(
    tmp_path: Path, content: str
) -> None:
    """Rather than a genome with a protein less."""
    with pytest.raises(
        DataError, match=r"NC_001422\.1: the coding sequence at .* cannot be transl"
    ):
        read(tmp_path, content)


def test_entry_without_accession_then_error(tmp_path: Path) -> None:
    """An entry that nothing can refer to is of no use."""
    content = PLASTID.replace("VERSION     NC_000932.1", "VERSION     .").replace(
        "ACCESSION   NC_000932", "ACCESSION   ."
    )
    with pytest.raises(DataError, match="has no accession"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("taxa", "lineage"),
    [
        (["Viruses", "ssDNA viruses", "Microviridae", "Microvirus"], "Microviridae"),
        (["Viruses", "Caudoviricetes", "Straboviridae", "Tevenvirinae"], "Straboviridae"),
        (["Viruses", "Uroviricota", "Caudoviricetes"], "Caudoviricetes"),
        (["Viruses", "Pospiviroidae", "Pospiviroid"], "Pospiviroidae"),
        (["Viruses", "Tolecusatellitidae", "Betasatellite"], "Tolecusatellitidae"),
        (["Viruses", "unclassified viruses"], "unclassified viruses"),
        (["Bacteria"], "Bacteria"),
        ([], ""),
    ],
)
def test_lineage_then_the_family_or_the_last_taxon(taxa: list[str], lineage: str) -> None:
    """One taxon stands for the lineage."""
    assert choose_lineage(taxa) == lineage


def test_genbank_told_from_a_table_then_by_its_content(tmp_path: Path) -> None:
    """A file's name says nothing; a folder can only hold GenBank files."""
    genbank, table = tmp_path / "a.txt", tmp_path / "b.gb"
    genbank.write_bytes(gzip.compress(PHAGE.encode()))
    table.write_text("accession\tlineage\n")
    assert (is_genbank(genbank), is_genbank(table), is_genbank(tmp_path)) == (True, False, True)


def write_genome(
    path: Path, accession: str, *, seed: int, is_annotated: bool = True, assembly: str = ""
) -> Path:
    """Write a genome of three overlapping windows inside a gene on the forward strand."""
    codons = ["ATG", *np.random.default_rng(seed).choice(["GCT", "AAA", "GAT", "CTG"], 399)]
    sequence = Seq("".join(codons))
    record = SeqRecord(sequence, id=accession, name=accession.split(".")[0])
    record.annotations["molecule_type"] = "DNA"
    record.annotations["organism"] = "Escherichia phage test"
    record.annotations["taxonomy"] = ["Viruses", "Microviridae", "Testvirus"]  # type: ignore[assignment] # Biopython's own form
    record.dbxrefs = [f"Assembly:{assembly}"] if assembly else []
    if is_annotated:
        protein = str(sequence.translate())
        gene = SeqFeature(FeatureLocation(0, 1200, strand=1), type="CDS")
        gene.qualifiers = {"translation": [protein]}
        record.features = [gene]
    write(record, path, "genbank")
    return path


def test_read_records_when_given_genbank_then_windows_inside_genes_become_records(
    tmp_path: Path,
) -> None:
    """The lineage comes from the organism, the id from accession, window and frame."""
    viral = write_genome(tmp_path / "phage.gb", "NC_1.1", seed=1, assembly="GCF_1.1")

    records = read_records([viral], []).records

    check_records(records)
    assert records["id"].tolist() == [f"NC_1.1_chunk_{number}F1" for number in (1, 2, 3)]
    assert records["nucleotides"].str.len().tolist() == [499, 499, 402]
    assert records["protein"].str.len().tolist() == [166, 166, 134]
    assert set(records["lineage"]) == {"Microviridae"}
    assert set(records["genome"]) == {"GCF_1.1"}
    assert set(records["label"]) == {1}


def test_read_records_when_given_a_folder_then_files_of_every_usual_name_are_read(
    tmp_path: Path,
) -> None:
    """Upper case counts alike; what is passed over is named, but for what macOS leaves."""
    names = ("a.gb", "b.GBK", "c.gbff", "d.gbf", "e.genbank", "f.Seq")
    for number, name in enumerate(names):
        write_genome(tmp_path / name, f"NC_{number}.1", seed=number)
    packed = (tmp_path / "a.gb").read_bytes().replace(b"NC_0", b"NC_9")
    (tmp_path / "g.GB.gz").write_bytes(gzip.compress(packed))
    for other in ("._a.gb", "h.gbk.bz2"):
        (tmp_path / other).write_text("no genome")

    record_set = read_records([tmp_path], [])

    expected = [f"NC_{number}.1" for number in (*range(len(names)), 9)]
    assert sorted(set(record_set.records["accession"])) == expected
    named = [line for line in record_set.summarise() if "passed over" in line]
    assert named == [
        f"passed over, since nothing that is read is called so: {tmp_path / 'h.gbk.bz2'}"
    ]


def test_read_records_when_a_genome_has_no_genes_then_it_says_what_to_give(tmp_path: Path) -> None:
    """Without annotation no frame is known to be a gene's."""
    path = write_genome(tmp_path / "bare.gb", "NC_1.1", seed=1, is_annotated=False)

    with pytest.raises(DataError, match="no window of 500 bp lies within an annotated protein"):
        read_records([path], [])


def test_read_records_when_a_genome_is_there_twice_then_it_is_named(tmp_path: Path) -> None:
    """Two copies of one file would give every record twice."""
    for name in ("a.gb", "copy_of_a.gb"):
        write_genome(tmp_path / name, "NC_1.1", seed=1)

    with pytest.raises(DataError, match=r"NC_1\.1 stands there twice"):
        read_records([tmp_path], [])
