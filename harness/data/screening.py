"""Which rows of the input can be records, and the reason against each of the others.

Works on Arrow tables with the columns ``id``, ``nucleotides`` and ``protein`` (null: there was no
such half). Everything is decided by columns, never row by row.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ACCEPTED", "Reasons", "find_faults", "find_repeats", "printable"]

ACCEPTED = ""
UNUSABLE_ID = "unusable id (empty, over 255 characters, not printable)"
NO_NUCLEOTIDES = "no nucleotide record with this id"
NO_PROTEIN = "no protein record with this id"
EMPTY_NUCLEOTIDES = "empty nucleotides"
AMBIGUOUS = "bases other than A, C, G, T"
EMPTY_PROTEIN = "empty protein"
STOP_INSIDE = "stop inside the protein"
NO_RESIDUE = "a character in the protein that is no residue"
TWO_LABELS = "one id with two labels"
TWO_SEQUENCES = "one id with two sequences"
REPEATED_ID = "duplicate id"

_LONGEST_ID = 255
_FORBIDDEN = r"[\s\x{FFFD}]"  # FASTA ends an id at a space; U+FFFD stands for what was not UTF-8

Reasons = npt.NDArray[np.object_]


def find_faults(rows: pa.Table) -> Reasons:
    """Say what is wrong with each row by itself.

    Parameters
    ----------
    rows : pyarrow.Table
        Columns ``id``, ``nucleotides``, ``protein``.

    Returns
    -------
    object array of str, (n_rows,)
        The first reason that applies, ``ACCEPTED`` where none does.
    """
    ids, nucleotides, protein = rows["id"], rows["nucleotides"], rows["protein"]
    faults = {
        UNUSABLE_ID: _is_unusable(ids),
        NO_NUCLEOTIDES: pc.is_null(nucleotides),
        NO_PROTEIN: pc.is_null(protein),
        EMPTY_NUCLEOTIDES: pc.equal(pc.binary_length(nucleotides), 0),
        AMBIGUOUS: _holds_others_than(nucleotides, "ACGT"),
        EMPTY_PROTEIN: pc.equal(pc.binary_length(protein), 0),
        STOP_INSIDE: pc.match_substring(protein, "*"),
        NO_RESIDUE: _holds_others_than(protein, string.ascii_uppercase),
    }
    return _first_reason({reason: _mask(column) for reason, column in faults.items()})


def find_repeats(rows: pa.Table) -> Reasons:
    """Say which rows share their id with another row.

    Parameters
    ----------
    rows : pyarrow.Table
        Columns ``id``, ``nucleotides``, ``protein``, ``label``.

    Returns
    -------
    object array of str, (n_rows,)
        Of identical rows the first is accepted. Rows that differ are all refused, since nothing
        says which is right; so the order of the input changes nothing.
    """
    reasons = np.full(len(rows), ACCEPTED, dtype=object)
    if pc.count_distinct(rows["id"]).as_py() == len(rows):
        return reasons
    is_shared = rows["id"].to_pandas().duplicated(keep=False).to_numpy()
    shared = rows.select(["id", "label", "nucleotides", "protein"]).filter(pa.array(is_shared))
    frame = shared.to_pandas()
    counts = frame.groupby("id").transform("nunique")
    reasons[is_shared] = _first_reason(
        {
            TWO_LABELS: (counts["label"] > 1).to_numpy(),
            TWO_SEQUENCES: ((counts["nucleotides"] > 1) | (counts["protein"] > 1)).to_numpy(),
            REPEATED_ID: frame.duplicated("id").to_numpy(),
        }
    )
    return reasons


def printable(text: str) -> str:
    """Return an id that is safe to show: escapes for what cannot be printed, and not too long."""
    shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return shown[:_LONGEST_ID]


def _is_unusable(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    length = pc.utf8_length(ids)
    is_bad_length = pc.or_(pc.equal(length, 0), pc.greater(length, _LONGEST_ID))
    is_unprintable = pc.invert(pc.utf8_is_printable(ids))
    return pc.or_(is_bad_length, pc.or_(is_unprintable, pc.match_substring_regex(ids, _FORBIDDEN)))


def _holds_others_than(sequences: pa.ChunkedArray, letters: str) -> pa.ChunkedArray:
    # Trimming stops at the first other letter from either end: four times as fast as a regex.
    return pc.not_equal(pc.binary_length(pc.ascii_trim(sequences, letters)), 0)


def _mask(column: Any) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = pc.fill_null(column, False).to_numpy()
    return mask


def _first_reason(masks: dict[str, npt.NDArray[np.bool_]]) -> Reasons:
    reasons = np.full(len(next(iter(masks.values()))), ACCEPTED, dtype=object)
    for reason, mask in reversed(masks.items()):
        reasons[mask] = reason
    return reasons
