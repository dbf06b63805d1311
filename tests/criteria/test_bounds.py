"""The bounds: published values, exact coverage, and their laws.

How large a test set would settle it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from harness.criteria.bounds import (
    SettlingSize,
    drop_interval,
    drop_upper_bound,
    restricted_variance,
    settling_size,
    settling_size_of_share,
    unpaired_interval,
    unpaired_settling_size,
    wilson_interval,
)
from harness.criteria.units import GenomeEffect, genome_effect

DROPS = (0.0, 0.02, 0.05, 0.1, 0.2)
GAINED_SHARES = (0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3)
COUNTS = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300)).filter(any)


def equal_genomes(n_genomes: int, size: int, *, discordant: int = 0) -> GenomeEffect:
    """Return the effect of equal genomes in which losses and gains cancel."""
    return genome_effect(
        np.full(n_genomes, size),
        np.zeros(n_genomes, dtype=np.int64),
        sum_of_squares=discordant,
        n_informative=discordant,
    )


def all_counts(n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return every pair of rows lost and rows gained that ``n_rows`` allow."""
    lost, gained = np.indices((n_rows + 1, n_rows + 1)).reshape(2, -1)
    is_possible = lost + gained <= n_rows
    return lost[is_possible], gained[is_possible]


def exact_coverage(n_rows: int) -> list[tuple[float, float]]:
    """Return (n p_c, coverage of the one-sided bound), summed over every possible outcome."""
    lost, gained = all_counts(n_rows)
    upper = drop_upper_bound(lost, gained, n_rows)
    outcomes = np.column_stack([lost, gained, n_rows - lost - gained])
    found = []
    for drop in DROPS:
        for share in GAINED_SHARES:
            if drop + 2 * share < 1:
                chances = (drop + share, share, 1 - drop - 2 * share)
                misses = upper < drop - 1e-12
                miss = stats.multinomial.pmf(outcomes[misses], n_rows, chances).sum()
                found.append((n_rows * share, 1 - float(miss)))
    return found


def test_upper_bound_when_the_airway_data_are_given_then_the_interval_is_the_known_one() -> None:
    """Airway data, b = 1, c = 7, n = 21 (Fagerland et al., Stat Med 33:2850, 2014)."""
    two_sided = stats.norm.ppf(0.975)

    upper = float(drop_upper_bound(1, 7, 21, quantile=two_sided))
    lower = -float(drop_upper_bound(7, 1, 21, quantile=two_sided))

    assert (round(lower, 4), round(upper, 4)) == (-0.5172, -0.0260)


@pytest.mark.parametrize("n_rows", [40, 60, 100, 200])
def test_upper_bound_when_enumerated_then_coverage_is_as_claimed(n_rows: int) -> None:
    """Within 93.5 and 96.5% where two gains are expected, at least 93.5% elsewhere."""
    coverage = exact_coverage(n_rows)

    assert all(0.935 <= x <= 0.965 for expected_gains, x in coverage if expected_gains >= 2)
    assert all(x >= 0.935 for expected_gains, x in coverage if expected_gains < 2)


def test_upper_bound_when_n_is_the_smallest_that_can_pass_then_coverage_is_93_percent() -> None:
    """The known worst case: 52 rows without a gain, where no loss at all suffices for a pass."""
    lost, gained = np.arange(53), np.zeros(53)

    misses = drop_upper_bound(lost, gained, 52) < 0.05
    coverage = 1 - stats.binom.pmf(lost[misses], 52, 0.05).sum()

    assert coverage == pytest.approx(0.9306, abs=1e-4)


def test_upper_bound_when_nothing_differs_then_it_shrinks_with_the_rows() -> None:
    """Where b = c = 0: below 5 points from 52 independent rows on."""
    bounds = 100 * drop_upper_bound(0, 0, [51, 52])

    assert bounds.round(2).tolist() == [5.04, 4.95]


@pytest.mark.parametrize(
    ("n_genomes", "size", "expected_points"), [(90, 5, 0.85), (20, 10_000, 1.47)]
)
def test_interval_when_nothing_differs_in_equal_genomes_then_bound_is_as_published(
    n_genomes: int, size: int, expected_points: float
) -> None:
    """Where b = c = 0: the assumed correlation keeps the bound from vanishing."""
    lower, upper = drop_interval(0, 0, equal_genomes(n_genomes, size))

    assert round(100 * upper, 2) == expected_points
    assert lower == -upper


