"""Rows that were computed elsewhere, joined to the records by id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.errors import DataError

__all__ = ["locate"]


def locate(
    index: pd.Index[str],
    ids: Sequence[str] | pd.Series[str],
    *,
    what: str,
    folder: Path,
    remedy: str,
) -> npt.NDArray[np.int64]:
    """Return where each record stands in an index, in the order asked for.

    Parameters
    ----------
    index : Index of str
        Ids of all rows, no two alike.
    ids : sequence of str, (n_ids,)
        The records.
    what, folder, remedy : str, Path, str
        For the error: what the rows are, where they lie, and what to do.

    Raises
    ------
    DataError
        If a record has no row; some are named.
    """
    wanted = pd.Index(ids)
    positions = index.get_indexer(wanted)
    if (positions < 0).any():
        absent = wanted[positions < 0]
        raise DataError(
            f"{folder}: {len(absent)} of {len(positions)} records have no {what}, "
            f"such as {', '.join(map(repr, absent[:3]))}. {remedy}"
        )
    return np.asarray(positions, dtype=np.int64)
