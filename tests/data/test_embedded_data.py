"""The embedded data set: that it is what its provenance says, and fit to be split and learned."""

from __future__ import annotations

# mypy: untyped-calls-exclude=Bio
# (Biopython ships no types)
import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from Bio.Seq import reverse_complement, translate

from harness.data.read import read_records
from harness.data.windows import WINDOW_BASES
from harness.errors import DataError

FOLDER = Path(__file__).parents[2] / "acceptance" / "data"
CLASSES = ("viral", "nonviral")
VIRAL_KINDS = {"phage", "virus"}
CELL_KINDS = {"bacterium", "archaeon", "plastid", "eukaryote", "plasmid"}
LARGEST_COMMIT_BYTES = 4_000_000


class Place(NamedTuple):
    """What the taxonomy says of an accession."""

    lineage: str
    genome: str
    source_kind: str


@cache
def read_lines(name: str) -> list[str]:
    """Return the lines of a file, which may be gzip."""
    content = (FOLDER / name).read_bytes()
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode().splitlines()


def read_ids(name: str) -> list[str]:
    """Return the ids of a FASTA file."""
    return [line.removeprefix(">") for line in read_lines(name)[::2]]


def accession_of(record_id: str) -> str:
    """Return the accession that an id begins with."""
    return record_id.partition("_chunk_")[0]


def read_sequences(kind: str) -> list[str]:
    """Return the sequences of both classes, viral ones first."""
    return [line for name in CLASSES for line in read_lines(f"{name}_{kind}.fa.gz")[1::2]]


@cache
def read_taxonomy() -> dict[str, Place]:
    """Return the taxonomy by accession."""
    rows = (line.split("\t") for line in read_lines("taxonomy.tsv")[1:])
    return {accession: Place(*columns) for accession, *columns in rows}


def read_places(class_name: str) -> list[Place]:
    """Return the taxonomy's entry for each record of a class."""
    taxonomy = read_taxonomy()
    return [taxonomy[accession_of(each)] for each in read_ids(f"{class_name}_nucleotide.fa.gz")]


@cache
def read_provenance() -> dict[str, Any]:
    """Return the provenance."""
    provenance: dict[str, Any] = json.loads((FOLDER / "provenance.json").read_text())
    return provenance


@pytest.mark.parametrize("class_name", CLASSES)
def test_class_when_split_then_gives_at_least_225_test_rows(class_name: str) -> None:
    """A tenth of each class is enough to judge a drop of five points."""
    assert 2250 <= len(read_ids(f"{class_name}_nucleotide.fa.gz")) <= 2500


@pytest.mark.parametrize("class_name", CLASSES)
def test_fasta_pair_when_read_line_by_line_then_has_ids_and_sequences_in_turn(
    class_name: str,
) -> None:
    """Headers hold the id alone, a sequence is one line, and both files have the same order."""
    nucleotides = read_lines(f"{class_name}_nucleotide.fa.gz")
    proteins = read_lines(f"{class_name}_protein.fa.gz")
    assert all(re.fullmatch(r">\S+_chunk_\d+[FR][123]", line) for line in nucleotides[::2])
    assert all(re.fullmatch("[ACGT]+", line) for line in nucleotides[1::2])
    assert nucleotides[::2] == proteins[::2]
    assert len(nucleotides) == len(proteins)


def test_ids_when_both_classes_are_joined_then_are_unique() -> None:
    """No id stands for two records."""
    ids = [each for name in CLASSES for each in read_ids(f"{name}_nucleotide.fa.gz")]
    assert len(set(ids)) == len(ids)