@settings(max_examples=50, deadline=None)
@given(COUNTS)
def test_statistic_when_the_drop_is_zero_then_it_is_mcnemars(counts: tuple[int, int, int]) -> None:
    """At Delta = 0 the restricted variance of n rows is b + c."""
    lost, gained, same = counts
    n = lost + gained + same

    variance = restricted_variance(*np.array([lost, gained, n, 0.0]))

    assert n * float(variance) == pytest.approx(lost + gained, abs=1e-9)


@pytest.mark.parametrize(
    ("lost", "gained", "n", "drop"),
    [(1, 7, 21, -0.1), (7, 1, 21, 0.1), (12, 3, 90, 0.05), (0, 4, 40, 0.02), (5, 0, 30, 0.3)],
)
def test_restricted_variance_when_maximised_by_search_then_equal(
    lost: int, gained: int, n: int, drop: float
) -> None:
    """The closed form belongs to the most likely share of gains under that drop."""
    same = n - lost - gained

    def unlikelihood(share: float) -> float:
        chances = np.clip([share + drop, share, 1 - 2 * share - drop], 1e-300, 1)
        return -float(np.array([lost, gained, same]) @ np.log(chances))

    room = (max(0.0, -drop), (1 - drop) / 2)
    share = optimize.minimize_scalar(
        unlikelihood, bounds=room, method="bounded", options={"xatol": 1e-12}
    ).x

    variance = restricted_variance(*np.array([lost, gained, n, drop]))
    assert float(variance) == pytest.approx(2 * share + drop - drop**2, abs=1e-6)


@pytest.mark.parametrize(
    ("gained", "n", "drop"), [(35, 42, -30 / 42), (60, 66, -55 / 66), (20, 110, -11 / 110)]
)
def test_restricted_variance_when_rounding_goes_below_zero_then_it_is_still_a_number(
    gained: int, n: int, drop: float
) -> None:
    """Where the quadratic has a double root, floats put its discriminant a hair below zero."""
    variance = restricted_variance(*np.array([0, gained, n, drop]))

    assert float(variance) == pytest.approx(-drop - drop**2, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.floats(1, 50), st.floats(1.65, 6))
def test_upper_bound_when_the_design_effect_is_any_then_never_below_tangos(
    counts: tuple[int, int, int], design_effect: float, quantile: float
) -> None:
    """Genomes only take away; the bound lies above the drop and within its range."""
    lost, gained, same = counts
    n = lost + gained + same

    plain = float(drop_upper_bound(lost, gained, n))
    widened = float(
        drop_upper_bound(lost, gained, n, quantile=quantile, design_effect=design_effect)
    )

    assert (lost - gained) / n <= plain <= widened <= 1


@settings(max_examples=50, deadline=None)
@given(COUNTS)
def test_upper_bound_when_one_more_row_is_lost_then_it_rises(counts: tuple[int, int, int]) -> None:
    """A worse candidate never has a better bound."""
    lost, gained, same = counts
    n = lost + gained + same + 1

    assert drop_upper_bound(lost, gained, n) <= drop_upper_bound(lost + 1, gained, n)


def test_upper_bound_when_all_rows_are_lost_then_it_is_one() -> None:
    """A drop of 100 points is bounded by 100 points."""
    assert float(drop_upper_bound(30, 0, 30)) == 1


def test_interval_when_there_is_one_genome_then_it_says_nothing() -> None:
    """Other genomes could do anything."""
    assert drop_interval(3, 1, equal_genomes(1, 400, discordant=4)) == (-1, 1)
    assert wilson_interval(0.9, 400, equal_genomes(1, 400)) == (0, 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 400), st.integers(1, 400))
def test_wilson_when_rows_are_independent_then_it_is_scipys(right: int, wrong: int) -> None:
    """One-sided bounds of 95% are the two-sided interval of 90%."""
    n = right + wrong
    expected = stats.binomtest(right, n).proportion_ci(0.90, method="wilson")

    found = wilson_interval(right / n, n, equal_genomes(n + 1, 1))

    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_when_rows_share_genomes_then_it_is_wider() -> None:
    """A design effect of 4 is a quarter of the rows."""
    clustered = GenomeEffect(
        n_rows=400,
        n_genomes=80,
        effective_genomes=80,
        design_effect=4.0,
        degrees_of_freedom=math.inf,
    )

    assert wilson_interval(0.9, 400, clustered) == pytest.approx(
        wilson_interval(0.9, 100, equal_genomes(100, 1))
    )


