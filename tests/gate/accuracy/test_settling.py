"""How large a test set would settle it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.criteria.bounds import (
    SettlingSize,
    drop_upper_bound,
    settling_size,
    settling_size_of_share,
    unpaired_settling_size,
    wilson_interval,
)
from harness.criteria.units import GenomeEffect, genome_effect


def effect_of(
    n_genomes: int, size: int, *, design_effect: float = 1.0, degrees: float = np.inf
) -> GenomeEffect:
    """Return the effect of equal genomes with a given design effect."""
    return GenomeEffect(
        n_rows=n_genomes * size,
        n_genomes=n_genomes,
        effective_genomes=n_genomes,
        design_effect=design_effect,
        degrees_of_freedom=degrees,
    )


def test_settling_when_rows_are_independent_then_the_power_is_as_promised() -> None:
    """Drop 2, discordance 10%: 730 rows, and their exact power is .805."""
    size = settling_size(60, 40, effect_of(1000, 1))
    lost, gained = np.indices((250, 250)).reshape(2, -1)
    passes = drop_upper_bound(lost, gained, 730) < 0.05
    outcomes = np.column_stack([lost, gained, 730 - lost - gained])[passes]
    power = stats.multinomial.pmf(outcomes, 730, (0.06, 0.04, 0.9)).sum()

    assert size == SettlingSize(n_rows=730)
    assert power == pytest.approx(0.805, abs=0.001)


def test_settling_when_the_genomes_are_many_then_more_rows_of_them_do() -> None:
    """The rows that are named have as many independent ones among them as are needed."""
    effect = effect_of(2000, 2, design_effect=1.2)

    n_rows = settling_size(240, 160, effect).n_rows

    assert n_rows is not None
    assert n_rows / (1 + (n_rows / 2000 - 1) * 0.2) == pytest.approx(730, abs=1.5)


@pytest.mark.parametrize(("size", "design_effect"), [(1000, 91.0), (4, 2.5)])
def test_settling_when_the_genomes_are_too_few_then_more_of_them_are_named(
    size: int, design_effect: float
) -> None:
    """No rows of the same 20 genomes are worth 730; more genomes of that size are."""
    n = 20 * size
    effect = effect_of(20, size, design_effect=design_effect)

    found = settling_size(6 * n // 100, 4 * n // 100, effect)
    independent = settling_size(6 * n // 100, 4 * n // 100, effect_of(n, 1)).n_rows

    assert found.n_rows is None
    assert independent is not None
    assert found.n_genomes == pytest.approx(independent * design_effect / size, abs=1)


def test_settling_when_the_drop_is_at_the_limits_door_then_no_number_is_named() -> None:
    """Over ten million rows is not advice."""
    assert settling_size(49_990, 0, effect_of(1_000_000, 1)) == SettlingSize()


def test_settling_when_the_bound_is_open_then_more_rows_than_now_are_named() -> None:
    """Real genome counts, not just idealised effects."""
    sizes, lost = np.full(90, 5), np.array([1] * 18 + [0] * 72)
    effect = genome_effect(sizes, lost, sum_of_squares=18, n_informative=18)

    n_rows = settling_size(18, 0, effect).n_rows

    assert n_rows is not None
    assert n_rows > 450


def test_settling_of_a_share_when_rows_are_independent_then_the_power_is_80_percent() -> None:
    """Accuracy 60% against 55%: the named rows exceed the limit 80% of the time."""
    n_rows = settling_size_of_share(0.60, 0.55, effect_of(100, 1)).n_rows
    assert n_rows is not None
    effect = effect_of(n_rows, 1)
    passes = [wilson_interval(k / n_rows, n_rows, effect)[0] > 0.55 for k in range(n_rows + 1)]

    power = stats.binom.pmf(np.flatnonzero(passes), n_rows, 0.60).sum()

    assert power == pytest.approx(0.80, abs=0.02)


def test_settling_unpaired_when_the_baseline_has_many_rows_then_rows_are_named() -> None:
    """A better known candidate settles what the baseline leaves room for."""
    size = unpaired_settling_size((0.92, 200_000), (0.90, 300), effect_of(300, 1))

    assert size is not None
    assert size.n_rows is not None
    assert 300 < size.n_rows < 1000


def test_settling_unpaired_when_rows_share_genomes_then_genomes_are_named() -> None:
    """More rows of the same genomes are not what was computed."""
    effect = effect_of(30, 10, design_effect=3.0)

    size = unpaired_settling_size((0.92, 200_000), (0.90, 300), effect)

    assert size is not None
    assert size.n_rows is None
    assert size.n_genomes is not None
    assert size.n_genomes > 30


def test_settling_unpaired_when_the_baseline_has_few_rows_then_nothing_helps() -> None:
    """Its own uncertainty is wider than the room below the limit."""
    assert unpaired_settling_size((0.92, 200), (0.90, 300), effect_of(300, 1)) is None
