"""The record table: one row per translated frame of a window.

What a row holds and what makes a table valid. Reading files into it is the readers' work.

From a genome to records as VirNucPro prepares them: windows, six frames, known proteins.

Owns what counts as a window, a frame and a training fragment. Reading genomes and their
annotation is the caller's work, and so is the label.

What reading yields: the records, the rows that could not be records, and their summary.

Nothing is read here; which rows are refused is decided by the screening.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import pandas as pd
from Bio.Seq import reverse_complement, translate

from harness.artifacts import digest_columns, write_atomically
from harness.errors import DataError

__all__ = [
    "GENETIC_CODE",
    "RECORD_COLUMNS",
    "WINDOW_LENGTH",
    "Fragment",
    "RecordId",
    "RecordSet",
    "check_records",
    "cut_windows",
    "digest_content",
    "extract_fragments",
    "parse_record_id",
]


# Text columns are pandas' Arrow-backed `str`; unknown text is "", an unknown window is -1.
RECORD_COLUMNS = {
    "id": "str",  # NC_029549.1_chunk_3R2: unique
    "nucleotides": "str",  # the frame's codons, upper-case ACGT
    "protein": "str",  # their translation, without a stop
    "label": "int8",  # 1 viral, 0 not
    "accession": "str",  # NC_029549.1
    "window": "int32",  # 3
    "frame": "str",  # R2
    "lineage": "str",  # from the taxonomy
    "source_kind": "str",  # phage, virus, bacterium, archaeon, plastid, eukaryote, ...
    "genome": "str",  # the assembly: the accession, where the taxonomy says nothing else
}

_RECORD_ID = re.compile(r"(?P<accession>.+)_chunk_(?P<window>\d+)(?P<frame>[FR][123])")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordId:
    """A record's id, taken apart."""

    accession: str
    window: int
    frame: str

    def __str__(self) -> str:
        return f"{self.accession}_chunk_{self.window}{self.frame}"


def parse_record_id(text: str) -> RecordId | None:
    """Take a VirNucPro record id apart; None if it has another form.

    Examples
    --------
    >>> parse_record_id("NC_029549.1_chunk_3R2")
    RecordId(accession='NC_029549.1', window=3, frame='R2')
    """
    match = _RECORD_ID.fullmatch(text)
    if match is None:
        return None
    return RecordId(accession=match["accession"], window=int(match["window"]), frame=match["frame"])


def digest_content(records: pd.DataFrame) -> str:
    """Return the sha256 (hex) of ids, labels, nucleotides and proteins, in the table's order."""
    return digest_columns(*(records[name] for name in ("id", "label", "nucleotides", "protein")))


def check_records(records: pd.DataFrame, *, origin: str = "records") -> None:
    """Raise DataError unless the table has the columns, types and unique ids that it must have.

    Parameters
    ----------
    records : DataFrame
        A table with the columns of ``RECORD_COLUMNS``.
    origin : str
        Where it came from, for the message.
    """
    missing = [name for name in RECORD_COLUMNS if name not in records]
    if missing:
        raise DataError(f"{origin}: column {missing[0]!r} is missing; has {list(records.columns)}")
    for name, dtype in RECORD_COLUMNS.items():
        if records[name].dtype != dtype:
            raise DataError(f"{origin}: {name} must be {dtype}, is {records[name].dtype}")
    duplicated = records["id"][records["id"].duplicated()]
    if len(duplicated):
        raise DataError(
            f"{origin}: {len(duplicated)} ids occur twice, such as {duplicated.iloc[0]!r}"
        )
    labels = set(records["label"].unique())
    if not labels <= {0, 1}:
        raise DataError(f"{origin}: labels must be 0 or 1, found {sorted(labels)}")


# mypy: untyped-calls-exclude=Bio
# (Biopython ships no types)


WINDOW_LENGTH = 500  # nucleotides; VirNucPro trains one head for 500 and one for 300
GENETIC_CODE: Final = 11  # NCBI's table for bacteria, archaea, plastids and their viruses

