"""GenBank files: a genome's sequence, its annotated proteins, its lineage, and its records.

Owns which taxon of an entry's lineage stands for it, and which files of a folder are GenBank's.
Parsing is Biopython's, how a sequence is cut is decided in ``windows``; the rows go through the
same screening as all others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from Bio.Data.CodonTable import TranslationError
from Bio.GenBank.Scanner import GenBankScanner
from Bio.SeqFeature import SeqFeature
from Bio.SeqRecord import SeqRecord

from harness.data.inputs import list_files, open_input, open_text
from harness.data.records import VIRAL_ENDINGS
from harness.data.windows import WINDOW_BASES, extract_fragments
from harness.errors import DataError, MissingInput

__all__ = [
    "GenBankEntry",
    "choose_lineage",
    "genbank_files",
    "is_genbank",
    "read_genbank",
    "read_genomes",
]


_ENDINGS = tuple(
    f".{name}{packed}"
    for name in ("gb", "gbk", "gbff", "gbf", "genbank", "seq")
    for packed in ("", ".gz")
)
# As ICTV names families of viruses, viroids and satellites.
_DOMAINS = {
    "Viruses": "virus",
    "Bacteria": "bacterium",
    "Archaea": "archaeon",
    "Eukaryota": "eukaryote",
}
# The first word of SOURCE, where the sequence is an organelle's.
_ORGANELLES = {
    "mitochondrion": "mitochondrion",
    "kinetoplast": "mitochondrion",
    "apicoplast": "plastid",
    "chloroplast": "plastid",
    "chromoplast": "plastid",
    "cyanelle": "plastid",
    "leucoplast": "plastid",
    "plastid": "plastid",
}
_PHAGE_DIVISION = "PHG"
_UNKNOWN_ACCESSIONS = ("", ".", "<unknown id>")
# Biopython only warns when the sequence is shorter than it should be.
_CUT_SHORT = ("Premature end", "Expected sequence length")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenBankEntry:
    """One sequence of a GenBank file.

    Attributes
    ----------
    accession : str
        With its version, where the entry has one.
    lineage : str
        The taxon that stands for the entry (see ``choose_lineage``); "" if it has none.
    source_kind : str
        phage, virus, bacterium, archaeon, eukaryote, plastid or mitochondrion; "" if unknown.
    genome : str
        The assembly that DBLINK names, otherwise the accession.
    sequence : str
        Upper-case nucleotides; "" if only headers were read.
    proteins : tuple of str
        Its ``translation`` qualifiers; where it has none, the translations of its coding sequences,
        without pseudogenes. Empty if only headers were read.
    is_translated_here : bool
        Whether the proteins are such translations. VirNucPro makes no records of those.
    """

    accession: str
    lineage: str
    source_kind: str
    genome: str
    sequence: str
    proteins: tuple[str, ...]
    is_translated_here: bool = False


def read_genbank(path: Path, *, is_header_only: bool = False) -> Iterator[GenBankEntry]:
    """Read the entries of a GenBank file, or of all GenBank files below a folder.

    Parameters
    ----------
    path : Path
        A plain or gzip file, or a folder with files such as ``*.gb``, ``*.gbk.gz``, ``*.gbff``.
    is_header_only : bool
        Leave out the sequence and the proteins, which takes a fraction of the time.

    Yields
    ------
    GenBankEntry
        In the order of paths and, within a file, in its order.

    Raises
    ------
    MissingInput
        If nothing is there.
    DataError
        If a file is not GenBank or is cut short, or an entry lacks its accession or sequence.
    """
    for file in genbank_files(path):
        is_empty = True
        for record in _parse(file, is_header_only=is_header_only):
            is_empty = False
            yield _entry(file, record, is_header_only=is_header_only)
        if is_empty:
            raise DataError(f"{file}: expected GenBank entries (LOCUS ...), found none")


def choose_lineage(taxa: Sequence[str]) -> str:
    """Return the taxon that stands for a lineage.

    Parameters
    ----------
    taxa : sequence of str
        From the widest to the narrowest.

    Returns
    -------
    str
        The family of a virus (-viridae), viroid (-viroidae) or satellite (-satellitidae), otherwise
        the last taxon; "" for none.

    Examples
    --------
    >>> choose_lineage(["Viruses", "Monodnaviria", "Microviridae", "Sinsheimervirus"])
    'Microviridae'
    >>> choose_lineage(["Bacteria", "Mycoplasmatota", "Mollicutes"])
    'Mollicutes'
    """
    families = [taxon for taxon in taxa if taxon.endswith(VIRAL_ENDINGS)]
    return families[0] if families else "".join(taxa[-1:])


def is_genbank(path: Path) -> bool:
    """Tell a GenBank file or a folder of them from another file, by its first word."""
    if path.is_dir():
        return True
    with open_input(path) as (stream, _):
        return stream.read(5) == b"LOCUS"


def genbank_files(path: Path) -> tuple[Path, ...]:
    """Return a file itself, or all GenBank files below a folder, sorted by path.

    Raises
    ------
    MissingInput
        If a folder holds none.
    DataError
        If a folder cannot be read.
    """
    if not path.is_dir():
        return (path,)
    files = tuple(file for file in list_files(path) if _is_named_genbank(file))
    if not files:
        raise MissingInput(
            f"{path} holds no GenBank file; looked for {', '.join(_ENDINGS)}",
            remedy="Name the folder that holds them",
        )
    return files


def _is_named_genbank(file: Path) -> bool:
    return file.name.lower().endswith(_ENDINGS)


def _parse(path: Path, *, is_header_only: bool) -> Iterator[SeqRecord]:
    with open_text(path) as (text, _):
        scanner = GenBankScanner()  # type: ignore[no-untyped-call]
        records = scanner.parse_records(text, do_features=not is_header_only)  # type: ignore[no-untyped-call]
        while (record := _next(path, records)) is not None:
            yield record


def _next(path: Path, records: Iterator[SeqRecord]) -> SeqRecord | None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            record = next(records, None)
        except (ValueError, LookupError, AssertionError) as error:
            raise DataError(f"{path}: not a readable GenBank file: {error}") from error
    for warning in caught:
        if str(warning.message).startswith(_CUT_SHORT):
            raise DataError(f"{path}: the sequence is cut short: {warning.message}")
    return record


def _entry(path: Path, record: SeqRecord, *, is_header_only: bool) -> GenBankEntry:
    accession = str(record.id)
    if accession in _UNKNOWN_ACCESSIONS:
        raise DataError(f"{path}: the entry {record.name!r} has no accession")
    stored = [text for feature in record.features for text in _stored_translations(feature)]
    translated = [] if stored else [_translate(path, record, gene) for gene in _genes(record)]
    return GenBankEntry(
        accession=accession,
        lineage=choose_lineage(_taxa(record)),
        source_kind=_source_kind(record),
        genome=_assembly(record) or accession,
        sequence="" if is_header_only else _sequence(path, record),
        proteins=tuple(stored or translated),
        is_translated_here=bool(translated),
    )


def _source_kind(record: SeqRecord) -> str:
    notes = record.annotations
    source = str(notes.get("source", "")).split()
    if source and source[0] in _ORGANELLES:
        return _ORGANELLES[source[0]]
    kind = _DOMAINS.get("".join(_taxa(record)[:1]), "")
    is_phage = kind == "virus" and notes.get("data_file_division") == _PHAGE_DIVISION
    return "phage" if is_phage else kind


def _taxa(record: SeqRecord) -> list[str]:
    taxa = record.annotations.get("taxonomy")
    return taxa if isinstance(taxa, list) else []


def _assembly(record: SeqRecord) -> str:
    names = [entry.removeprefix("Assembly:") for entry in record.dbxrefs if "Assembly:" in entry]
    return "".join(names[:1]).strip()


def _sequence(path: Path, record: SeqRecord) -> str:
    if record.seq is None or not record.seq.defined:
        raise DataError(
            f"{path}: {record.id} has no sequence of its own (CONTIG). Download it with parts"
        )
    return str(record.seq)


def _stored_translations(feature: SeqFeature) -> Sequence[str]:
    stored: Sequence[str] = feature.qualifiers.get("translation", ())
    return stored


def _genes(record: SeqRecord) -> Iterator[SeqFeature]:
    for feature in record.features:
        if feature.type == "CDS" and not {"pseudo", "pseudogene"} & set(feature.qualifiers):
            yield feature


def _translate(path: Path, record: SeqRecord, feature: SeqFeature) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a partial codon at a fragment's edge is left out
        try:
            protein = feature.translate(record.seq, cds=False)  # type: ignore[no-untyped-call]
            return str(protein).rstrip("*")
        except (ValueError, LookupError, TranslationError) as error:
            raise DataError(
                f"{path}: {record.id}: the coding sequence at {feature.location} has no "
                f"translation and cannot be translated: {error}"
            ) from error


def read_genomes(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """Read the records of a GenBank file, or of all GenBank files below a folder.

    Parameters
    ----------
    path : Path
        A plain or gzip file, or a folder of them.

    Returns
    -------
    tuple of (pyarrow.Table, tuple of str)
        ``id``, ``nucleotides``, ``protein``, ``lineage``, ``genome``, ``source_kind``, and
        ``source`` and ``row`` (from 1); and lines that a person should read.

    Raises
    ------
    MissingInput
        If nothing is there.
    DataError
        If a file cannot be read, an accession stands there twice, or no frame lies within an
        annotated protein.
    """
    seen: dict[str, bool] = {}
    rows: list[tuple[str, ...]] = []
    for entry in read_genbank(path):
        if entry.accession in seen:
            raise DataError(f"{path}: {entry.accession} stands there twice. Keep one copy")
        seen[entry.accession] = entry.is_translated_here
        rows += _cut(entry)
    if not rows:
        raise DataError(
            f"{path}: no window of {WINDOW_BASES} bp lies within an annotated protein. Give files "
            "with CDS features, or the records as FASTA pairs"
        )
    names = ("id", "nucleotides", "protein", "lineage", "genome", "source_kind")
    columns = zip(*rows, strict=True)
    table = {
        name: pa.chunked_array([pa.array(column, pa.large_string())])
        for name, column in zip(names, columns, strict=True)
    }
    source = pa.DictionaryArray.from_arrays(np.zeros(len(rows), dtype=np.int32), [str(path)])
    found = pa.table({**table, "source": source, "row": np.arange(1, len(rows) + 1)})
    translated = [accession for accession, is_translated_here in seen.items() if is_translated_here]
    return found, tuple(_notes(path, translated))


def _cut(entry: GenBankEntry) -> Iterator[tuple[str, ...]]:
    origin = (entry.lineage, entry.genome, entry.source_kind)
    for fragment in extract_fragments(entry.accession, entry.sequence, entry.proteins):
        yield (fragment.id, fragment.nucleotides, fragment.protein, *origin)


def _notes(path: Path, translated: list[str]) -> Iterator[str]:
    if translated:
        yield (
            f"{path}: {len(translated)} accessions have no `translation` qualifier, such as "
            f"{translated[0]}; their coding sequences were translated. VirNucPro makes no records "
            "of them"
        )
    if path.is_dir():
        for file in list_files(path):
            if not _is_named_genbank(file):
                yield f"passed over, since its name is no GenBank file's: {file}"
