"""VirNucPro's embedding files as a store: each file read once, its rows joined by record id.

Such a file holds ten thousand rows as Python lists, which take many times the memory of the numbers
in them. So they are converted, one file at a time, to float32 arrays that are read in slices. What
stands in one file is ``harness.data.formats.virnucpro``'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.formats.virnucpro import StoredFeatures, read_embeddings
from harness.embedding.joining import collect, locate
from harness.errors import ArtifactError, DataError
from harness.progress import Task

__all__ = [
    "DNABERT_DIM",
    "ImportedEmbeddings",
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
            index = pd.read_parquet(folder / _INDEX)
        except (OSError, ValueError) as error:
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
        return collect(
            self._numbers[positions],
            self._rows[positions],
            dim=self.dim,
            read=lambda number, places: _open_part(self.folder, number)[places],
        )


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
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: not a readable array ({error}). Delete {folder} and run again"
        ) from error
    return array
