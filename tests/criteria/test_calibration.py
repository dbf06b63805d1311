"""The multiplier of the quantile keeps the error rate on the units of a run, and no wider."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.criteria.bounds import restricted_variance
from harness.criteria.calibration import blind_spot_percent, bound_paired, calibrate
from harness.criteria.units import count_paired, genome_effect

Sizes = NDArray[np.int64]


def in_one_class(sizes: Sizes) -> Sizes:
    """Return units of class 1 alone."""
    return np.stack([np.zeros_like(sizes), sizes], axis=1)


def log_normal(n_units: int, n_rows: int) -> Sizes:
    """Return unequal sizes, as genomes have."""
    shares = np.random.default_rng(1).lognormal(size=n_units)
    sizes: Sizes = np.maximum(1, np.round(n_rows * shares / shares.sum())).astype(np.int64)
    return sizes


def false_passes(sizes: Sizes, correlation: float, multiplier: float) -> float:
    """Return how often a true drop of 5 points passes, drawn anew and counted the long way."""
    rng, passed, n_draws = np.random.default_rng(7), 0, 1500
    alpha, beta = 0.05 * (1 / correlation - 1), 0.95 * (1 / correlation - 1)
    n = int(sizes.sum())
    for _ in range(n_draws):
        lost = rng.binomial(sizes, rng.beta(alpha, beta, size=len(sizes)))
        b = int(lost.sum())
        effect = genome_effect(sizes, lost, sum_of_squares=b, n_informative=b)
        variance = restricted_variance(*(np.array(x, dtype=float) for x in (b, 0, n, 0.05)))
        distance = (b - n * 0.05) / np.sqrt(effect.design_effect * n * variance)
        passed += bool(distance < -multiplier * effect.quantile())
    return passed / n_draws


@pytest.mark.parametrize(
    ("n_units", "expected"), [(12, 2.1), (20, 1.65), (40, 1.31), (90, 1.11), (300, 1.06)]
)
def test_multiplier_when_units_are_equal_then_falls_with_their_number(
    n_units: int, expected: float
) -> None:
    """The figures of an independent study, to its precision."""
    sizes = in_one_class(np.full(n_units, 5000 // n_units))

    found = calibrate(sizes, gained=0, limit_drop=0.05)

    assert found.upper == pytest.approx(expected, abs=0.12)
    assert (found.cell.place, found.cell.correlation) == ("everywhere", 0.3)


def test_multiplier_when_units_are_few_then_its_bound_passes_one_in_twenty() -> None:
    """Without it a drop of exactly the limit passes three times as often."""
    sizes = np.full(20, 250)

    found = calibrate(in_one_class(sizes), gained=0, limit_drop=0.05)

    assert false_passes(sizes, found.cell.correlation, 1.0) > 0.10
    assert false_passes(sizes, found.cell.correlation, found.upper) == pytest.approx(0.05, abs=0.02)


def test_multiplier_when_the_same_units_come_in_another_order_then_is_the_same() -> None:
    """The design decides, not how it is listed."""
    sizes = in_one_class(log_normal(30, 2000))

    assert calibrate(sizes[::-1], gained=9, limit_drop=0.05) == calibrate(
        sizes, gained=9, limit_drop=0.05
    )


def test_multiplier_when_a_class_is_small_then_its_losses_count() -> None:
    """Five genomes beside a thousand: a loss among them alone sets the multiplier."""
    few = np.stack([np.zeros(5, dtype=np.int64), np.full(5, 1000)], axis=1)
    many = np.stack([np.full(1000, 5), np.zeros(1000, dtype=np.int64)], axis=1)

    found = calibrate(np.concatenate([few, many]), gained=40, limit_drop=0.05)

    assert found.cell.place == "viral"
    assert found.upper > 2


def test_multiplier_when_most_units_are_drawn_as_sums_then_is_what_single_draws_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The normal sums have the moments of the units that they stand for."""
    sizes = in_one_class(log_normal(260, 5200))
    summed = calibrate(sizes, gained=100, limit_drop=0.05)
    monkeypatch.setattr("harness.criteria.calibration.DRAWN_UNITS", 130)

    # one gained row more: another design, so that nothing is remembered
    drawn = calibrate(sizes, gained=101, limit_drop=0.05)

    assert summed.upper == pytest.approx(drawn.upper, abs=0.04)
    assert summed.lower == pytest.approx(drawn.lower, abs=0.04)


def test_multiplier_when_every_row_is_a_unit_then_is_one() -> None:
    """Nothing about units is estimated then."""
    sizes = in_one_class(np.ones(100, dtype=np.int64))

    assert calibrate(sizes, gained=3, limit_drop=0.05).upper == 1.0


@pytest.mark.parametrize(("n_units", "percent"), [(59, 4.95), (12, 22.1), (1, 95.0)])
def test_blind_spot_when_units_are_equal_then_follows_from_their_number(
    n_units: int, percent: float
) -> None:
    """59 units meet a kind of 5% with 95% probability; empty units do not count."""
    sizes = np.array([7] * n_units + [0])

    assert blind_spot_percent(sizes) == pytest.approx(percent, abs=0.05)


def test_bounds_when_lineages_are_known_then_the_wider_of_both_kinds_counts() -> None:
    """Losses that share a lineage weigh more than those of its single genomes."""
    y, is_lost = np.arange(600) % 2, np.arange(600) < 12
    genomes = [f"genome {i // 10}" for i in range(600)]
    lineages = [f"lineage {i // 40}" if i < 520 else "" for i in range(600)]
    outcomes = count_paired(y, y, y ^ is_lost, groups=genomes, lineages=lineages)

    found = bound_paired(outcomes, limit_drop=0.05)

    by_genome, by_lineage = found.by_unit
    assert [by_genome.effect.n_genomes, by_lineage.effect.n_genomes] == [60, 13 + 8]
    assert found.widest is found.strictest is by_lineage
    assert found.interval[1] == by_lineage.interval[1] > by_genome.interval[1]
    assert found.interval[0] <= by_genome.interval[0] < 0.02


def test_bounds_when_there_is_one_lineage_then_they_say_nothing() -> None:
    """However many its genomes: others may be hit otherwise."""
    y = np.ones(400, dtype=np.int64)
    outcomes = count_paired(y, y, y, groups=np.arange(400) // 4, lineages=["one"] * 400)

    assert bound_paired(outcomes, limit_drop=0.05).interval == (-1.0, 1.0)


def test_multiplier_when_every_row_was_gained_then_the_bound_is_found() -> None:
    """A baseline that is wrong everywhere is judged like any other."""
    truth, groups = np.tile([1, 0], 50), np.repeat(np.arange(20), 5).astype(str)
    outcomes = count_paired(truth, 1 - truth, truth, groups=groups)

    assert bound_paired(outcomes, limit_drop=0.05).interval == pytest.approx((-1, -0.9), abs=0.1)
