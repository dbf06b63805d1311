"""VirNucPro's merged files as a store: features computed elsewhere, joined by record id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import digest_file, digest_json
from harness.data.formats.merged import read_merged_folder
from harness.embedding.joining import collect, locate
from harness.errors import DataError

__all__ = ["MergedFeatures", "SomeColumns"]


class MergedFeatures:
    """Read access to a folder of merged files; the rows stay on disk until they are asked for.

    Parameters
    ----------
    folder : Path
        Such as ``data/data_merge``.

    Attributes
    ----------
    dim : int
        Width of the rows: nucleotide, then protein embedding.
    ids : Index of str
        Record ids, file by file.
    sha256 : str
        Digest of all files' contents.

    Raises
    ------
    MissingInput
        If there is no such folder, or nothing in it.
    DataError
        If a file cannot be trusted; see ``read_merged_folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = read_merged_folder(folder)
        self.dim = int(self._files[0].features.shape[1])
        self.ids: pd.Index[str] = pd.Index([i for file in self._files for i in file.ids])
        self._sizes = [len(file.ids) for file in self._files]
        self._starts = np.cumsum([0, *self._sizes[:-1]])
        self.sha256 = digest_json([digest_file(file.path) for file in self._files])

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return the features of some records, float32 (n_ids, dim), in the order asked for.

        Raises
        ------
        DataError
            If a record is in no file; some are named.
        """
        remedy = "Merge the features of all records"
        positions = locate(self.ids, ids, what="features", folder=self.folder, remedy=remedy)
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        return collect(
            numbers,
            positions - self._starts[numbers],
            dim=self.dim,
            read=lambda number, places: self._files[number].features[places],
        )

    def check_labels(self, records: pd.DataFrame) -> None:
        """Raise DataError if a file's label is not that of its records; the first is named."""
        labels = np.repeat([file.label for file in self._files], self._sizes)
        expected = records.set_index("id")["label"].reindex(self.ids).to_numpy()
        wrong = np.flatnonzero(~np.isnan(expected.astype(float)) & (labels != expected))
        if len(wrong):
            raise DataError(
                f"{self.folder}: {len(wrong)} rows have another label than their records, such as "
                f"{self.ids[wrong[0]]!r}. The features belong to other data, or to the other class"
            )


class SomeColumns:
    """Neighbouring columns of merged features: the nucleotide embeddings, or the proteins'.

    Parameters
    ----------
    store : MergedFeatures
        Nucleotide, then protein embeddings.
    columns : slice
        Which; ``slice(-1280, None)`` is the last 1,280, or all where there are fewer.
    """

    def __init__(self, store: MergedFeatures, columns: slice) -> None:
        self._store = store
        self._columns = columns
        self.dim = len(range(store.dim)[columns])
        self.ids = store.ids

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return those columns of some records, float32 (n_ids, dim)."""
        return self._store.rows(ids)[:, self._columns]