_SHORTEST_WINDOW = 5  # every frame then holds at least one codon
_STOP = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One open frame of a window: a record without its label.

    Attributes
    ----------
    id : RecordId
        Accession, window number from 1, frame.
    nucleotides : str
        The frame's codons, 5' to 3' on the frame's own strand: a multiple of three, upper-case
        ACGT.
    protein : str
        Their translation, without a stop.
    """

    id: RecordId
    nucleotides: str
    protein: str


def cut_windows(sequence: str, *, length: int = WINDOW_LENGTH) -> Iterator[tuple[int, str]]:
    """Cut a sequence into consecutive windows that do not overlap.

    Parameters
    ----------
    sequence : str
        Nucleotides in either case. A last piece shorter than a window is left out.
    length : int
        Window length in nucleotides, at least 5.

    Yields
    ------
    tuple of int and str
        Window number, from 1, and its upper-case nucleotides. A window that holds anything but
        A, C, G and T is left out and keeps its number, so neighbours stay recognisable.

    Raises
    ------
    ValueError
        If ``length`` is below 5.

    Examples
    --------
    >>> list(cut_windows("acgtaNNNNNTTTTTcc", length=5))
    [(1, 'ACGTA'), (3, 'TTTTT')]
    """
    if length < _SHORTEST_WINDOW:
        raise ValueError(f"length must be at least {_SHORTEST_WINDOW}, got {length}")
    for number, start in enumerate(range(0, len(sequence) - length + 1, length), start=1):
        window = sequence[start : start + length].upper()
        if not window.strip("ACGT"):
            yield number, window


def extract_fragments(
    contigs: Mapping[str, str], proteins: Iterable[str], *, length: int = WINDOW_LENGTH
) -> Iterator[Fragment]:
    """Find the frames of a genome's windows that lie within its annotated proteins.

    Parameters
    ----------
    contigs : mapping of str to str
        Accession to nucleotides, for all pieces of one genome.
    proteins : iterable of str
        The genome's annotated proteins.
    length : int
        Window length in nucleotides.

    Yields
    ------
    Fragment
        In the order of contigs, windows, and frames F1, F2, F3, R1, R2, R3.

    Notes
    -----
    VirNucPro's preparation of training data: a frame is kept if it has no stop codon and its whole
    translation (code 11) is part of an annotated protein of the genome, so neither a spurious open
    frame nor a gene's edge becomes a record. F1 to F3 start at the first, second and third base of
    the window, R1 to R3 at those of its reverse complement.
    """
    annotated = _STOP.join(proteins)  # one search per frame; none crosses a stop
    for accession, sequence in contigs.items():
        for number, window in cut_windows(sequence, length=length):
            for frame, codons in _frames(window):
                protein = translate(codons, table=GENETIC_CODE)
                if _STOP not in protein and protein in annotated:
                    record_id = RecordId(accession=accession, window=number, frame=frame)
                    yield Fragment(id=record_id, nucleotides=codons, protein=protein)


def _frames(window: str) -> Iterator[tuple[str, str]]:
    for strand, bases in (("F", window), ("R", reverse_complement(window))):
        for offset in range(3):
            end = len(bases) - (len(bases) - offset) % 3
            yield f"{strand}{offset + 1}", bases[offset:end]


_CLASSES = {1: "viral", 0: "not viral"}
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordSet:
    """All rows of the input: each is a record or was rejected.

    Attributes
    ----------
    records : DataFrame
        The columns of ``RECORD_COLUMNS``.
    rejected : DataFrame
        ``source`` (the file), ``row`` (the record's number in it, from 1), ``id``, ``reason``.
        A pair is one row, that of its nucleotide file. In an unusable id, what cannot be printed
        is written as an escape.
    unknown_accessions : int
        How many accessions of the records the taxonomy does not hold; 0 without a taxonomy.
    """

    records: pd.DataFrame
    rejected: pd.DataFrame
    unknown_accessions: int = 0

    def check_rejects(self, limit: Fraction) -> None:
        """Raise unless the share of rejected rows is at most ``limit``, compared exactly.

        Raises
        ------
        DataError
            Names the number of rows for each reason, with an example.
        """
        n_rejected, n_rows = len(self.rejected), len(self.records) + len(self.rejected)
        if n_rejected > limit * n_rows:
            raise DataError(
                f"{self._rejects()}, more than the limit of {float(limit):.2%}. For example: "
                f"{_example(self.rejected)}. Correct the input, or raise the limit to see all"
            )

    def summarise(self) -> tuple[str, ...]:
        """Return lines for a person: counts, lengths, lineages, rejects."""
        records = self.records
        lineages = {
            name: records["lineage"][records["label"] == label] for label, name in _CLASSES.items()
        }
        counts = ", ".join(f"{len(rows):,} {name}" for name, rows in lineages.items())
        lines = [
            f"records: {len(records):,} ({counts}) of {records['genome'].nunique():,} genomes",
            f"nucleotides: {_lengths(records['nucleotides'], 'bases')}",
            f"proteins: {_lengths(records['protein'], 'residues')}",
            *(_largest(name, rows) for name, rows in lineages.items()),
            self._rejects(),
        ]
        if self.unknown_accessions:
            lines.append(f"accessions that the taxonomy does not hold: {self.unknown_accessions:,}")
        return tuple(lines)

    def write_rejected(self, path: Path) -> None:
        """Write the rejected rows as a CSV file with a header, even if there are none."""
        write_atomically(path, self.rejected.to_csv(index=False))

    def _rejects(self) -> str:
        n_rejected, n_rows = len(self.rejected), len(self.records) + len(self.rejected)
        if not n_rejected:
            return f"rejected: none of {n_rows:,} rows"
        reasons = self.rejected["reason"].value_counts()
        listed = "; ".join(f"{reason}: {count:,}" for reason, count in reasons.items())
        share = n_rejected / n_rows
        return f"rejected: {n_rejected:,} of {n_rows:,} rows ({share:.3%}; {listed})"


def _example(rejected: pd.DataFrame) -> str:
    source, row, name, reason = rejected.iloc[0]
    return f"{source}, record {row}, id {name!r}: {reason}"


def _lengths(sequences: pd.Series[str], unit: str) -> str:
    lengths = sequences.str.len()
    if lengths.empty:
        return "none"
    return f"{lengths.min()} to {lengths.max()} {unit}, median {lengths.median():.0f}"


def _largest(class_name: str, lineages: pd.Series[str]) -> str:
    counts = lineages[lineages != ""].value_counts()
    if counts.empty:
        return f"lineages, {class_name}: unknown"
    listed = ", ".join(f"{lineage} {count:,}" for lineage, count in counts[:_SHOWN].items())
    rest = ", ..." if len(counts) > _SHOWN else ""
    return f"lineages, {class_name}: {len(counts):,} ({listed}{rest})"
