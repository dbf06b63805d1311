"""The record table: one row per translated frame of a window; and what reading yields.

Owns what a row holds, what makes a table valid, and the summary of what was read. Reading files
into it is the readers' work, cutting genomes that of ``windows``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pandas as pd

from harness.artifacts import digest_columns, write_atomically
from harness.errors import DataError

__all__ = ["RECORD_COLUMNS", "VIRAL_ENDINGS", "RecordSet", "check_records", "digest_content"]


# Text columns are pandas' Arrow-backed `str`; unknown text is "", an unknown window is -1.
RECORD_COLUMNS = {
    "id": "str",  # NC_029549.1_chunk_3R2: unique
    "nucleotides": "str",  # the frame, upper-case ACGT: as VirNucPro cuts it, or as it was brought
    "protein": "str",  # their translation, without a stop
    "label": "int8",  # 1 viral, 0 not
    "accession": "str",  # NC_029549.1
    "window": "int32",  # 3
    "frame": "str",  # R2
    "lineage": "str",  # from the taxonomy
    "source_kind": "str",  # phage, virus, bacterium, archaeon, plastid, eukaryote, ...
    "genome": "str",  # the assembly: the accession, where the taxonomy says nothing else
}


def digest_content(records: pd.DataFrame) -> str:
    """Return the sha256 (hex) of ids, labels, nucleotides and proteins, in the table's order."""
    return digest_columns(*(records[name] for name in ("id", "label", "nucleotides", "protein")))


def check_records(records: pd.DataFrame) -> None:
    """Raise DataError unless the table has the columns, types and unique ids that it must have.

    Parameters
    ----------
    records : DataFrame
        A table with the columns of ``RECORD_COLUMNS``.
    """
    missing = [name for name in RECORD_COLUMNS if name not in records]
    if missing:
        raise DataError(f"records: column {missing[0]!r} is missing; has {list(records.columns)}")
    for name, dtype in RECORD_COLUMNS.items():
        if records[name].dtype != dtype:
            raise DataError(f"records: {name} must be {dtype}, is {records[name].dtype}")
    duplicated = records["id"][records["id"].duplicated()]
    if len(duplicated):
        raise DataError(
            f"records: {len(duplicated)} ids occur twice, such as {duplicated.iloc[0]!r}"
        )
    labels = set(records["label"].unique())
    if not labels <= {0, 1}:
        raise DataError(f"records: labels must be 0 or 1, found {sorted(labels)}")


# Kinds of source, and endings of families, that tell a record's class.
VIRAL_KINDS = ("phage", "virus", "viroid", "satellite")
OTHER_KINDS = ("bacterium", "archaeon", "eukaryote", "plastid", "mitochondrion", "plasmid")
VIRAL_ENDINGS = ("viridae", "viroidae", "satellitidae")
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
    notes : tuple of str
        What else a person should know, such as the files of a folder that were passed over.
    """

    records: pd.DataFrame
    rejected: pd.DataFrame
    unknown_accessions: int = 0
    notes: tuple[str, ...] = ()

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

    def covered_by(self, ids: pd.Index[str], folder: Path) -> RecordSet:
        """Return the same rows, of which those without a vector in a folder are rejected.

        Their source is the folder, and their row 0.
        """
        is_covered = self.records["id"].isin(ids)
        lacking = pd.DataFrame(
            {
                "source": str(folder),
                "row": 0,
                "id": self.records["id"][~is_covered],
                "reason": "no vector in the embeddings that are brought",
            }
        )
        return replace(
            self,
            records=self.records[is_covered].reset_index(drop=True),
            rejected=pd.concat([self.rejected, lacking], ignore_index=True),
        )

    def check_classes(self) -> None:
        """Raise DataError if the sources of over half of the known records are of the other class.

        What is known of a record is its source kind, or else a viral family as its lineage.
        """
        kinds, lineages = self.records["source_kind"], self.records["lineage"]
        is_viral = kinds.isin(VIRAL_KINDS) | lineages.str.endswith(VIRAL_ENDINGS)
        is_known = is_viral | kinds.isin(OTHER_KINDS)
        is_wrong = is_known & (is_viral != (self.records["label"] == 1))
        if is_wrong.sum() * 2 > is_known.sum():
            first = self.records[is_wrong].iloc[0]
            raise DataError(
                f"{is_wrong.sum():,} of {is_known.sum():,} records are of the other class by their "
                f"source, such as {first['id']!r}: {_CLASSES[first['label']]} by its file, and of "
                f"{first['source_kind'] or first['lineage']}. Are the files of the classes swapped "
                "under [data]?"
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
        return (*lines, *self.notes)

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
