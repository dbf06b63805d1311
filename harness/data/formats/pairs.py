"""The two halves of a record, from the nucleotide and the protein file of a pair, put together.

Matching is by id. A half without its other half stays in the table, with a null in its place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["pair_halves"]

Rows = npt.NDArray[np.int64]


def pair_halves(nucleotides: pa.Table, proteins: pa.Table, *, sources: tuple[str, str]) -> pa.Table:
    """Match nucleotide and protein records by id.

    Parameters
    ----------
    nucleotides, proteins : pyarrow.Table
        Columns ``id`` and ``sequence``. Where an id occurs several times, its n-th nucleotide
        record belongs to its n-th protein record.
    sources : tuple of str
        The names of the two files.

    Returns
    -------
    pyarrow.Table
        ``id``, ``nucleotides``, ``protein``, ``source`` (the nucleotide file where the row stands
        in it) and ``row`` (its number there, from 1). First the nucleotide file's rows in their
        order, then the proteins without a partner. A stop at a protein's very end is dropped.
    """
    n_pairs = len(nucleotides)
    if nucleotides["id"].equals(proteins["id"]):
        ids, dna, protein = nucleotides["id"], nucleotides["sequence"], proteins["sequence"]
        own_row, is_protein_row = np.arange(n_pairs), np.zeros(n_pairs, dtype=np.int32)
    else:
        partner, alone = _match(nucleotides["id"], proteins["id"])
        ids = pa.chunked_array([*nucleotides["id"].chunks, *proteins["id"].take(alone).chunks])
        nothing = pa.nulls(len(alone), pa.large_string())
        dna = pa.chunked_array([*nucleotides["sequence"].chunks, nothing])
        protein_row = np.concatenate([partner, alone])
        protein = proteins["sequence"].take(pa.array(protein_row, mask=protein_row < 0))
        own_row = np.concatenate([np.arange(n_pairs), alone])
        is_protein_row = np.repeat([0, 1], [n_pairs, len(alone)]).astype(np.int32)
    return pa.table(
        {
            "id": ids,
            "nucleotides": dna,
            "protein": _without_end_stop(protein),
            "source": pa.DictionaryArray.from_arrays(is_protein_row, list(sources)),
            "row": own_row + 1,
        }
    )


def _match(nucleotide_ids: pa.ChunkedArray, protein_ids: pa.ChunkedArray) -> tuple[Rows, Rows]:
    """Return the protein row of each nucleotide row (-1: none), and the proteins left over."""
    left, right = _numbered(nucleotide_ids), _numbered(protein_ids)
    right["protein_row"] = np.arange(len(right))
    merged = left.merge(right, on=["id", "nth"], how="left", validate="one_to_one")
    partner = merged["protein_row"].fillna(-1).to_numpy(dtype=np.int64)
    return partner, np.setdiff1d(np.arange(len(right)), partner)


def _numbered(ids: pa.ChunkedArray) -> pd.DataFrame:
    frame = pd.DataFrame({"id": ids.to_pandas()})
    frame["nth"] = frame.groupby("id").cumcount()
    return frame


def _without_end_stop(protein: pa.ChunkedArray) -> pa.ChunkedArray:
    ends = pc.ends_with(protein, "*")
    if not pc.any(ends).as_py():
        return protein
    return pc.replace_substring_regex(protein, r"\*$", "")
