"""Which rows belong together: the same sequence, the same window, the same genome.

Text columns become whole numbers here, so that drawing and leak checks are arithmetic on arrays.
Sequences are compared exactly, not by a hash. What is done with the groups is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from harness.errors import DataError

__all__ = ["Codes", "is_in", "order_by_id", "sampling_units", "sequence_codes", "window_codes"]

Codes = npt.NDArray[np.int64]

_COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
# Sequences whose first letters differ are different; only the others are compared whole. 16 letters
# single out nearly every sequence, so little text is copied.
_PREFIX_LETTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceCodes:
    """Equal numbers for equal sequences; an unknown (empty) sequence equals no other.

    Attributes
    ----------
    nucleotides : int array, (n_rows,)
        Equal for the same nucleotides on either strand.
    protein : int array, (n_rows,)
        Equal for the same protein.
    """

    nucleotides: Codes
    protein: Codes

    def tied(self) -> Codes:
        """Return equal numbers for rows that share nucleotides or protein, directly or not."""
        return _tie(self.nucleotides, self.protein)


def sequence_codes(records: pd.DataFrame) -> SequenceCodes:
    """Assign equal numbers to equal sequences of a record table.

    Parameters
    ----------
    records : DataFrame
        With the columns ``nucleotides`` and ``protein``.

    Returns
    -------
    SequenceCodes
        Numbers from 0 on, without meaning beyond being equal or not.
    """
    nucleotides, protein = _octets(records["nucleotides"]), _octets(records["protein"])
    return SequenceCodes(
        nucleotides=_exact_codes(nucleotides, _strand_prefix(nucleotides), _first_strand),
        protein=_exact_codes(protein, _prefix(protein), _unchanged),
    )


def window_codes(records: pd.DataFrame) -> Codes:
    """Assign numbers to windows so that neighbours on one accession differ by one.

    Parameters
    ----------
    records : DataFrame
        With the columns ``accession`` and ``window``.

    Returns
    -------
    int array, (n_rows,)
        The accession's number times 2**32 plus the window; -1 where the window is unknown.
    """
    accession = _encode(_octets(records["accession"]))
    window = records["window"].to_numpy(dtype=np.int64)
    return np.where(window >= 0, (accession << 32) + window, -1)


def sampling_units(
    records: pd.DataFrame,
    sampling_unit: str = "record",
    *,
    codes: SequenceCodes | None = None,
    order: Codes | None = None,
) -> Codes:
    """Assign numbers to what is drawn as a whole: rows with equal numbers stay together.

    Rows with the same nucleotides (on either strand) or the same protein always share a unit.
    With ``window`` so do all frames of a window, with ``genome`` all rows of a genome, with
    ``lineage`` all viral rows of a lineage and all other rows of a genome; identical sequences then
    tie these together.

    Parameters
    ----------
    records : DataFrame
        A record table.
    sampling_unit : {"record", "window", "genome", "lineage"}
        What is drawn. A record whose window is unknown (-1) is a window of its own; one whose
        lineage is unknown goes with its genome.
    codes, order : optional
        ``sequence_codes(records)`` and ``order_by_id(records)``, where they are at hand.

    Returns
    -------
    int array, (n_rows,)
        Numbers from 0 on, in the order of each unit's smallest id: they follow from what the rows
        are, never from how they are sorted.

    Raises
    ------
    ValueError
        For another ``sampling_unit``.
    DataError
        If genomes or lineages are drawn and a row's genome is unknown.
    """
    codes = sequence_codes(records) if codes is None else codes
    order = order_by_id(records) if order is None else order
    units = codes.tied()
    if sampling_unit == "window":
        units = _tie(_window_groups(records), units)
    elif sampling_unit == "genome":
        units = _tie(_genome_groups(records), units)
    elif sampling_unit == "lineage":
        units = _tie(_lineage_groups(records), units)
    elif sampling_unit != "record":
        raise ValueError(
            "sampling_unit must be 'record', 'window', 'genome' or 'lineage', got "
            f"{sampling_unit!r}"
        )
    return _number_by_first(units, order)


def order_by_id(records: pd.DataFrame) -> Codes:
    """Return the rows' positions, sorted by id: (n_rows,)."""
    order: Codes = pc.sort_indices(_octets(records["id"])).to_numpy().astype(np.int64)
    return order


def is_in(ids: pd.Series, members: pd.Series) -> npt.NDArray[np.bool_]:
    """Say which ids are members: bool array, (n_ids,)."""
    found = pc.is_in(_octets(ids), _octets(members))
    return np.asarray(found)


