"""The record table: one row per translated frame of a window.

What a row holds and what makes a table valid. Reading files into it is the readers' work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from harness.artifacts import digest_columns
from harness.errors import DataError

__all__ = ["RECORD_COLUMNS", "RecordId", "check_records", "digest_content", "parse_record_id"]

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
