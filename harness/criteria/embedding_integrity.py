"""The embedding-integrity criterion: the stored embeddings are what the embedder computes.

Inspects stores and judges what it found; it makes no embeddings but a few to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from harness.criteria.result import CriterionResult, State
from harness.embedding.embedder import Embedder, Rows
from harness.embedding.store import EmbeddingStore
from harness.errors import DataError, NotFiniteError

__all__ = [
    "StoreInspection",
    "fail_not_finite",
    "inspect_store",
    "judge_embeddings",
]


# One sequence alone against the same in a batch: the same function, summed in another order.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
# The same sequences embedded elsewhere, maybe in half precision; others differ by far more.
NUCLEOTIDE_TOLERANCE = 5e-2
ROWS_AT_A_TIME = 65_536
ROWS_COMPARED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInspection:
    """What was found in one store.

    Attributes
    ----------
    name : str
        Whose embeddings these are.
    n_records, n_rows : int
        Records that should be there; rows that are.
    dim, expected_dim : int
        Width of the rows; width that the embedder has.
    n_not_finite : int
        Rows with a value that is not finite.
    n_constant : int
        Columns that are the same in all rows (only where there are at least two).
    n_recomputed : int
        Records that were embedded again, alone; none of features, whose nucleotide columns are
        compared with the other side's.
    largest_difference : float or None
        Between those and the stored rows, relative to the largest value.
    tolerance : float
        What that may be.
    sha256 : str
        Digest of the store.
    """

    name: str
    n_records: int
    n_rows: int
    dim: int
    expected_dim: int
    n_not_finite: int
    n_constant: int
    n_recomputed: int
    largest_difference: float | None
    tolerance: float
    sha256: str

    @property
    def compared_with(self) -> str:
        """What its rows were compared with."""
        return "the embedder" if self.n_recomputed else "the nucleotide embeddings of the run"

    @property
    def differs(self) -> bool:
        """Whether they differ from that by too much."""
        return self.largest_difference is not None and not (
            self.largest_difference <= self.tolerance
        )

    def problems(self) -> list[str]:
        """Say what is wrong, if anything."""
        found = {
            f"has {self.n_rows} rows for {self.n_records} records": self.n_rows != self.n_records,
            f"is {self.dim} wide, expected {self.expected_dim}": self.dim != self.expected_dim,
            f"has {self.n_not_finite} rows that are not finite": self.n_not_finite > 0,
            f"has {self.n_constant} of {self.dim} columns constant": self.n_constant == self.dim,
            f"differs from {self.compared_with} by {self.largest_difference} "
            f"(allowed {self.tolerance})": self.differs,
        }
        return [f"{self.name} {text}" for text, is_so in found.items() if is_so]


def inspect_store(
    name: str,
    store: Rows,
    ids: Sequence[str] | pd.Series[str],
    *,
    expected_dim: int,
    sha256: str,
    embedder: Embedder | None = None,
    sample: pd.Series[str] | None = None,
    dtype: str = "float32",
    nucleotides: Rows | None = None,
) -> StoreInspection:
    """Look at every row of a store, and embed a few records again, one by one.

    Parameters
    ----------
    name : str
        Whose embeddings these are.
    store : Rows
        The store.
    ids : sequence of str, (n_records,)
        The records that it must hold.
    expected_dim : int
        Width that its rows must have.
    sha256 : str
        Digest of the store, to be recorded.
    embedder : Embedder, optional
        What made it; without one nothing is recomputed.
    sample : Series of str, indexed by id, optional
        Sequences to embed again.
    dtype : str
        What the embedder computes in; with what the store holds it decides the tolerance.
    nucleotides : Rows, optional
        What the first columns must equal, where the store holds features: both sides' heads see
        the same nucleotide embeddings.
    """
    n_not_finite, lowest, highest = _scan(store)
    difference = None
    if embedder is not None and sample is not None:
        difference = _largest_difference(store, embedder, sample)
    if nucleotides is not None:
        difference = _difference_of_nucleotides(store, nucleotides, ids)
    return StoreInspection(
        name=name,
        n_records=len(ids),
        n_rows=len(store.ids.intersection(pd.Index(ids))),
        dim=store.dim,
        expected_dim=expected_dim,
        n_not_finite=n_not_finite,
        n_constant=int(np.count_nonzero(lowest == highest)) if len(store) > 1 else 0,
        n_recomputed=0 if sample is None or embedder is None else len(sample),
        largest_difference=difference,
        tolerance=NUCLEOTIDE_TOLERANCE
        if nucleotides is not None
        else max(TOLERANCE[dtype], TOLERANCE[_stored_as(store)]),
        sha256=sha256,
    )


def judge_embeddings(inspections: Sequence[StoreInspection]) -> CriterionResult:
    """Judge the stores of one run: PASS only if none has a problem.

    Raises
    ------
    ValueError
        If there is no store to judge.
    """
    if not inspections:
        raise ValueError("expected at least one store")
    problems = [text for inspection in inspections for text in inspection.problems()]
    names = ", ".join(f"{i.name} ({i.n_rows} x {i.dim})" for i in inspections)
    return CriterionResult(
        id="embedding-integrity",
        state=State.FAIL if problems else State.PASS,
        value=Fraction(len(problems)),
        limit=Fraction(0),
        unit="problems",
        detail="; ".join(problems) or f"One finite row a record in each store: {names}.",
        warnings=tuple(
            f"{i.name} has {i.n_constant} of {i.dim} columns constant"
            for i in inspections
            if 0 < i.n_constant < i.dim
        ),
        next_steps=_next_steps(inspections),
        evidence={"stores": [_plain(inspection) for inspection in inspections]},
    )


def fail_not_finite(error: NotFiniteError) -> CriterionResult:
    """Return the FAIL of a run whose extraction stopped at vectors that are not finite."""
    return CriterionResult(
        id="embedding-integrity",
        state=State.FAIL,
        value=Fraction(1),
        limit=Fraction(0),
        unit="problems",
        detail=f"{error.what}.",
        next_steps=(f"{error.remedy}.",),
    )


def _stored_as(store: Rows) -> str:
    return store.dtype if isinstance(store, EmbeddingStore) else "float32"


def _plain(inspection: StoreInspection) -> dict[str, Any]:
    """Return JSON values, which know no number that is not finite."""
    values = asdict(inspection)
    is_bad = {name: isinstance(v, float) and not math.isfinite(v) for name, v in values.items()}
    return {name: None if is_bad[name] else value for name, value in values.items()}


def _scan(store: Rows) -> tuple[int, np.ndarray, np.ndarray]:
    """Count rows that are not finite, and find each column's extremes, some rows at a time."""
    n_not_finite = 0
    lowest = np.full(store.dim, np.inf, dtype=np.float32)
    highest = -lowest
    for start in range(0, len(store), ROWS_AT_A_TIME):
        rows = store.rows(list(store.ids[start : start + ROWS_AT_A_TIME]))
        n_not_finite += int(np.count_nonzero(~np.isfinite(rows).all(axis=1)))
        lowest = np.minimum(lowest, rows.min(axis=0))
        highest = np.maximum(highest, rows.max(axis=0))
    return n_not_finite, lowest, highest


