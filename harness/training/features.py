"""What training sees: features and labels of the training and the validation rows, checked.

The test set has no place in these types, so it cannot be reached from the trainer. Features are
one array in memory, or rows that stay on disk (``stored_rows``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from harness.errors import DataError
from harness.training.stored_rows import StoredRows
from harness.training.widths import explain_widths

__all__ = [
    "Features",
    "LabelledRows",
    "TrainingData",
    "as_rows",
    "label_rows",
    "read_blocks",
    "read_rows",
]

Features: TypeAlias = npt.NDArray[np.floating] | torch.Tensor | StoredRows
Rows: TypeAlias = torch.Tensor | StoredRows

# Rows in one block of a pass over all of them: enough to keep the cores busy.
BLOCK_ROWS = 4096
NAMED_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRows:
    """Rows with their labels.

    Attributes
    ----------
    features : float32 tensor or StoredRows, (n_rows, n_features)
    labels : int64 tensor, (n_rows,)
        0 or 1.
    ids : pandas Index, optional
        Record ids, for messages.
    """

    features: Rows
    labels: torch.Tensor
    ids: pd.Index | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_features(self) -> int:
        """Width of the features."""
        return self.features.shape[1]

    def names(self, positions: Sequence[int]) -> list[str]:
        """Return the ids of some rows, or their numbers where there are no ids."""
        if self.ids is None:
            return [f"row {position}" for position in positions]
        return [str(name) for name in self.ids.take(list(positions))]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """All that a head is trained on and stopped by.

    Raises
    ------
    DataError
        If the parts differ in width, or there are fewer training rows than one batch.
    """

    train: LabelledRows
    validation: LabelledRows
    batch_size: int

    def __post_init__(self) -> None:
        train, validation = self.train, self.validation
        if train.n_features != validation.n_features:
            raise DataError(
                "validation features: "
                + explain_widths(expected=train.n_features, found=validation.n_features)
            )
        if len(train) < self.batch_size:
            raise DataError(
                f"expected at least one batch of {self.batch_size} training rows, got "
                f"{len(train)}. Use more data or a smaller batch_size"
            )


def label_rows(
    part: str,
    features: Features,
    labels: npt.ArrayLike,
    ids: Sequence[str] | pd.Series[str] | None = None,
) -> LabelledRows:
    """Put features and labels together.

    Parameters
    ----------
    part : str
        ``train`` or ``validation``, for messages.
    features : float array, (n_rows, n_features)
        Or rows on disk.
    labels : int array, (n_rows,)
        0 or 1; both must occur.
    ids : sequence of str, (n_rows,), optional

    Raises
    ------
    DataError
        If the numbers of rows differ, a label is neither 0 nor 1, one class is missing, or a
        feature is not finite; the rows are named.
    """
    rows = as_rows(features)
    values = np.asarray(labels)
    for what, count in {
        "labels": len(values),
        "ids": rows.shape[0] if ids is None else len(ids),
    }.items():
        if count != rows.shape[0]:
            raise DataError(
                f"{part}: expected one of {what} per row, got {count} for {rows.shape[0]} rows"
            )
    labelled = LabelledRows(
        features=rows,
        labels=torch.from_numpy((values == 1).astype(np.int64)),
        ids=None if ids is None else pd.Index(ids),
    )
    _require_both_classes(part, values, labelled)
    _require_finite(part, labelled)
    return labelled


def as_rows(features: Features) -> Rows:
    """Return features as a float32 tensor (without a copy where they are one), or rows on disk.

    Raises
    ------
    DataError
        If they are no table of rows and columns.
    """
    if isinstance(features, StoredRows):
        return features
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"expected features of shape (rows, features), got {tuple(features.shape)}")
    if isinstance(features, torch.Tensor):
        return features.detach().to(torch.float32)
    with warnings.catch_warnings():
        # Arrays that may not be written, such as memory-mapped ones; nothing writes to them here.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.require(features, np.float32, "C"))


def read_rows(
    rows: Rows, positions: torch.Tensor, *, into: torch.Tensor | None = None
) -> torch.Tensor:
    """Return some rows, float32 (n_positions, n_features), where the features lie, or in ``into``.

    Parameters
    ----------
    positions : int64 tensor, (n_positions,)
        Row numbers.
    into : float32 tensor, (n_positions, n_features), optional
        Is overwritten; in the host's memory for rows on disk.
    """
    if isinstance(rows, StoredRows):
        return rows.read(positions, into=into)
    numbers = positions.to(rows.device)
    if into is None:
        return rows.index_select(0, numbers)
    if rows.device != into.device:
        return into.copy_(rows.index_select(0, numbers))
    return torch.index_select(rows, 0, numbers, out=into)


def read_blocks(rows: Rows, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield all rows in blocks on the device, each with the number of its first row."""
    n_rows = rows.shape[0]
    for start in range(0, n_rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, n_rows)
        if isinstance(rows, StoredRows):
            block = rows.read(torch.arange(start, stop))
        else:
            block = rows[start:stop]
        yield start, block.to(device)


def _require_both_classes(
    part: str, values: npt.NDArray[np.generic], labelled: LabelledRows
) -> None:
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        raise DataError(
            f"{part}: labels must be 0 or 1; {len(wrong)} are not, such as "
            f"{values[wrong[0]]} of {labelled.names(wrong[:1].tolist())[0]}"
        )
    classes = np.unique(values)
    if len(classes) != 2:
        raise DataError(
            f"{part}: both classes are needed, but all {len(values)} rows have label "
            f"{int(classes[0])}"
        )


def _require_finite(part: str, labelled: LabelledRows) -> None:
    wrong: list[int] = []
    for start, block in read_blocks(labelled.features, torch.device("cpu")):
        if not block.sum().isfinite():  # one number tells for a whole block, nearly always
            bad = ~block.isfinite().all(dim=1)
            wrong += (start + bad.nonzero().flatten()).tolist()
    if wrong:
        raise DataError(
            f"{part}: {len(wrong)} rows hold features that are not finite, such as "
            f"{', '.join(labelled.names(wrong[:NAMED_ROWS]))}. Embed these records again"
        )
