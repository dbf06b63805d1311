"""Resampled tables."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.criteria.intervals import resample_tables
from harness.criteria.units import genomes_of

Rows = tuple[NDArray[np.int8], list[NDArray[np.int8]]]


def draw_rows(n: int) -> Rows:
    """Draw labels and two sides' predictions."""
    rng = np.random.default_rng(1)
    labels, baseline, candidate = rng.integers(0, 2, (3, n)).astype(np.int8)
    return labels, [baseline, candidate]


def mean_and_deviation(tables: NDArray[np.float64]) -> tuple[float, float]:
    """Return those of the share of rows where truth and both predictions are 1."""
    shares = tables[:, 1, 1, 1] / tables.sum(axis=(1, 2, 3))
    return float(shares.mean()), float(shares.std())


def test_tables_when_rows_are_resampled_then_each_has_all_rows() -> None:
    """As many rows as there were, around what was observed."""
    labels, predicted = draw_rows(400)
    observed = float((labels & predicted[0] & predicted[1]).mean())

    tables = resample_tables(labels, predicted, genomes_of(None, 400), 2000, seed=0)
    mean, deviation = mean_and_deviation(tables)

    assert (tables.sum(axis=(1, 2, 3)) == 400).all()
    assert mean == pytest.approx(observed, abs=0.002)
    assert deviation == pytest.approx(np.sqrt(observed * (1 - observed) / 400), rel=0.1)


@pytest.mark.parametrize("copies", [1, 5])
def test_tables_when_every_row_is_a_genome_then_as_for_rows(copies: int) -> None:
    """Drawn one by one or, where most genomes are alike, by the multinomial."""
    labels, predicted = draw_rows(100 * copies)
    names = [str(i) for i in range(100 * copies)]

    by_row = resample_tables(labels, predicted, genomes_of(None, len(names)), 2000, seed=0)
    by_genome = resample_tables(labels, predicted, genomes_of(names, len(names)), 2000, seed=0)

    assert mean_and_deviation(by_genome) == pytest.approx(mean_and_deviation(by_row), rel=0.1)


def test_tables_when_there_are_eight_rows_then_cells_keep_their_shares() -> None:
    """As many rows as cells is no special case."""
    labels = np.array([1] * 8, dtype=np.int8)

    tables = resample_tables(labels, [labels, labels], genomes_of(None, 8), 10, seed=0)

    assert (tables[:, 1, 1, 1] == 8).all()


def test_tables_when_genomes_are_alike_within_then_the_spread_is_theirs() -> None:
    """Twenty genomes of 50 equal rows vary like 20 rows, not like 1,000."""
    labels = np.repeat(np.array([0, 1] * 10, dtype=np.int8), 50)
    genomes = genomes_of(np.repeat(np.arange(20), 50), 1000)

    tables = resample_tables(labels, [labels, labels], genomes, 2000, seed=0)

    assert mean_and_deviation(tables)[1] == pytest.approx(np.sqrt(0.25 / 20), rel=0.1)


def test_tables_when_genomes_differ_then_whole_ones_are_drawn() -> None:
    """Genomes of 3 and 7 rows give tables of 6, 10 or 14."""
    labels = np.array([1] * 3 + [0] * 7, dtype=np.int8)
    genomes = genomes_of(["a"] * 3 + ["b"] * 7, 10)

    tables = resample_tables(labels, [labels, labels], genomes, 200, seed=0)

    assert set(tables.sum(axis=(1, 2, 3))) == {6.0, 10.0, 14.0}


def test_tables_when_the_seed_is_the_same_then_so_are_they() -> None:
    """And another seed gives others."""
    labels, predicted = draw_rows(50)
    one, same, other = (
        resample_tables(labels, predicted, genomes_of(None, 50), 20, seed) for seed in (3, 3, 4)
    )

    assert (one == same).all()
    assert (one != other).any()
