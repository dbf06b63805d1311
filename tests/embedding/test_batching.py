"""Which sequences go together: all of them, once, and never too many tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.embedding.devices import (
    Rows,
    equal_length_batches,
    packed_batches,
    padded_batches,
)

LENGTHS = st.lists(st.integers(3, 1024), max_size=60).map(lambda n: np.array(n, dtype=np.int64))
BUDGETS = st.integers(1, 5_000)

Divide = Callable[[npt.NDArray[np.int64], int], list[Rows]]


@pytest.mark.parametrize("divide", [packed_batches, equal_length_batches, padded_batches])
@given(lengths=LENGTHS, budget=BUDGETS)
def test_batches_then_every_row_is_in_one_and_the_budget_holds(
    divide: Divide, lengths: npt.NDArray[np.int64], budget: int
) -> None:
    """Only a sequence that is longer than the budget exceeds it, and then alone."""
    batches = divide(lengths, budget)

    rows = np.concatenate([*batches, np.array([], dtype=np.int64)])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert all(len(batch) for batch in batches)
    assert all(len(b) == 1 or lengths[b].sum() <= budget for b in batches)


@given(lengths=LENGTHS, budget=BUDGETS)
def test_equal_length_batches_then_each_holds_one_length(
    lengths: npt.NDArray[np.int64], budget: int
) -> None:
    """So nothing in them is padding."""
    assert all(len(set(lengths[b])) == 1 for b in equal_length_batches(lengths, budget))


def test_packed_batches_when_tokens_do_not_divide_then_none_is_nearly_empty() -> None:
    """The batches share the tokens evenly; a small last one would cost as much as a full one."""
    lengths = np.full(101, 100)

    tokens = [int(lengths[rows].sum()) for rows in packed_batches(lengths, 1_100)]

    assert max(tokens) - min(tokens) <= 100


def test_packed_batches_then_the_longest_sequences_come_first() -> None:
    """Memory that does not suffice shows in the first batch."""
    first, *_ = packed_batches(np.array([5, 900, 7, 800]), 900)

    assert first.tolist() == [1]


@given(lengths=LENGTHS, budget=BUDGETS)
def test_padded_batches_then_padding_counts_as_well(
    lengths: npt.NDArray[np.int64], budget: int
) -> None:
    """All of a batch are filled up to its longest."""
    for batch in padded_batches(lengths, budget):
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
