"""What training sees: features and labels of the training and the validation rows, checked.

The test set has no place in these types, so it cannot be reached from the trainer. Features are one
array in memory, or rows of embeddings, side by side, that stay on disk and are read several at once
when they are needed; what a width means is known for messages that help. How a store comes to be is
not known here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from harness.embedding.embedder import Rows as EmbeddingRows
from harness.embedding.embedder import locate
from harness.embedding.store import DTYPES, EmbeddingStore, widen
from harness.errors import ArtifactError, DataError, NotFiniteError

__all__ = [
    "Features",
    "LabelledRows",
    "StoredRows",
    "TrainingData",
    "as_rows",
    "describe_width",
    "explain_widths",
    "label_rows",
    "read_blocks",
    "read_rows",
]


READERS = 8  # reads under way at once: disks answer random reads faster when several wait

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


class StoredRows:
    """The features of some records: the rows of one or more stores, joined end to end.

    Parameters
    ----------
    stores : sequence of Rows
        Such as the nucleotide store, then the protein store. Rows of an ``EmbeddingStore``, of any
        dtype, are read quickest.
    ids : sequence of str, (n_rows,)
        The records, in the order of the rows.

    Raises
    ------
    DataError
        If a record is not in a store.
    ArtifactError
        If a shard cannot be read.
    """

    def __init__(
        self, stores: Sequence[EmbeddingRows], ids: Sequence[str] | pd.Series[str]
    ) -> None:
        self._parts: list[tuple[slice, _Source]] = []
        start = 0
        for store in stores:
            stop = start + store.dim
            self._parts.append((slice(start, stop), _source(store, pd.Index(ids))))
            start = stop
        self.shape = (len(ids), start)

    def read(self, positions: torch.Tensor, *, into: torch.Tensor | None = None) -> torch.Tensor:
        """Return some rows in the order asked for, float32 (n_positions, n_features).

        Parameters
        ----------
        positions : int64 tensor, (n_positions,)
            Row numbers.
        into : float32 tensor, (n_positions, n_features), optional
            Is overwritten and returned; in the host's memory.

        Raises
        ------
        DataError
            If a record is not in a store.
        ArtifactError
            If a shard cannot be read.
        """
        rows = torch.empty((len(positions), self.shape[1])) if into is None else into
        target, wanted = rows.numpy(), positions.numpy()
        with ThreadPoolExecutor(READERS) as readers:
            reads = [
                readers.submit(read)
                for columns, source in self._parts
                for read in source.reads(target[:, columns], wanted)
            ]
        for done in reads:
            done.result()
        return rows


class _Source(Protocol):
    """One store's rows of the records."""

    def reads(self, target: Floats, positions: Numbers) -> Iterator[Callable[[], None]]:
        """Yield calls that together fill the target, in any order, with the rows asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ById:
    """Rows that their store finds."""

    store: EmbeddingRows
    ids: pd.Index[str]

    def reads(self, target: Floats, positions: Numbers) -> Iterator[Callable[[], None]]:
        yield partial(self._read, target, positions)

    def _read(self, target: Floats, positions: Numbers) -> None:
        target[:] = self.store.rows(self.ids.take(positions).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shards:
    """Rows of a store that are read at their place."""

    store: EmbeddingStore
    rows: Numbers  # of each record, within the store
    offsets_bytes: tuple[int, ...]  # where each shard's values begin

    def reads(self, target: Floats, positions: Numbers) -> Iterator[Callable[[], None]]:
        numbers, within = np.divmod(self.rows[positions], self.store.plan.rows_per_shard)
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            places = places[np.argsort(within[places], kind="stable")]
            yield partial(self._read, int(number), target, places, within[places])

    def _read(self, number: int, target: Floats, places: Numbers, rows: Numbers) -> None:
        """Read some rows of a shard into those places of the target."""
        path = self.store.plan.path(self.store.folder, number)
        stored = np.empty((len(rows), self.store.dim), dtype=DTYPES[self.store.dtype])
        n_bytes, first = stored.strides[0], self.offsets_bytes[number]
        try:
            with path.open("rb", buffering=0) as file:
                for values, row in zip(stored, rows.tolist(), strict=True):
                    if os.preadv(file.fileno(), [values], first + row * n_bytes) != n_bytes:
                        raise ArtifactError(f"{path}: ends within a row. {_remedy(path)}")
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error}). {_remedy(path)}") from error
        target[places] = widen(stored, self.store.dtype)


def _source(store: EmbeddingRows, ids: pd.Index[str]) -> _Source:
    if not isinstance(store, EmbeddingStore):
        return _ById(store=store, ids=ids)
    remedy = "Embed the records that you ask for"
    rows = locate(store.ids, ids.to_series(), what="embedding", folder=store.folder, remedy=remedy)
    return _Shards(store=store, rows=rows, offsets_bytes=store.offsets_bytes())


def _remedy(path: Path) -> str:
    return f"Delete {path.parent} and embed again"


# DNABERT-S gives 768 numbers; the protein embedder gives the rest.
KNOWN_WIDTHS = {
    2048: "768 + 1280, FastESM2_650 or ESM2 650M",
    3328: "768 + 2560, ESM2 3B",
}


def describe_width(n_features: int) -> str:
    """Return a width with the embedder that it belongs to, where that is known.

    Examples
    --------
    >>> describe_width(3328)
    '3328 features (768 + 2560, ESM2 3B)'
    >>> describe_width(100)
    '100 features'
    """
    known = KNOWN_WIDTHS.get(n_features)
    return f"{n_features} features" + (f" ({known})" if known else "")


def explain_widths(*, expected: int, found: int) -> str:
    """Return a sentence on a width that does not fit, with all widths that are known."""
    known = "; ".join(f"{width} = {parts}" for width, parts in KNOWN_WIDTHS.items())
    return (
        f"expected {describe_width(expected)}, got {describe_width(found)}. "
        f"Known widths: {known}. Use the head and the embeddings of the same protein embedder"
    )


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
    labels : int array, (n_rows,) or (n_rows, 1)
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
    if values.shape == (rows.shape[0], 1):
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"{part}: expected labels of shape (rows,), got {values.shape}")
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
    if not hasattr(features, "ndim"):  # a list of rows
        features = np.asarray(features, dtype=np.float32)
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
        raise NotFiniteError(
            f"{part}: {len(wrong)} rows hold features that are not finite, such as "
            f"{', '.join(labelled.names(wrong[:NAMED_ROWS]))}"
        )
