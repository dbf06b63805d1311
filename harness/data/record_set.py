"""What reading yields: the records, the rows that could not be records, and their summary.

Nothing is read here; which rows are refused is decided by the screening.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pandas as pd

from harness.artifacts import write_atomically
from harness.errors import DataError

__all__ = ["RecordSet"]

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