def _largest_difference(store: Rows, embedder: Embedder, sample: pd.Series[str]) -> float | None:
    try:
        stored = store.rows(list(sample.index))
    except DataError:  # a missing row is reported as such
        return None
    alone = np.concatenate([embedder.embed([sequence]) for sequence in sample])
    if alone.shape != stored.shape:
        return None
    largest_stored = max(float(np.abs(stored).max()), 1e-30)  # a store of zeros must not divide
    return float(np.abs(alone - stored).max()) / largest_stored


def _difference_of_nucleotides(
    store: Rows, nucleotides: Rows, ids: Sequence[str] | pd.Series[str]
) -> float | None:
    """Return how far a store's first columns are from what they must equal, in spread records."""
    positions = np.linspace(0, len(ids) - 1, min(ROWS_COMPARED, len(ids))).round().astype(int)
    chosen = pd.Series(ids, dtype="str").iloc[positions].tolist()
    try:
        features, expected = store.rows(chosen), nucleotides.rows(chosen)
    except DataError:  # a missing row is reported as such
        return None
    width = expected.shape[1]
    if features.shape[1] < width:
        return math.inf
    largest = max(float(np.abs(expected).max()), 1e-30)
    return float(np.abs(features[:, :width] - expected).max()) / largest


def _next_steps(inspections: Sequence[StoreInspection]) -> tuple[str, ...]:
    return tuple(step for inspection in inspections for step in _steps_for(inspection))


def _steps_for(found: StoreInspection) -> Iterator[str]:
    """Yield what to do about each problem of one store."""
    if found.n_rows != found.n_records:
        n_absent = found.n_records - found.n_rows
        yield f"Embed the {n_absent:,} records that {found.name} lacks, with all others: again."
    if found.dim != found.expected_dim:
        yield (
            f"Name the embedder that {found.name} was made by: rows of {found.dim} numbers are not "
            f"those of one that yields {found.expected_dim}."
        )
    if found.n_not_finite:
        yield f"{found.name}: {NotFiniteError.remedy}."
        return  # the rest follows from it
    if found.n_constant == found.dim:
        yield f"Check the sequences and weights behind {found.name}: all its rows are alike."
    if found.differs and not found.n_recomputed:
        yield (
            f"Merge {found.name} with the nucleotide embeddings that the other side has: a "
            "difference between the heads would else not be the protein embedder's."
        )
    elif found.differs:
        yield (
            f"Name the weights that {found.name} was made by, or delete it and embed again: of "
            f"{found.n_recomputed} records embedded anew some differ by "
            f"{found.largest_difference:.2g} of the largest value."
        )
