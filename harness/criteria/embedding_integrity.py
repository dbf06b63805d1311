"""The embedding-integrity criterion: the stored embeddings are what the embedder computes.

Owns what is looked at in a store, what counts as a problem, and what to do about it. How vectors
are compared stands in ``same_vector``; which stores and records are looked at is the run's choice.
It makes no embeddings but a few to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.criteria.criterion import FAILS, Fault, Run
from harness.criteria.result import CriterionResult, State
from harness.criteria.same_vector import (
    LARGEST_COLUMN,
    LARGEST_RELATIVE_L2,
    LARGEST_SHARE,
    Comparison,
    compare_rows,
    relative_l2,
    take_yardstick,
)
from harness.embedding.embedder import Embedder, Rows
from harness.errors import DataError, NotFiniteError

__all__ = [
    "FAULTS",
    "StoreInspection",
    "inspect_store",
    "judge",
    "judge_embeddings",
]


ROWS_AT_A_TIME = 65_536
# Enough for the spread of each dimension, few enough to read from a store of any size.
SAMPLED_ROWS = 4_096
# Of features, beside the nucleotide embeddings: both are stored already.
NUCLEOTIDES_COMPARED = 4_096


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
    largest_share : float or None
        How far a compared row is from the stored one at most, over the median distance of two rows.
    n_mistaken : int
        Compared rows to which another record's stored row is nearer than their own.
    largest_column : float or None
        Of features: how far a nucleotide column is from the other side's at most, in its spread.
    reference_difference : float or None
        Relative L2, at most, of a row in float32 and the embedder's reference; None without one.
    reference : str
        What that reference is, or why there is none.
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
    largest_share: float | None
    n_mistaken: int
    largest_column: float | None
    reference_difference: float | None
    reference: str
    sha256: str

    @property
    def compared_with(self) -> str:
        """What its rows were compared with."""
        return "the embedder" if self.n_recomputed else "the nucleotide embeddings of the run"

    @property
    def differs(self) -> bool:
        """Whether a compared row is not the stored one."""
        return (
            _exceeds(self.largest_share, LARGEST_SHARE)
            or _exceeds(self.largest_column, LARGEST_COLUMN)
            or self.n_mistaken > 0
        )

    @property
    def is_another_function(self) -> bool:
        """Whether the embedder does not compute what its reference computes."""
        return _exceeds(self.reference_difference, LARGEST_RELATIVE_L2)

    def problems(self) -> list[str]:
        """Say what is wrong, if anything."""
        found = {
            f"has {self.n_rows} rows for {self.n_records} records": self.n_rows != self.n_records,
            f"is {self.dim} wide, expected {self.expected_dim}": self.dim != self.expected_dim,
            f"has {self.n_not_finite} rows that are not finite": self.n_not_finite > 0,
            f"has {self.n_constant} of {self.dim} columns constant": self.n_constant == self.dim,
            f"differs from {self.compared_with}: {self._difference()}": self.differs,
            f"is not embedded as by the reference: rows differ by {self.reference_difference} "
            f"(relative L2, allowed {LARGEST_RELATIVE_L2:g})": self.is_another_function,
        }
        return [f"{self.name} {text}" for text, is_so in found.items() if is_so]

    def _difference(self) -> str:
        """Say how far the rows are from what they must equal."""
        text = f"a row lies {self.largest_share} of the median distance of two rows from its own "
        text += f"(allowed {LARGEST_SHARE:g}), and {self.n_mistaken} are nearer to another's"
        if _exceeds(self.largest_column, LARGEST_COLUMN):
            text += f"; a column moved by {self.largest_column} of its spread"
        return text


def judge(run: Run) -> CriterionResult:
    """Judge that every record has one sound embedding of each kind."""
    try:
        return judge_embeddings(run.inspections())
    except NotFiniteError as error:
        return _fail_not_finite(error)


def inspect_store(
    name: str,
    store: Rows,
    ids: Sequence[str] | pd.Series[str],
    *,
    expected_dim: int,
    sha256: str,
    embedder: Embedder | None = None,
    sample: pd.Series[str] | None = None,
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
        What made it; without one nothing is recomputed. If it has ``reference(sequences)``, which
        returns its rows in float32 and those of an implementation of others, these are compared;
        if it has ``is_reference``, it is that implementation itself.
    sample : Series of str, indexed by id, optional
        Sequences to embed again.
    nucleotides : Rows, optional
        What the first columns must equal, where the store holds features: both sides' heads see
        the same nucleotide embeddings.
    """
    n_not_finite, lowest, highest = _scan(store)
    compared, difference, reference = None, None, "nothing was embedded again"
    if embedder is not None and sample is not None:
        compared = _compare_with_embedder(store, embedder, sample)
        difference, reference = _compare_with_reference(embedder, sample)
    if nucleotides is not None:
        compared = _compare_nucleotides(store, nucleotides, ids)
    return StoreInspection(
        name=name,
        n_records=len(ids),
        n_rows=len(store.ids.intersection(pd.Index(ids))),
        dim=store.dim,
        expected_dim=expected_dim,
        n_not_finite=n_not_finite,
        n_constant=int(np.count_nonzero(lowest == highest)) if len(store) > 1 else 0,
        n_recomputed=0 if sample is None or embedder is None else len(sample),
        largest_share=None if compared is None else compared.largest_share,
        n_mistaken=0 if compared is None else int(compared.is_mistaken.sum()),
        largest_column=compared.largest_column if compared and nucleotides is not None else None,
        reference_difference=difference,
        reference=reference,
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
        detail="; ".join(problems)
        or f"One finite row a record in each store: {names}. {_say_references(inspections)}",
        warnings=tuple(
            f"{i.name} has {i.n_constant} of {i.dim} columns constant"
            for i in inspections
            if 0 < i.n_constant < i.dim
        ),
        next_steps=_next_steps(inspections),
        evidence={"stores": [_plain(inspection) for inspection in inspections]},
    )


