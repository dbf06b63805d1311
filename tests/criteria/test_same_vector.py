"""The same vector: each way of being another one is seen, and rounding is not one of them.

Vectors as real models have them: two dimensions are 40 times the median, and hold most of the
energy. What the reference sees is tested on models, in ``tests/embedding/esm/test_reference.py``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from harness.criteria.same_vector import Comparison, compare_rows, relative_l2, take_yardstick

Rows = npt.NDArray[np.float32]
DIM = 320


def draw_rows(rng: np.random.Generator, n_rows: int) -> Rows:
    """Return rows of families of two: the second has nine tenths of the first's residues.

    A row's offset is the model's own, as in real ones; two dimensions are 40 times the median.
    """
    sizes = rng.lognormal(sigma=0.5, size=DIM)
    offset = rng.normal(size=DIM) * 2
    sizes[[7, 100]] = 40 * np.median(sizes)
    families = np.repeat(rng.normal(size=(-(-n_rows // 2), DIM)), 2, axis=0)[:n_rows]
    own = rng.normal(size=(n_rows, DIM)) * 0.2  # the nearest of 300 real ones: .15 of a spread
    return np.asarray((families + own + offset) * sizes, dtype=np.float32)


def rounded(rows: Rows) -> Rows:
    """Return the rows rounded to bfloat16."""
    return np.asarray(torch.from_numpy(rows).bfloat16().float(), dtype=np.float32)


def computed_in_bfloat16(rng: np.random.Generator, rows: Rows) -> Rows:
    """Return rows as a model in bfloat16 gives them: off by .016 of a spread, then rounded.

    Every hundredth row is off by six times as much, as the worst of 300 real ones is.
    """
    excess = np.where(np.arange(len(rows)) % 100, 1.0, 6.0)[:, None]
    noise = 0.016 * rng.normal(size=rows.shape) * rows.std(axis=0) * excess
    return rounded(np.asarray(rows + noise, dtype=np.float32))


def compare(again: Rows, stored: Rows) -> Comparison:
    """Compare with the stored rows, by their own yardstick."""
    return compare_rows(again, stored, take_yardstick(stored))


def test_compare_when_ten_thousand_honest_rows_are_rounded_then_none_is_another() -> None:
    """Homologues of 90% identity and rows that rounding moves most are among them."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        rows = draw_rows(rng, 1_000)
        found = compare(computed_in_bfloat16(rng, rows), rounded(rows))

        assert found.is_same
        assert found.largest_share > 0.01  # they were moved


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compare_when_two_homologues_are_swapped_then_both_are_another(dtype: str) -> None:
    """The nearest rows that there are; neither relative to the largest value nor by cosine."""
    rows = draw_rows(np.random.default_rng(2), 8)
    swapped = rows[[1, 0, *range(2, 8)]]

    found = compare(rounded(rows) if dtype == "bfloat16" else rows, swapped)

    assert found.is_mistaken.tolist() == [True, True] + [False] * 6
    assert not found.is_same


def test_compare_when_near_rows_are_swapped_then_the_nearer_one_tells() -> None:
    """Within a tenth of the median distance, and still not the own row."""
    rows = draw_rows(np.random.default_rng(3), 8)
    rows[1] = rows[0] + 0.03 * rows.std(axis=0)

    found = compare(rows, rows[[1, 0, *range(2, 8)]])

    assert (found.shares < 0.1).all()
    assert found.is_mistaken.tolist() == [True, True] + [False] * 6


def test_compare_when_a_row_is_another_proteins_then_it_is_too_far() -> None:
    """One that is not among those compared."""
    rows = draw_rows(np.random.default_rng(4), 9)
    stored = rows[[8, *range(1, 8)]]

    assert (compare(rows[:8], stored).shares > 0.5).tolist() == [True] + [False] * 7


def test_compare_when_proteins_are_identical_then_they_count_once() -> None:
    """Their rows were rounded in batches of their own, so either may be the nearer one."""
    rng = np.random.default_rng(5)
    rows = np.repeat(draw_rows(rng, 50), 2, axis=0)
    stored, again = (computed_in_bfloat16(rng, rows) for _ in range(2))
    yardstick = take_yardstick(stored)

    assert compare_rows(again, stored, yardstick).is_mistaken.any()
    assert compare_rows(again, stored, yardstick, keys=[n // 2 for n in range(100)]).is_same


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_compare_when_a_value_is_not_finite_then_it_is_another(value: float) -> None:
    """What is no number equals nothing."""
    rows = draw_rows(np.random.default_rng(6), 8)
    again = rows.copy()
    again[3, 5] = value

    assert not compare(again, rows).is_same


def test_compare_when_a_dimension_is_constant_then_what_differs_there_is_seen() -> None:
    """A column of zeros in the store has no spread, and is still no match for the embedder's."""
    rows = draw_rows(np.random.default_rng(7), 8)
    blank = rows.copy()
    blank[:, :100] = 0

    assert compare(blank, blank).is_same
    assert not compare(rows, blank).is_same


def test_compare_when_a_label_is_written_into_one_column_then_that_column_tells() -> None:
    """The rows stay near, since one dimension of 320 counts little."""
    rows = draw_rows(np.random.default_rng(8), 100)
    again = rows.copy()
    again[::2, 50] += 0.5 * rows[:, 50].std()

    assert compare(again, rows).is_same
    assert compare(again, rows).largest_column > 0.25


def test_take_yardstick_when_no_two_rows_differ_then_nothing_is_near() -> None:
    """Neither one row nor the same twice can tell what is far."""
    rows = np.ones((2, DIM), dtype=np.float32)

    assert np.isnan(take_yardstick(rows).median_distance)
    assert not compare(rows, rows).is_same


def test_relative_l2_when_the_reference_is_zero_then_it_is_no_number() -> None:
    """Lengths are compared row by row; shapes must agree."""
    found, expected = np.array([[3.0, 4.1], [1, 1]]), np.array([[3.0, 4.0], [0, 0]])
    first, second = relative_l2(found.astype(np.float32), expected.astype(np.float32))

    assert first == pytest.approx(0.02, rel=1e-3)
    assert not np.isfinite(second)
    with pytest.raises(ValueError, match="one shape"):
        relative_l2(np.ones((1, 2), dtype=np.float32), np.ones((2, 2), dtype=np.float32))