def test_unpaired_when_compared_with_a_published_interval_then_equal() -> None:
    """Newcombe 1998, method 10: 56/70 against 48/80 has the 95% interval 0.0524 to 0.3339."""
    effect = GenomeEffect(
        n_rows=80,
        n_genomes=80,
        effective_genomes=80,
        design_effect=(stats.norm.ppf(0.975) / stats.norm.ppf(0.95)) ** 2,  # 95%, two-sided
        degrees_of_freedom=math.inf,
    )

    found = unpaired_interval((56 / 70, 70), (48 / 80, 80), effect)

    assert tuple(round(x, 4) for x in found) == (0.0524, 0.3339)


def test_unpaired_when_enumerated_then_coverage_is_near_95_percent() -> None:
    """Over every outcome of two binomials, the true drop is within the bound 92 to 98% of times."""
    effect, (n, m) = equal_genomes(100, 1), (40, 30)
    upper = np.array(
        [
            [unpaired_interval((i / n, n), (j / m, m), effect)[1] for j in range(m + 1)]
            for i in range(n + 1)
        ]
    )
    chances = np.outer(
        stats.binom.pmf(range(n + 1), n, 0.9), stats.binom.pmf(range(m + 1), m, 0.85)
    )

    assert 0.92 <= chances[upper >= 0.05].sum() <= 0.98


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
    size = settling_size(60, 40, effect_of(1000, 1), limit_drop=0.05)
    lost, gained = np.indices((250, 250)).reshape(2, -1)
    passes = drop_upper_bound(lost, gained, 730) < 0.05
    outcomes = np.column_stack([lost, gained, 730 - lost - gained])[passes]
    power = stats.multinomial.pmf(outcomes, 730, (0.06, 0.04, 0.9)).sum()

    assert size == SettlingSize(n_rows=730)
    assert power == pytest.approx(0.805, abs=0.001)


def test_settling_when_the_genomes_are_many_then_more_rows_of_them_do() -> None:
    """The rows that are named have as many independent ones among them as are needed."""
    effect = effect_of(2000, 2, design_effect=1.2)

    n_rows = settling_size(240, 160, effect, limit_drop=0.05).n_rows

    assert n_rows is not None
    assert n_rows / (1 + (n_rows / 2000 - 1) * 0.2) == pytest.approx(730, abs=1.5)


@pytest.mark.parametrize(("size", "design_effect"), [(1000, 91.0), (4, 2.5)])
def test_settling_when_the_genomes_are_too_few_then_more_of_them_are_named(
    size: int, design_effect: float
) -> None:
    """No rows of the same 20 genomes are worth 730; more genomes of that size are."""
    n = 20 * size
    effect = effect_of(20, size, design_effect=design_effect)

    found = settling_size(6 * n // 100, 4 * n // 100, effect, limit_drop=0.05)
    independent = settling_size(6 * n // 100, 4 * n // 100, effect_of(n, 1), limit_drop=0.05).n_rows

    assert found.n_rows is None
    assert independent is not None
    assert found.n_genomes == pytest.approx(independent * design_effect / size, abs=1)


def test_settling_when_the_drop_is_at_the_limits_door_then_no_number_is_named() -> None:
    """Over ten million rows is not advice."""
    assert settling_size(49_990, 0, effect_of(1_000_000, 1), limit_drop=0.05) == SettlingSize()


def test_settling_when_the_bound_is_open_then_more_rows_than_now_are_named() -> None:
    """Real genome counts, not just idealised effects."""
    sizes, lost = np.full(90, 5), np.array([1] * 18 + [0] * 72)
    effect = genome_effect(sizes, lost, sum_of_squares=18, n_informative=18)

    n_rows = settling_size(18, 0, effect, limit_drop=0.05).n_rows

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
    size = unpaired_settling_size((0.92, 200_000), (0.90, 300), effect_of(300, 1), limit_drop=0.05)

    assert size is not None
    assert size.n_rows is not None
    assert 300 < size.n_rows < 1000


def test_settling_unpaired_when_rows_share_genomes_then_genomes_are_named() -> None:
    """More rows of the same genomes are not what was computed."""
    effect = effect_of(30, 10, design_effect=3.0)

    size = unpaired_settling_size((0.92, 200_000), (0.90, 300), effect, limit_drop=0.05)

    assert size is not None
    assert size.n_rows is None
    assert size.n_genomes is not None
    assert size.n_genomes > 30


def test_settling_unpaired_when_the_baseline_has_few_rows_then_nothing_helps() -> None:
    """Its own uncertainty is wider than the room below the limit."""
    assert (
        unpaired_settling_size((0.92, 200), (0.90, 300), effect_of(300, 1), limit_drop=0.05) is None
    )
