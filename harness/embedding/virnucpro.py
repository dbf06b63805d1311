"""VirNucPro's embedding files as stores, each read once and joined by record id, and written.

Its embedding files hold ten thousand rows as Python lists, which take many times the memory of the
numbers in them, so they are converted, one file at a time, to float32 arrays that are read in
slices; merged files are read where they lie. What stands in one file is
``harness.data.virnucpro``'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import digest_file, digest_json
from harness.data.inputs import read_parquet
from harness.data.virnucpro import (
    MERGED_ENDING,
    NUCLEOTIDE_ENDING,
    PROTEIN_ENDING,
    StoredFeatures,
    read_embeddings,
    read_merged_folder,
    write_embeddings,
    write_merged,
)
from harness.embedding.embedder import Rows, collect, locate
from harness.errors import ArtifactError, DataError, HarnessError
from harness.progress import Task

__all__ = [
    "DNABERT_DIM",
    "ROWS_PER_FILE",
    "ImportedEmbeddings",
    "MergedFeatures",
    "SomeColumns",
    "export_embeddings",
    "import_embeddings",
]


DNABERT_DIM = 768  # of DNABERT-S, whatever its checkpoint's revision

_INDEX = "index.parquet"

_Part = tuple[Path, tuple[str, ...]]  # a file and the ids of its rows


class ImportedEmbeddings:
    """Read access to what ``import_embeddings`` wrote; the rows stay on disk until asked for.

    Parameters
    ----------
    folder : Path
        What it filled.

    Attributes
    ----------
    dim : int
        Width of the rows.
    ids : Index of str
        Record ids, file by file.

    Raises
    ------
    ArtifactError
        If the index or a part cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            index = read_parquet(folder / _INDEX, ["id", "part", "row"]).to_pandas()
        except HarnessError as error:
            raise ArtifactError(f"{folder / _INDEX}: not a readable index: {error}") from error
        self.ids: pd.Index[str] = pd.Index(index["id"])
        self._numbers = index["part"].to_numpy()
        self._rows = index["row"].to_numpy()
        self.dim = int(_open_part(folder, 0).shape[1])

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return the embeddings of some records, float32 (n_ids, dim), in the order asked for.

        Raises
        ------
        DataError
            If a record is in no file; some are named.
        """
        remedy = "Embed all records with VirNucPro's tools, into files of the same folder"
        positions = locate(self.ids, ids, what="embedding", folder=self.folder, remedy=remedy)
        try:
            return collect(
                self._numbers[positions],
                self._rows[positions],
                dim=self.dim,
                read=lambda number, places: _open_part(self.folder, number)[places],
            )
        except (IndexError, ValueError) as error:
            raise ArtifactError(
                f"{self.folder}: its index names rows that its parts do not have ({error}). "
                f"Delete {self.folder} and run again"
            ) from error


def import_embeddings(
    paths: Sequence[Path], folder: Path, *, dim: int | None = None, task: Task | None = None
) -> None:
    """Convert VirNucPro's embedding files, one at a time, to arrays and an index.

    Parameters
    ----------
    paths : sequence of Path
        Files of one kind.
    folder : Path
        An existing folder.
    dim : int, optional
        The width that rows must have; default: that of the first file.
    task : Task, optional
        Is told how many files are done.

    Raises
    ------
    DataError
        If files cannot be used; all are listed, with the first record at fault.
    """
    parts: list[_Part] = []
    problems: list[str] = []
    for path in paths:
        try:
            stored = read_embeddings(path)
            _check_rows(stored, dim)
        except DataError as error:
            problems.append(str(error))
        else:
            dim = dim or stored.features.shape[1]
            np.save(_part(folder, len(parts)), stored.features, allow_pickle=False)
            parts.append((path, stored.ids))
        if task is not None:
            task.advance(1)
    if problems:
        raise DataError(f"{len(problems)} of {len(paths)} files:\n" + "\n".join(problems))
    _index(parts).to_parquet(folder / _INDEX)


def _check_rows(stored: StoredFeatures, dim: int | None) -> None:
    found = stored.features.shape[1]
    if dim is not None and found != dim:
        raise DataError(
            f"{stored.path}: {found} values a row from {stored.ids[0]!r} on, expected {dim}. "
            "They come from another model"
        )
    is_bad = ~np.isfinite(stored.features).all(axis=1)
    if is_bad.any():
        first = stored.ids[int(np.flatnonzero(is_bad)[0])]
        raise DataError(
            f"{stored.path}: {int(is_bad.sum())} rows hold values that are not finite, the first "
            f"is that of {first!r}. Embed them again"
        )


def _index(parts: Sequence[_Part]) -> pd.DataFrame:
    sizes = [len(ids) for _, ids in parts]
    table = pd.DataFrame(
        {
            "id": pd.Series([name for _, ids in parts for name in ids], dtype="str"),
            "part": np.repeat(np.arange(len(parts), dtype=np.int32), sizes),
            "row": np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
        }
    )
    is_repeated = table["id"].duplicated()
    if is_repeated.any():
        name = table["id"][is_repeated].iloc[0]
        places = [str(parts[n][0]) for n in table["part"][table["id"] == name]]
        raise DataError(
            f"{int(is_repeated.sum())} ids stand in two files, such as {name!r} in "
            f"{' and '.join(places[:2])}. Keep one row for each record"
        )
    return table


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.npy"


def _open_part(folder: Path, number: int) -> npt.NDArray[np.float32]:
    path = _part(folder, number)
    try:
        array: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads the header as Python's source, and raises as that does
        raise ArtifactError(
            f"{path}: not a readable array ({error}). Delete {folder} and run again"
        ) from error
    if array.ndim != MATRIX or array.dtype != np.float32:
        raise ArtifactError(f"{path}: holds no rows of vectors. Delete {folder} and run again")
    return array


MATRIX = 2  # dimensions: row, dim
ROWS_PER_FILE = 10_000  # as VirNucPro's tools write them

# VirNucPro takes a merged folder for viral if its name holds "viral", so the other's must not.
FOLDERS = {1: "viral", 0: "other"}


def export_embeddings(
    records: pd.DataFrame,
    nucleotide: Rows,
    protein: Rows,
    folder: Path,
    *,
    task: Task | None = None,
) -> tuple[str, ...]:
    """Write the embeddings of all records, ``ROWS_PER_FILE`` a file, each file of one class.

    Parameters
    ----------
    records : DataFrame
        With the columns id and label.
    nucleotide, protein : Rows
        Their embeddings.
    folder : Path
        Gets ``viral/output_1_DNABERT_S.pt``, ``viral/output_1_ESM.pt``,
        ``viral_merged/output_1_merged.pt`` and so on, and the same with ``other``.
    task : Task, optional
        Is told how many records are written.

    Returns
    -------
    tuple of str
        The endings of what was written. ``*_DNABERT_S.pt`` is left out where the nucleotide
        embeddings are not of DNABERT-S's width: VirNucPro would take them for what they are not.
    """
    is_dnabert = nucleotide.dim == DNABERT_DIM
    for label, name in FOLDERS.items():
        ids = records.loc[records["label"] == label, "id"].tolist()
        for number, start in enumerate(range(0, len(ids), ROWS_PER_FILE), 1):
            part = ids[start : start + ROWS_PER_FILE]
            left, right = nucleotide.rows(part), protein.rows(part)
            stem = f"output_{number}"
            if is_dnabert:
                write_embeddings(folder / name / (stem + NUCLEOTIDE_ENDING), part, left)
            write_embeddings(folder / name / (stem + PROTEIN_ENDING), part, right)
            merged = folder / f"{name}_merged" / (stem + MERGED_ENDING)
            write_merged(merged, part, np.concatenate([left, right], axis=1), label=label)
            if task is not None:
                task.advance(len(part))
    return (*([NUCLEOTIDE_ENDING] if is_dnabert else []), PROTEIN_ENDING, MERGED_ENDING)


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
        self.ids, self.sha256 = store.ids, store.sha256

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return those columns of some records, float32 (n_ids, dim)."""
        return self._store.rows(ids)[:, self._columns]
