"""Folders of VirNucPro's merged files: all rows together, and the label of each file.

Owns the rule that tells a label from a folder's name. The form of one file is not known here.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from harness.data.formats.virnucpro import MERGED_ENDING, StoredFeatures, read_merged
from harness.data.inputs import require_files
from harness.errors import DataError

__all__ = ["label_from_folder", "read_merged_folder"]

_NOT_VIRAL = re.compile(r"(?<![a-z])no[nt]?[-_. ]?viral")  # but adenoviral is viral


def read_merged_folder(
    folder: Path, *, labels: Mapping[str, int] | None = None
) -> tuple[StoredFeatures, ...]:
    """Read all ``*_merged.pt`` files below a folder, sorted by path.

    Parameters
    ----------
    folder : Path
        Such as ``data/data_merge``, with ``viral.1.1_merged/output_1_merged.pt`` in it.
    labels : mapping of str to int, optional
        The label of each folder by its name. Without it the label is the file's own, and where
        it has none, the one that its folder's name says (see ``label_from_folder``).

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
            files.append(_with_label(read_merged(path), labels))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(f"{len(problems)} of {len(paths)} files:\n" + "\n".join(problems))
    _check_files_together(files)
    return tuple(files)


def label_from_folder(name: str) -> int:
    """Return the label that VirNucPro reads from a merged folder's name: 1 if it holds ``viral``.

    Raises
    ------
    DataError
        For a name that the rule would mislabel: ``nonviral_merged``, ``VIRAL_merged``.
    """
    if _is_unclear(name):
        raise DataError(
            f"folder {name!r}: by VirNucPro's rule only a name that holds 'viral' is viral, which "
            "does not fit this one. Rename the folder, or give its label"
        )
    return int("viral" in name)


def _with_label(stored: StoredFeatures, labels: Mapping[str, int] | None) -> StoredFeatures:
    name = stored.path.parent.name
    if labels is not None and name not in labels:
        raise DataError(f"{stored.path}: no label was given for the folder {name!r}")
    if labels is None and stored.label is not None and _is_unclear(name):
        return stored
    label = label_from_folder(name) if labels is None else labels[name]
    if stored.label not in (None, label):
        raise DataError(
            f"{stored.path}: the file's label is {stored.label}, but its folder stands for "
            f"{label}. Give the folder's label, or move the file"
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
