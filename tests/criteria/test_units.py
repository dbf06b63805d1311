"""Design effect and degrees of freedom: against explicit matrices, and at their edges.

Counting who was right where, and refusing what cannot be counted.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.criteria.units import (
    GenomeEffect,
    as_binary,
    as_share,
    bell_mccaffrey_degrees,
    count_paired,
    genome_effect,
    genomes_of,
)

SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=12)


def effect_of(sizes: list[int], lost: list[int], gained: list[int]) -> GenomeEffect:
    """Return the effect of genomes with so many rows, rows lost and rows gained."""
    discordant = sum(lost) + sum(gained)
    return genome_effect(
        np.array(sizes),
        np.array(lost) - np.array(gained),
        sum_of_squares=discordant,
        n_informative=discordant,
    )


def degrees_by_matrices(sizes: NDArray[np.int64], correlation: float) -> float:
    """Return tr(AM)^2 / tr((AM)^2) as it is written down."""
    shares = sizes / sizes.sum()
    project = np.eye(len(sizes)) - np.outer(shares, np.ones(len(sizes)))
    middle = project @ np.diag(sizes * (1 + (sizes - 1) * correlation)) @ project.T
    product = np.diag(1 / (1 - shares)) @ middle
    return float(np.trace(product) ** 2 / np.trace(product @ product))


@settings(max_examples=50, deadline=None)
@given(SIZES, st.floats(0, 1))
def test_degrees_when_sizes_are_any_then_the_closed_form_equals_the_matrices(
    sizes: list[int], correlation: float
) -> None:
    """The form that is linear in the genomes is the definition, rearranged."""
    rows = np.array(sizes)

    assert bell_mccaffrey_degrees(rows, correlation) == pytest.approx(
        degrees_by_matrices(rows, correlation), rel=1e-9
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 500), st.integers(1, 1000), st.floats(0, 1))
def test_degrees_when_genomes_are_equal_then_one_less_than_genomes(
    n_genomes: int, size: int, correlation: float
) -> None:
    """Equal genomes give the textbook's degrees of freedom."""
    sizes = np.full(n_genomes, size)

    assert bell_mccaffrey_degrees(sizes, correlation) == pytest.approx(n_genomes - 1)


def test_degrees_when_one_genome_holds_half_then_far_fewer_than_genomes() -> None:
    """A single large genome takes the degrees of freedom with it."""
    sizes = np.array([1000, *[50] * 20])

    assert bell_mccaffrey_degrees(sizes, 0.1) < 4


@settings(max_examples=50, deadline=None)
@given(SIZES, st.data())
def test_effect_when_losses_are_any_then_it_is_the_ratio_of_the_variances(
    sizes: list[int], data: st.DataObject
) -> None:
    """The design effect is the CR2 variance over that of independent rows, at least 1."""
    lost = [data.draw(st.integers(0, size)) for size in sizes]
    n, drop = sum(sizes), sum(lost) / sum(sizes)
    if sum(lost) < 10 or drop == 1 or len(sizes) == n:
        return
    cr2 = sum(
        (t - size * drop) ** 2 / (1 - size / n) for t, size in zip(lost, sizes, strict=True)
    ) / (n * n)
    plain = (sum(lost) / n - drop**2) / n

    found = effect_of(sizes, lost, [0] * len(sizes)).design_effect

    assert found == pytest.approx(max(1, cr2 / plain))


def test_effect_when_losses_share_genomes_then_a_genome_counts_as_one_row() -> None:
    """Ten equal genomes that lose all or nothing are worth about ten rows."""
    effect = effect_of([50] * 20, [50] * 10 + [0] * 10, [0] * 20)

    assert effect.design_effect == pytest.approx(50 * 20 / 19)
    assert effect.correlation == pytest.approx(1, abs=0.1)


def test_effect_when_every_genome_is_one_row_then_nothing_is_estimated() -> None:
    """Single rows cannot be correlated: no inflation, the normal's quantile."""
    effect = effect_of([1] * 60, [1] * 20 + [0] * 40, [0] * 60)

    assert (effect.design_effect, effect.degrees_of_freedom) == (1, math.inf)
    assert effect.quantile() == pytest.approx(1.6449, abs=1e-4)
    assert effect.correlation == 0


def test_effect_when_there_is_one_genome_then_it_is_infinite() -> None:
    """One genome tells nothing about the variance between genomes."""
    effect = effect_of([100], [12], [3])

    assert (effect.design_effect, effect.degrees_of_freedom) == (math.inf, 0)
    assert effect.quantile() == math.inf


@pytest.mark.parametrize(("discordant", "expected"), [(9, 1.4), (10, 1.0)])
def test_effect_when_fewer_than_ten_rows_are_discordant_then_correlation_is_assumed(
    discordant: int, expected: float
) -> None:
    """With 9 discordant rows, one a genome, 0.1 is assumed; with 10 the estimate of 1 stands."""
    lost = [1] * discordant + [0] * (90 - discordant)

    effect = effect_of([5] * 90, lost, [0] * 90)

    assert effect.design_effect == pytest.approx(expected, abs=0.02)


def test_effect_when_assumed_correlation_is_less_than_seen_then_what_is_seen_counts() -> None:
    """Nine losses in a single genome inflate by more than the assumption does."""
    scattered = effect_of([9] * 20, [1] * 9 + [0] * 11, [0] * 20)
    together = effect_of([9] * 20, [9] + [0] * 19, [0] * 20)

    assert scattered.design_effect == pytest.approx(1 + 0.1 * 8)
    assert together.design_effect > 8


def test_effect_when_the_working_correlation_is_assumed_then_it_sets_the_degrees() -> None:
    """Degrees of freedom with 9 discordant rows are those of a correlation of 0.1."""
    sizes = [40, *[4] * 30]

    effect = effect_of(sizes, [3] * 3 + [0] * 28, [0] * 31)

    assert effect.degrees_of_freedom == pytest.approx(bell_mccaffrey_degrees(np.array(sizes), 0.1))


@pytest.mark.parametrize("lost", [[5] * 20, [0] * 20])
def test_effect_when_all_rows_or_none_are_lost_then_it_is_finite(lost: list[int]) -> None:
    """No variance at all is no division by zero."""
    effect = effect_of([5] * 20, lost, [0] * 20)

    assert 1 <= effect.design_effect < 2


def test_effect_when_genomes_are_unequal_then_fewer_of_them_count() -> None:
    """One genome with half of the rows leaves fewer than four effective genomes."""
    effect = effect_of([20, *[1] * 20], [3] + [1] * 20, [0] * 21)

    assert effect.effective_genomes == pytest.approx(1600 / 420)


def test_effect_when_losses_repel_each_other_then_the_correlation_is_taken_as_zero() -> None:
    """One loss in every genome, large or small, is less spread than chance."""
    sizes = [40, *[4] * 30]

    effect = effect_of(sizes, [1] * 31, [0] * 31)

    assert effect.degrees_of_freedom == pytest.approx(bell_mccaffrey_degrees(np.array(sizes), 0.0))


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

    assert found.by_genome.units.names == ("b", "a")
    assert found.by_genome.lost.tolist() == [1, 1]
    assert found.by_genome.gained.tolist() == [0, 1]
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
