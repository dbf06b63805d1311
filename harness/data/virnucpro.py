"""VirNucPro's files: nucleotide embeddings, protein embeddings, both merged, and its predictions.

Owns these formats, for reading and for writing, and folders of merged files: all their rows
together, and the rule that tells a label from a folder's name. Tensors that were written without
``no_grad`` hold the same numbers as others. Joining rows to records is the caller's.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import write_atomically
from harness.data.inputs import require_files
from harness.data.unpickle import load_restricted
from harness.errors import DataError

__all__ = [
    "MERGED_ENDING",
    "NUCLEOTIDE_ENDING",
    "PROTEIN_ENDING",
    "PROTEIN_ENDINGS",
    "RESULTS_ENDING",
    "StoredFeatures",
    "label_from_folder",
    "read_embeddings",
    "read_merged",
    "read_merged_folder",
    "read_results",
    "write_embeddings",
    "write_merged",
    "write_results",
]


NUCLEOTIDE_ENDING = "_DNABERT_S.pt"
PROTEIN_ENDING = "_ESM.pt"
PROTEIN_ENDINGS = (PROTEIN_ENDING, "_fastesm.pt")
MERGED_ENDING = "_merged.pt"
RESULTS_ENDING = ".txt"
_ENDINGS = {"nucleotide": (NUCLEOTIDE_ENDING,), "proteins": PROTEIN_ENDINGS}
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredFeatures:
    """The rows of one file.

    Attributes
    ----------
    path : Path
        The file.
    ids : tuple of str
        One for each row, no two alike.
    features : float32 array, (n_rows, dim)
        Those of a merged file stay on disk until they are used.
    label : int or None
        1 viral, 0 not, for all rows; None if neither the file nor its folder says it.
    """

    path: Path
    ids: tuple[str, ...]
    features: npt.NDArray[np.float32]
    label: int | None = None


def read_embeddings(path: Path) -> StoredFeatures:
    """Read a ``*_DNABERT_S.pt`` or an ``*_ESM.pt`` file; its content tells which.

    Raises
    ------
    MissingInput
        If the file is not there.
    DataError
        If it has another form, its ids and rows do not belong together one to one, or it names
        code to run.
    """
    import torch

    content = _read_dict(path)
    key = next((key for key in _ENDINGS if key in content), None)
    if key is None:
        raise DataError(
            f"{path}: expected the key 'nucleotide' (as in *{NUCLEOTIDE_ENDING}) or 'proteins' "
            f"(as in *{PROTEIN_ENDING}), found {sorted(map(str, content))}"
        )
    known = (NUCLEOTIDE_ENDING, *PROTEIN_ENDINGS)
    if path.name.endswith(known) and not path.name.endswith(_ENDINGS[key]):
        raise DataError(f"{path}: holds {key!r}, so its name must end in {_ENDINGS[key][0]}")
    ids, rows = _list(path, content, key), _list(path, content, "data")
    _check_ids(path, ids, len(rows))
    vectors = _nucleotide_vectors(path, ids, rows) if key == "nucleotide" else rows
    _check_widths(path, ids, vectors, kind=list if key == "nucleotide" else torch.Tensor)
    return StoredFeatures(path=path, ids=tuple(ids), features=_stack(path, ids, vectors))


def read_merged(path: Path) -> StoredFeatures:
    """Read a ``*_merged.pt`` file.

    Raises
    ------
    MissingInput
        If the file is not there.
    DataError
        If it has another form, holds more ids than rows or fewer, or names code to run.
    """
    import torch

    content = _read_dict(path)
    ids, matrix = _list(path, content, "ids"), content.get("data")
    if not (isinstance(matrix, torch.Tensor) and matrix.ndim == 2 and matrix.is_floating_point()):
        raise DataError(f"{path}: 'data' must be a tensor of rows x features, is {_kind(matrix)}")
    _check_ids(path, ids, len(matrix))
    features: npt.NDArray[np.float32] = matrix.detach().float().numpy()  # (row, dim)
    return StoredFeatures(
        path=path, ids=tuple(ids), features=features, label=_own_label(path, content)
    )


def write_embeddings(path: Path, ids: Sequence[str], features: npt.NDArray[np.float32]) -> None:
    """Write a ``*_DNABERT_S.pt`` or an ``*_ESM.pt`` file; the name's ending tells which.

    Parameters
    ----------
    path : Path
        The file.
    ids : sequence of str
        One for each row.
    features : float32 array, (n_rows, dim)
        The embeddings.
    """
    import torch

    _check_rows(ids, features)
    if path.name.endswith(NUCLEOTIDE_ENDING):
        rows = [
            {"label": name, "mean_representation": row.tolist()}
            for name, row in zip(ids, features, strict=True)
        ]
        _save(path, {"nucleotide": list(ids), "data": rows})
    elif path.name.endswith(PROTEIN_ENDING):
        _save(path, {"proteins": list(ids), "data": [torch.tensor(row) for row in features]})
    else:
        raise ValueError(f"{path.name!r} must end in {NUCLEOTIDE_ENDING!r} or {PROTEIN_ENDING!r}")


def write_merged(
    path: Path,
    ids: Sequence[str],
    features: npt.NDArray[np.float32],
    *,
    label: int | None = None,
) -> None:
    """Write a ``*_merged.pt`` file; without a label it is one of data to predict.

    Parameters
    ----------
    path : Path
        The file.
    ids : sequence of str
        One for each row.
    features : float32 array, (n_rows, dim)
        Nucleotide embedding followed by protein embedding.
    label : int, optional
        1 viral, 0 not, for all rows.
    """
    import torch

    _check_rows(ids, features)
    own = {} if label is None else {"labels": [label]}
    _save(path, {"ids": list(ids), "data": torch.tensor(features), **own})


def _read_dict(path: Path) -> dict[str, Any]:
    content = load_restricted(path, is_mapped=True)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a dict, as VirNucPro writes, got {_kind(content)}")
    return content


def _list(path: Path, content: Mapping[str, Any], key: str) -> list[Any]:
    values = content.get(key)
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: {key!r} must be a list that is not empty, is {_kind(values)}")
    return values


def _kind(value: object) -> str:
    shape = getattr(value, "shape", "")
    if isinstance(value, list) and len(value) > _SHOWN:
        return f"a list of {len(value)}"
    return f"{type(value).__name__} {tuple(shape)}" if shape else repr(value)[:60]


def _check_ids(path: Path, ids: list[Any], n_rows: int) -> None:
    if not all(isinstance(name, str) for name in ids):
        raise DataError(f"{path}: ids must be text")
    if len(ids) != n_rows:
        raise DataError(
            f"{path}: {len(ids)} ids for {n_rows} rows, so which row belongs to which id is "
            f"unknown; ids: {_shown(ids)}. Merge again, without the ids whose protein is missing"
        )
    if repeated := [name for name, count in Counter(ids).items() if count > 1]:
        raise DataError(f"{path}: ids that occur twice: {_shown(repeated)}")


def _shown(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(repr(name) for name in ids[:_SHOWN]) + more


def _nucleotide_vectors(path: Path, ids: list[str], rows: list[Any]) -> list[Any]:
    for name, row in zip(ids, rows, strict=True):
        if not (isinstance(row, dict) and {"label", "mean_representation"} <= row.keys()):
            raise DataError(
                f"{path}: 'data' must hold dicts with 'label' and 'mean_representation'; that of "
                f"{name!r} is {_kind(row)}"
            )
        if name != row["label"]:
            raise DataError(
                f"{path}: the row of id {name!r} is labelled {row['label']!r}. Embed again"
            )
    return [row["mean_representation"] for row in rows]


def _check_widths(path: Path, ids: list[str], vectors: list[Any], *, kind: type) -> None:
    widths = [_width(vector, kind) for vector in vectors]
    for name, vector, width in zip(ids, vectors, widths, strict=True):
        if not width or width != widths[0]:
            raise DataError(
                f"{path}: expected vectors of one length ({kind.__name__}), the first has "
                f"{widths[0]} numbers; that of {name!r} is {_kind(vector)}"
            )


def _width(vector: Any, kind: type) -> int | None:
    """Return how many numbers a list or a tensor holds; None for anything else."""
    is_vector = isinstance(vector, kind) and getattr(vector, "ndim", 1) == 1
    return len(vector) if is_vector else None


def _stack(path: Path, ids: list[str], vectors: list[Any]) -> npt.NDArray[np.float32]:
    features = np.empty((len(vectors), len(vectors[0])), dtype=np.float32)  # (row, dim)
    for row, (name, vector) in enumerate(zip(ids, vectors, strict=True)):
        try:
            features[row] = vector if isinstance(vector, list) else vector.detach().float()
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: the vector of {name!r} does not hold numbers") from error
    return features


def _own_label(path: Path, content: Mapping[str, Any]) -> int | None:
    labels = content.get("labels")
    if labels is None:
        return None
    if labels not in ([0], [1]):
        raise DataError(f"{path}: 'labels' must be [0] or [1] for the whole file, is {labels!r}")
    return int(labels[0])


def _check_rows(ids: Sequence[str], features: npt.NDArray[np.float32]) -> None:
    if features.ndim != 2 or len(ids) != len(features) or not ids:
        raise ValueError(f"{len(ids)} ids for features of shape {features.shape}")


def _save(path: Path, content: Mapping[str, object]) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_atomically(path, buffer.getvalue())


_NOT_VIRAL = re.compile(r"(?<![a-z])no[nt]?[-_. ]?viral")  # but adenoviral is viral


def read_merged_folder(folder: Path) -> tuple[StoredFeatures, ...]:
    """Read all ``*_merged.pt`` files below a folder, sorted by path.

    Parameters
    ----------
    folder : Path
        Such as ``data/data_merge``, with ``viral.1.1_merged/output_1_merged.pt`` in it.
        A label is the file's own, and where it has none, the one that its folder's name says
        (see ``label_from_folder``).

    Raises
    ------
    MissingInput
        If there is no such folder, or no merged file in it.
    DataError
        If a file cannot be used (all such files are listed), widths differ, an id stands in two
        files, or a label is unclear or contradicts its folder's name.
    """
    # Names count, so "." becomes one, and links keep theirs.
    paths = require_files(Path(os.path.abspath(folder)), MERGED_ENDING)  # noqa: PTH100 - resolve() follows
    files, problems = [], []
    for path in paths:
        try:
            files.append(_with_label(read_merged(path)))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(f"{len(problems)} of {len(paths)} files:\n" + "\n".join(problems))
    _check_files_together(files)
    return tuple(files)


def label_from_folder(name: str) -> int:
    """Return the label that a merged folder's name says: 1 if it holds ``viral``.

    Case does not count, and ``nonviral`` is not viral; VirNucPro itself asks for ``viral`` alone.
    """
    lower = name.lower()
    return int("viral" in lower and _NOT_VIRAL.search(lower) is None)


def _with_label(stored: StoredFeatures) -> StoredFeatures:
    name = stored.path.parent.name
    if stored.label is not None and _is_unclear(name):
        return stored
    label = label_from_folder(name)
    if stored.label not in (None, label):
        raise DataError(
            f"{stored.path}: the file's label is {stored.label}, but its folder stands for "
            f"{label}. Rename the folder, or move the file"
        )
    return replace(stored, label=label)


def _is_unclear(folder_name: str) -> bool:
    lower = folder_name.lower()
    return bool(_NOT_VIRAL.search(lower)) or ("viral" in lower and "viral" not in folder_name)


def _check_files_together(files: Sequence[StoredFeatures]) -> None:
    first = files[0]
    for other in files:
        if other.features.shape[1] != first.features.shape[1]:
            raise DataError(
                f"{other.path}: {other.features.shape[1]} features a row, but "
                f"{first.path} has {first.features.shape[1]}. They come from different models"
            )
    seen = Counter(chain.from_iterable(stored.ids for stored in files))
    if repeated := [name for name, count in seen.items() if count > 1]:
        raise DataError(
            f"{len(repeated)} ids stand in two of the {len(files)} merged files, such as "
            f"{repeated[0]!r}. Merge each record once"
        )


_FRAME_COLUMNS = ("Sequence_ID", "Prediction", "score1", "score2")  # score2 is the viral class's
_WINDOW_COLUMNS = ("Modified_ID", "Is_Virus", "max_score_0", "max_score_1")


def write_results(
    folder: Path, name: str, ids: pd.Series[str], scores: pd.Series[float], windows: pd.Series[str]
) -> None:
    """Write what VirNucPro's prediction writes: a line a frame, and a line a window.

    Parameters
    ----------
    folder : Path
        Where ``NAME_prediction_results.txt`` and ``NAME_prediction_results_highestscore.csv`` go.
    name : str
        What the two names begin with.
    ids, scores, windows : Series, (n_frames,)
        Each frame's id, the probability of the viral class, and its window's id.
    """
    called = np.where(scores > 0.5, "virus", "others")
    columns = (ids, called, 1 - scores, scores)
    frames = pd.DataFrame(dict(zip(_FRAME_COLUMNS, columns, strict=True)))
    text = frames.to_csv(sep="\t", index=False)
    write_atomically(folder / f"{name}_prediction_results{RESULTS_ENDING}", text)
    largest = frames[["score1", "score2"]].groupby(windows, sort=True).max()
    others, viral = largest["score1"], largest["score2"]
    rows = (largest.index, viral >= others, others, viral)
    table = pd.DataFrame(dict(zip(_WINDOW_COLUMNS, rows, strict=True)))
    path = folder / f"{name}_prediction_results_highestscore.csv"
    write_atomically(path, table.to_csv(index=False))


def read_results(path: Path) -> pd.DataFrame:
    """Read VirNucPro's ``prediction_results.txt``: the id and the viral score of each frame.

    Returns
    -------
    DataFrame
        ``id`` and ``score``, as text.

    Raises
    ------
    DataError
        If it has other columns. Its ``prediction_results_highestscore.csv`` holds no frames.
    """
    table = pd.read_csv(path, sep="\t", dtype="str", keep_default_na=False)
    if tuple(table.columns) != _FRAME_COLUMNS:
        raise DataError(
            f"{path}: expected the columns {', '.join(_FRAME_COLUMNS)}, separated by tabs; has "
            f"{', '.join(map(str, table.columns))[:200]}. Name VirNucPro's prediction_results.txt"
        )
    return table[["Sequence_ID", "score2"]].set_axis(["id", "score"], axis=1)