def _fail_not_finite(error: NotFiniteError) -> CriterionResult:
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


def _exceeds(value: float | None, limit: float) -> bool:
    """Whether there is a value that is not within the limit; what is no number is not."""
    return value is not None and not value <= limit


def _say_references(inspections: Sequence[StoreInspection]) -> str:
    """Say of each embedder what its computation was compared with."""
    return "; ".join(f"{i.name}: {i.reference}" for i in inspections) + "."


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


def _sampled(store: Rows, dim: int) -> npt.NDArray[np.float32]:
    """Return the first columns of rows spread over a store."""
    positions = np.linspace(0, len(store) - 1, min(SAMPLED_ROWS, len(store))).round().astype(int)
    return store.rows(list(store.ids[positions]))[:, :dim]


def _compare_with_embedder(
    store: Rows, embedder: Embedder, sample: pd.Series[str]
) -> Comparison | None:
    try:
        stored = store.rows(list(sample.index))
    except DataError:  # a missing row is reported as such
        return None
    alone = np.concatenate([embedder.embed([sequence]) for sequence in sample])
    if alone.shape != stored.shape:
        return None
    yardstick = take_yardstick(_sampled(store, store.dim))
    return compare_rows(alone, stored, yardstick, keys=sample.tolist())


def _compare_with_reference(embedder: Embedder, sample: pd.Series[str]) -> tuple[float | None, str]:
    """Return the largest relative L2 from the embedder's reference, and what that is."""
    if getattr(embedder, "is_reference", False):
        return None, "is computed by the reference implementation itself"
    ask = getattr(embedder, "reference", None)
    if ask is None:
        return None, "has no reference implementation to be compared with"
    found, expected = ask(sample.tolist())
    difference = float(relative_l2(found, expected).max())
    return difference, (
        f"{len(sample)} sequences in float32 are within {difference:.1e} of the reference "
        f"implementation (relative L2, allowed {LARGEST_RELATIVE_L2:g})"
    )


def _compare_nucleotides(
    store: Rows, nucleotides: Rows, ids: Sequence[str] | pd.Series[str]
) -> Comparison | None:
    """Compare a store's first columns with what they must equal, in spread records."""
    n_rows = min(NUCLEOTIDES_COMPARED, len(ids))
    positions = np.linspace(0, len(ids) - 1, n_rows).round().astype(int)
    chosen = pd.Series(ids, dtype="str").iloc[positions].tolist()
    try:
        features, expected = store.rows(chosen), nucleotides.rows(chosen)
    except DataError:  # a missing row is reported as such
        return None
    width = expected.shape[1]
    if features.shape[1] < width:  # they cannot hold them
        nothing = np.zeros(n_rows, dtype=np.bool_)
        shares = np.full(n_rows, math.inf)
        return Comparison(shares=shares, is_mistaken=nothing, largest_column=math.inf)
    return compare_rows(features[:, :width], expected, take_yardstick(expected))


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
            f"{found.n_recomputed} records embedded anew some are not the stored ones."
        )
    if found.is_another_function:
        yield (
            f"Report this with the checkpoint's name: what this project computes with "
            f"{found.name}'s weights is not what they were trained for, and its vectors are wrong."
        )


FAULTS = (
    Fault(
        name="a swapped checkpoint",
        expected=FAILS,
        plant=lambda bench: bench.with_other_weights(),
    ),
)
