"""Annotated genomes, cut into records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from Bio.Seq import Seq
from Bio.SeqFeature import FeatureLocation, SeqFeature
from Bio.SeqIO import write
from Bio.SeqRecord import SeqRecord

from harness.data.read import read_records
from harness.data.records import check_records
from harness.errors import DataError

# mypy: untyped-calls-exclude=Bio


def write_genome(
    path: Path, accession: str, *, seed: int, is_annotated: bool = True, assembly: str = ""
) -> Path:
    """Write a genome of two windows, the first inside a gene on the forward strand."""
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
    assert records["id"].tolist() == ["NC_1.1_chunk_1F1", "NC_1.1_chunk_2F2"]
    assert set(records["lineage"]) == {"Microviridae"}
    assert set(records["genome"]) == {"GCF_1.1"}
    assert set(records["label"]) == {1}


def test_read_records_when_given_a_folder_then_all_its_genomes_are_read(tmp_path: Path) -> None:
    """A folder of GenBank files is one input."""
    for number in (1, 2, 3):
        write_genome(tmp_path / f"{number}.gbk", f"NC_{number}.1", seed=number)

    records = read_records([tmp_path], []).records

    assert sorted(set(records["accession"])) == ["NC_1.1", "NC_2.1", "NC_3.1"]


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
