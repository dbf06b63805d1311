"""Counting who was right where, and refusing what cannot be counted."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.criteria.units import as_binary, as_share, count_paired, genomes_of

ROWS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_count_when_rows_are_any_then_the_four_outcomes_cover_them(
    rows: list[tuple[bool, bool, bool]],
) -> None:
    """Every row is exactly one of: both right, lost, gained, both wrong."""
    y, baseline, candidate = (np.array(column) for column in zip(*rows, strict=True))

    found = count_paired(y, baseline, candidate)

    assert found.both_right == sum((b == t) and (c == t) for t, b, c in rows)
    assert found.lost == sum((b == t) and (c != t) for t, b, c in rows)
    assert found.gained == sum((b != t) and (c == t) for t, b, c in rows)
    assert found.both_wrong == sum((b != t) and (c != t) for t, b, c in rows)


def test_count_when_genomes_are_given_then_each_has_its_losses() -> None:
    """Names keep the order of their first row."""
    found = count_paired(
        [1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0], groups=pd.Series(["b", "a", "b", "a"])
    )

    assert found.genomes.names == ("b", "a")
    assert found.lost_by_genome.tolist() == [1, 1]
    assert found.gained_by_genome.tolist() == [0, 1]
    assert found.by_class == {
        "viral": {"n": 2, "baseline_right": 2, "lost": 2, "gained": 0},
        "nonviral": {"n": 2, "baseline_right": 1, "lost": 0, "gained": 1},
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 2], r"y\[2\] is 2"),
        ([0.0, 0.7, 1.0], r"y\[1\] is 0.7"),
        ([0, np.nan, 1], r"y\[1\] is nan"),
        ([0, None, 1], r"y\[1\] is None"),
        (["0", "1", "1"], r"y\[0\] is '0'"),
        ([[0], [1], [1]], "one dimension"),
        ([0, 1], "expected 3 rows as in y_true, got 2"),
    ],
)
def test_as_binary_when_a_value_is_no_label_then_it_is_named(values: Any, message: str) -> None:
    """Scores, missing values and text are refused, not rounded."""
    with pytest.raises(ValueError, match=message):
        as_binary(values, "y", n_rows=3)


@pytest.mark.parametrize("values", [[False, True], [0.0, 1.0], pd.Series([0, 1], dtype="int8")])
def test_as_binary_when_labels_have_another_type_then_they_are_taken(values: Any) -> None:
    """Booleans and whole floats say the same."""
    assert as_binary(values, "y").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["a", ""], r"groups\[1\] is empty"),
        (["a", None], r"groups\[1\] is empty"),
        (["a"], "expected 2 rows"),
    ],
)
def test_genomes_when_a_row_has_none_then_refused(groups: Any, message: str) -> None:
    """Rows without a genome are not lumped into one."""
    with pytest.raises(ValueError, match=message):
        genomes_of(groups, 2)


def test_genomes_when_none_are_given_then_every_row_is_its_own() -> None:
    """And none of them has a name."""
    genomes = genomes_of(None, 4)

    assert genomes.sizes.tolist() == [1, 1, 1, 1]
    assert genomes.largest() == {"name": None, "share": 0.25}


def test_share_when_written_as_text_then_it_is_exact() -> None:
    """A reported accuracy is the number that was reported."""
    assert as_share("0.9048", 100) == Fraction(9048, 10_000)


@pytest.mark.parametrize(("accuracy", "n_rows"), [("90.48", 100), ("-0.1", 100), ("0.9", 0)])
def test_share_when_it_is_none_then_refused(accuracy: str, n_rows: int) -> None:
    """A percentage or an empty test set is a mistake."""
    with pytest.raises(ValueError, match=r"expected a share|at least one row"):
        as_share(accuracy, n_rows)


def test_share_when_it_is_a_float_then_refused() -> None:
    """0.9048 in binary is another number."""
    with pytest.raises(TypeError, match="as text"):
        as_share(0.9048, 100)  # type: ignore[arg-type]
