"""p-values under the honest sampler: counted right, whole units, no needless redraws."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from harness.data.redraws import (
    ClassDraw,
    Distribution,
    redrawn_p_values,
    sequential_p_values,
)
from harness.data.split import Sampler

TENTH = Fraction(1, 10)


def _draw(units: npt.NDArray[np.int64], seed: int = 0) -> ClassDraw:
    labels = pd.DataFrame({"label": np.ones(len(units), dtype=np.int8)})
    is_test = Sampler(labels, TENTH, units=units).draw(np.random.default_rng(seed))
    return ClassDraw(is_test=is_test, units=units, fraction=TENTH)


def _p(
    draw: ClassDraw, values: npt.NDArray[np.int64], *, is_ordered: bool, most_units: int = 40_000
) -> float:
    distribution = Distribution(values=values, is_ordered=is_ordered)
    rng = np.random.default_rng(7)
    return redrawn_p_values(draw, [distribution], n_redraws=999, rng=rng, most_units=most_units)[0]


def test_sequential_p_when_no_redraw_reaches_the_effect_then_is_one_in_b_plus_one() -> None:
    """The observed draw counts as one of those that reach it."""
    p = sequential_p_values(np.array([1.0]), lambda _: [0.5], n_redraws=999)

    assert p.tolist() == [1 / 1000]


def test_sequential_p_when_every_redraw_reaches_the_effect_then_stops_after_twenty() -> None:
    """An honest split needs few redraws; an equal effect counts as reaching it."""
    asked: list[int] = []

    def redraw(waiting: npt.NDArray[np.int64]) -> list[float]:
        asked.append(len(waiting))
        return [1.0] * len(waiting)

    assert sequential_p_values(np.array([1.0]), redraw, n_redraws=9999).tolist() == [1.0]
    assert len(asked) == 20


def test_sequential_p_when_one_effect_is_settled_then_only_the_other_is_redrawn() -> None:
    """What is known to be chance costs nothing more, and keeps its p."""
    asked: list[list[int]] = []

    def redraw(waiting: npt.NDArray[np.int64]) -> list[float]:
        asked.append(waiting.tolist())
        return [[1.0, 0.0][i] for i in waiting]

    p = sequential_p_values(np.array([0.5, 0.5]), redraw, n_redraws=99)

    assert p.tolist() == [1.0, 1 / 100]
    assert asked[19] == [0, 1]
    assert asked[20] == [1]


def test_redrawn_p_when_genomes_differ_then_only_a_null_of_genomes_is_honest() -> None:
    """A null that permutes rows finds a difference in an honest draw of genomes."""
    genome = np.arange(6000) // 50
    gc = np.random.default_rng(1).permutation(120)[genome]
    honest = _draw(genome)
    as_rows = ClassDraw(is_test=honest.is_test, units=np.arange(6000), fraction=TENTH)

    assert _p(honest, gc, is_ordered=True) > 0.05
    assert _p(as_rows, gc, is_ordered=True) < 1e-6
    assert _p(honest, gc // 10, is_ordered=False) > 0.05
    assert _p(as_rows, gc // 10, is_ordered=False) == 1 / 1000


@pytest.mark.parametrize(("is_ordered", "n_values", "slope"), [(True, 400, 0.9), (False, 8, 0.4)])
def test_redrawn_p_of_single_rows_then_agrees_with_redraws_of_the_sampler(
    is_ordered: bool, n_values: int, slope: float
) -> None:
    """Tables and Kolmogorov's distribution stand in for the sampler; two tied rows force it."""
    values = np.arange(2000) % n_values
    single, tied = np.arange(2000), np.maximum(np.arange(2000) - 1, 0)
    is_test = _skewed_rows(values, slope)

    p = [
        _p(ClassDraw(is_test=is_test, units=units, fraction=TENTH), values, is_ordered=is_ordered)
        for units in (single, tied)
    ]

    assert 0.01 < p[0] < 0.2
    assert p[1] == pytest.approx(p[0], rel=0.4)


def test_redrawn_p_when_only_a_part_of_the_units_is_redrawn_then_still_catches_a_shift() -> None:
    """The part's null is wider, so p is no smaller, and a real difference stays one."""
    values = np.arange(20_000) % 100
    units = np.arange(20_000) // 2
    shifted = ClassDraw(is_test=values < 10, units=units, fraction=TENTH)
    honest = _draw(units)

    assert _p(shifted, values, is_ordered=True, most_units=500) == 1 / 1000
    assert _p(honest, values, is_ordered=True, most_units=500) > 0.5


def test_redrawn_p_when_fewer_units_are_redrawn_then_errs_on_the_high_side() -> None:
    """A shift that 1,000 units show is within chance for the 100 that are redrawn."""
    values = np.arange(2000) % 400
    units = np.arange(2000) // 2
    draw = ClassDraw(is_test=_skewed_rows(values, 1.6), units=units, fraction=TENTH)

    assert _p(draw, values, is_ordered=True) < 0.05
    assert _p(draw, values, is_ordered=True, most_units=100) > 0.2


def _skewed_rows(values: npt.NDArray[np.int64], slope: float) -> npt.NDArray[np.bool_]:
    """Draw a tenth of the rows, low values a little more often."""
    weight = 1 + slope * (0.5 - values / values.max())
    rng = np.random.default_rng(3)
    rows = rng.choice(len(values), len(values) // 10, replace=False, p=weight / weight.sum())
    is_test: npt.NDArray[np.bool_] = np.isin(np.arange(len(values)), rows)
    return is_test