def test_records_when_translated_then_give_their_proteins() -> None:
    """Each protein is what its nucleotides' codons mean, without a stop."""
    proteins = read_sequences("protein")
    codons = [each[: len(each) // 3 * 3] for each in read_sequences("nucleotide")]
    assert [translate(each) for each in codons] == proteins
    assert not any("*" in protein for protein in proteins)


def test_records_when_measured_then_have_a_base_more_than_their_codons() -> None:
    """As VirNucPro cuts them, unless the window ends before; the longest fill their windows."""
    lengths = Counter(map(len, read_sequences("nucleotide")))
    assert max(lengths) == WINDOW_BASES // 3 * 3 + 1
    assert lengths[max(lengths)] > 0.5 * lengths.total()


def test_nucleotides_when_strands_count_alike_then_are_unique() -> None:
    """No record repeats another or its reverse complement."""
    strands = [min(each, reverse_complement(each)) for each in read_sequences("nucleotide")]
    assert len(set(strands)) == len(strands)


def test_proteins_when_compared_then_are_unique() -> None:
    """No protein occurs twice, in one class or across them."""
    proteins = read_sequences("protein")
    assert len(set(proteins)) == len(proteins)


def test_proteins_when_compared_by_words_then_are_no_near_copies() -> None:
    """No two proteins share more than half of their distinct 8-residue words."""
    vocabularies = [
        {protein[start : start + 8] for start in range(len(protein) - 7)}
        for protein in read_sequences("protein")
    ]
    holders: dict[str, list[int]] = defaultdict(list)
    for number, words in enumerate(vocabularies):
        common = [word for word in words if word.startswith("L")]  # near copies share one of them
        for other in {other for word in common for other in holders[word]}:
            largest = max(len(words), len(vocabularies[other]))
            assert 2 * len(words & vocabularies[other]) <= largest
        for word in common:
            holders[word].append(number)


def test_taxonomy_when_compared_with_the_records_then_covers_their_accessions() -> None:
    """Every accession has one row, and every row has records."""
    rows = read_lines("taxonomy.tsv")
    assert rows[0] == "accession\tlineage\tgenome\tsource_kind"
    assert len(rows) == len(read_taxonomy()) + 1
    accessions = {
        accession_of(each) for name in CLASSES for each in read_ids(f"{name}_protein.fa.gz")
    }
    assert accessions == set(read_taxonomy())


def test_taxonomy_when_grouped_by_genome_then_gives_each_one_lineage_and_kind() -> None:
    """An assembly of several accessions is one thing."""
    assert len({place.genome for place in read_taxonomy().values()}) == len(
        set(read_taxonomy().values())
    )


def test_lassa_segments_when_looked_up_then_are_one_genome() -> None:
    """The two segments of a virus are one assembly."""
    assert read_taxonomy()["NC_004296.1"] == read_taxonomy()["NC_004297.1"]


def test_viral_class_when_grouped_then_has_many_lineages() -> None:
    """At least 15 lineages, and nothing but phages and viruses."""
    places = read_places("viral")
    assert len({place.lineage for place in places}) >= 15
    assert {place.source_kind for place in places} == VIRAL_KINDS


def test_nonviral_class_when_grouped_then_has_many_sources_of_every_kind() -> None:
    """At least 12 genomes, from all domains of cells and from plastids."""
    places = read_places("nonviral")
    assert len({place.genome for place in places}) >= 12
    assert {place.source_kind for place in places} == CELL_KINDS


@pytest.mark.parametrize("class_name", CLASSES)
def test_class_when_grouped_then_no_source_dominates(class_name: str) -> None:
    """No genome holds more than 15% of its class, and no lineage more than 20%."""
    places = read_places(class_name)
    genomes = Counter(place.genome for place in places)
    lineages = Counter(place.lineage for place in places)
    assert max(genomes.values()) <= 0.15 * len(places)
    assert max(lineages.values()) <= 0.20 * len(places)


@pytest.mark.parametrize("is_viral", [True, False])
def test_draw_when_lineages_are_compared_then_is_even_as_far_as_they_reach(is_viral: bool) -> None:
    """A lineage has fewer records than another only if all of its distinct ones were drawn."""
    drawn, available = Counter[str](), Counter[str]()
    for source in read_provenance()["sources"]:
        if (source["source_kind"] in VIRAL_KINDS) == is_viral:
            drawn[source["lineage"]] += source["records"]
            available[source["lineage"]] += source["available"]
    unfinished = [drawn[lineage] for lineage in drawn if drawn[lineage] < available[lineage]]
    assert max(drawn.values()) - min(unfinished) <= 1


def test_draw_when_genomes_of_a_lineage_are_compared_then_is_even_as_far_as_they_reach() -> None:
    """The same holds for the genomes of a lineage."""
    by_lineage = defaultdict(list)
    for source in read_provenance()["sources"]:
        by_lineage[source["lineage"]].append(source)
    for sources in by_lineage.values():
        largest = max(source["records"] for source in sources)
        rest = [each["records"] for each in sources if each["records"] < each["available"]]
        assert all(largest - records <= 1 for records in rest)


def test_provenance_when_counted_again_then_agrees_with_the_records() -> None:
    """Each source gave as many records as the provenance says."""
    places = Counter(place for name in CLASSES for place in read_places(name))
    recorded = {
        Place(source["lineage"], source["genome"], source["source_kind"]): source["records"]
        for source in read_provenance()["sources"]
    }
    assert places == recorded


def test_provenance_when_digests_are_taken_again_then_agrees_with_every_file() -> None:
    """The content of each file is what the provenance describes, compressed or not."""
    for name, recorded in read_provenance()["files"].items():
        stored = (FOLDER / name).read_bytes()
        content = gzip.decompress(stored) if name.endswith(".gz") else stored
        assert hashlib.sha256(content).hexdigest() == recorded["sha256"], name
        assert hashlib.sha256(stored).hexdigest() == recorded["stored_sha256"], name


def test_files_when_listed_then_all_stand_in_the_provenance() -> None:
    """No data file escapes the digests."""
    data = {path.name for path in FOLDER.iterdir() if path.suffix in {".gz", ".tsv"}}
    assert data | {"LICENCES.md"} == set(read_provenance()["files"])


def test_gzip_headers_when_read_then_hold_neither_time_nor_name() -> None:
    """The bytes depend on the content alone: flags and time are zero."""
    headers = {path.read_bytes()[3:8] for path in FOLDER.glob("*.gz")}
    assert headers == {bytes(5)}


def test_folder_when_weighed_then_is_small_enough_for_git() -> None:
    """All that is committed is at most 4 MB."""
    sizes = [path.stat().st_size for path in FOLDER.iterdir() if path.is_file()]
    assert sum(sizes) <= LARGEST_COMMIT_BYTES


def test_licences_when_read_then_name_every_package() -> None:
    """Each package has its licence, word for word, and is permissive."""
    headings = [line for line in read_lines("LICENCES.md") if line.startswith("## ")]
    archives = read_provenance()["archives"]
    assert headings == [f"## {a['package']} {a['version']} ({a['licence']})" for a in archives]
    assert {a["licence"] for a in archives} == {"MIT", "WTFPL", "LicenseRef-Biopython"}


def test_readme_when_its_tables_are_added_up_then_agrees_with_the_provenance() -> None:
    """People read the same counts of genomes and records as programs."""
    rows = [line.strip("| ").split(" | ") for line in read_lines("README.md") if "|" in line]
    told = {
        row[0]: (int(row[2]), int(row[3])) for row in rows if len(row) == 5 and row[2].isdigit()
    }
    sources = read_provenance()["sources"]
    assert told == {
        lineage: (
            sum(each["lineage"] == lineage for each in sources),
            sum(each["records"] for each in sources if each["lineage"] == lineage),
        )
        for lineage in {each["lineage"] for each in sources}
    }


def test_classes_when_the_files_are_swapped_then_refused() -> None:
    """The accuracies would be the same, of the wrong question."""
    prefixes = [FOLDER / name for name in ("nonviral", "viral")]

    with pytest.raises(DataError, match=r"\d+ of \d[\d,]+ records are of the other class"):
        read_records(prefixes[:1], prefixes[1:], taxonomy=FOLDER / "taxonomy.tsv")