def _number_by_first(units: Codes, order: Codes) -> Codes:
    numbers = np.empty_like(units)
    numbers[order] = pd.factorize(units[order])[0]
    return numbers


def _window_groups(records: pd.DataFrame) -> Codes:
    windows = window_codes(records)
    alone = -1 - np.arange(len(windows))
    return _dense(np.where(windows < 0, alone, windows))


def _genome_groups(records: pd.DataFrame) -> Codes:
    unknown = records["id"][records["genome"] == ""]
    if len(unknown):
        raise DataError(
            f"{len(unknown)} records have no genome, such as {unknown.iloc[0]!r}, so genomes "
            "cannot be drawn. Name their genomes in the taxonomy, or draw records or windows"
        )
    return _encode(_octets(records["genome"]))


def _lineage_groups(records: pd.DataFrame) -> Codes:
    """Return numbers of viral lineages, and of genomes for all that have none."""
    genomes = _genome_groups(records)
    is_known = ((records["label"] == 1) & (records["lineage"] != "")).to_numpy()
    return _dense(np.where(is_known, -1 - _encode(_octets(records["lineage"])), genomes))


def _tie(groups: Codes, others: Codes) -> Codes:
    """Join the groups that share one of the others: the connected components, dense."""
    repeated = np.flatnonzero(np.bincount(others)[others] > 1)
    n_groups = int(groups.max(initial=-1)) + 1
    ends = groups[repeated], groups[_first_rows(others)[repeated]]
    links = coo_array((np.ones(len(repeated), dtype=np.int8), ends), shape=(n_groups, n_groups))
    _, component = connected_components(links, directed=False)
    tied: Codes = component[groups].astype(np.int64)
    return tied


def _exact_codes(
    sequences: pa.ChunkedArray,
    prefixes: pa.ChunkedArray,
    canonical: Callable[[pa.Array], pa.Array],
) -> Codes:
    """Assign numbers by canonical sequence, given the prefixes of the canonical forms."""
    by_prefix = _encode(prefixes)
    is_known = pc.not_equal(pc.binary_length(sequences), 0).to_numpy()
    is_candidate = is_known & (np.bincount(by_prefix)[by_prefix] > 1)
    whole = canonical(sequences.filter(pa.array(is_candidate)).combine_chunks())
    codes = np.arange(len(by_prefix))
    codes[is_candidate] = np.flatnonzero(is_candidate)[_first_rows(_encode(whole))]
    return _dense(codes)


def _first_rows(codes: Codes) -> Codes:
    """Return, for each row, the first row with its number."""
    first = np.empty(int(codes.max(initial=-1)) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first[codes]


def _dense(codes: Codes) -> Codes:
    return pd.factorize(codes)[0].astype(np.int64)


def _encode(values: pa.ChunkedArray | pa.Array) -> Codes:
    """Assign numbers to the distinct texts, from 0 on."""
    encoded = pa.chunked_array(values).combine_chunks().dictionary_encode()
    indices: Codes = encoded.indices.to_numpy().astype(np.int64)
    return indices


def _octets(column: pd.Series) -> pa.ChunkedArray:
    """View a text column as bytes, which Arrow slices and compares fastest."""
    return pa.chunked_array(pa.array(column, type=pa.large_string())).cast(pa.large_binary())


def _prefix(sequences: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_slice(sequences, 0, _PREFIX_LETTERS)


def _strand_prefix(nucleotides: pa.ChunkedArray) -> pa.Array:
    """Return the prefix of whichever strand sorts first."""
    tails = pc.binary_slice(nucleotides, -_PREFIX_LETTERS, None).combine_chunks()
    return pc.min_element_wise(_prefix(nucleotides).combine_chunks(), _reverse_complement(tails))


def _first_strand(nucleotides: pa.Array) -> pa.Array:
    return pc.min_element_wise(nucleotides, _reverse_complement(nucleotides))


def _unchanged(sequences: pa.Array) -> pa.Array:
    return sequences


def _reverse_complement(nucleotides: pa.Array) -> pa.Array:
    """Complement the whole column's bytes at once, after reversing each row."""
    backwards = pc.binary_reverse(nucleotides)
    _, offsets, letters = backwards.buffers()
    complement = pa.py_buffer(letters.to_pybytes().translate(_COMPLEMENT))
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(backwards), [None, offsets, complement], offset=backwards.offset
    )
