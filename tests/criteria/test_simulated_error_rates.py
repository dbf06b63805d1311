"""How often the accuracy rule passes a candidate whose true drop is exactly the limit.

Every figure has its Monte Carlo error beside it; the seeds are fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.criteria.bounds import MIN_DEGREES_OF_FREEDOM, MIN_EFFECTIVE_GENOMES, drop_upper_bound
from harness.criteria.units import genome_effect

LIMIT = 0.05
DISCORDANCE = 0.10
ROWS_PER_GENOME = (10, 100)
# Genomes and correlation: the published false pass (mean, worst) of the rule, and of Tango alone.
PUBLISHED = {
    (20, 0.0): (0.023, 0.04, 0.05),
    (20, 0.1): (0.044, 0.08, 0.35),
    (20, 0.3): (0.053, 0.13, 0.44),
    (90, 0.0): (0.035, 0.05, 0.05),
    (90, 0.1): (0.048, 0.07, 0.26),
    (90, 0.3): (0.054, 0.09, 0.34),
    (1000, 0.0): (0.045, 0.06, 0.05),
    (1000, 0.1): (0.049, 0.06, 0.16),
    (1000, 0.3): (0.051, 0.07, 0.20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FalsePasses:
    """Shares of simulated test sets that pass: by the rule, its bound alone, Tango's alone."""

    rule: float
    bound: float
    tango: float


def draw_sizes(kind: str, n_genomes: int, mean: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw each genome's rows: equal, log-normal with sigma 1, or one as large as the others."""
    shares = {
        "equal": np.ones(n_genomes),
        "lognormal": rng.lognormal(0, 1, n_genomes),
        "half": np.array([n_genomes - 1, *[1] * (n_genomes - 1)], dtype=np.float64),
    }[kind]
    sizes: NDArray[np.int64] = np.maximum(1, np.round(shares / shares.mean() * mean)).astype(int)
    return sizes


def draw_counts(
    sizes: NDArray[np.int64], correlation: float, drop: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw rows lost, gained and the same in each genome: multinomial of Dirichlet shares."""
    chances = np.array([(DISCORDANCE + drop) / 2, (DISCORDANCE - drop) / 2, 1 - DISCORDANCE])
    if correlation == 0:
        return rng.multinomial(sizes, chances)
    shares = rng.dirichlet(chances * (1 - correlation) / correlation, size=len(sizes))
    return rng.multinomial(sizes, shares)


def simulate(
    kind: str,
    n_genomes: int,
    rows_per_genome: int,
    correlation: float,
    *,
    repeats: int,
    drop: float = LIMIT,
) -> FalsePasses:
    """Return how often test sets with this true drop pass."""
    rng = np.random.default_rng([n_genomes, rows_per_genome, int(10 * correlation), len(kind)])
    found = np.empty((repeats, 6))
    for row in found:
        sizes = draw_sizes(kind, n_genomes, rows_per_genome, rng)
        lost, gained, _ = draw_counts(sizes, correlation, drop, rng).T
        discordant = int(lost.sum() + gained.sum())
        effect = genome_effect(
            sizes, lost - gained, sum_of_squares=discordant, n_informative=discordant
        )
        has_enough = (
            effect.effective_genomes >= MIN_EFFECTIVE_GENOMES
            and effect.degrees_of_freedom >= MIN_DEGREES_OF_FREEDOM
        )
        width = (effect.quantile(), effect.design_effect)
        row[:] = (lost.sum(), gained.sum(), sizes.sum(), *width, has_enough)
    b, c, n, quantile, design_effect, enough = found.T
    bound = drop_upper_bound(b, c, n, quantile=quantile, design_effect=design_effect)
    return FalsePasses(
        rule=float(((bound < LIMIT) & (enough == 1)).mean()),
        bound=float((bound < LIMIT).mean()),
        tango=float((drop_upper_bound(b, c, n) < LIMIT).mean()),
    )


def monte_carlo_error(share: float, repeats: int) -> float:
    """Return the standard error of a simulated share."""
    return math.sqrt(share * (1 - share) / repeats)


def test_rule_when_genomes_are_unequal_and_correlated_then_five_percent_pass() -> None:
    """Where Tango's bound alone passes far too often."""
    passes = simulate("lognormal", 90, 50, 0.1, repeats=300)

    assert passes.tango > 0.15
    assert passes.rule <= 0.05 + 4 * monte_carlo_error(0.05, 300)


def test_rule_when_the_true_drop_is_zero_then_it_does_pass() -> None:
    """A rule that never passes would pass the other tests."""
    assert simulate("lognormal", 90, 50, 0.1, repeats=100, drop=0.0).rule > 0.6


def test_rule_when_one_genome_holds_half_the_rows_then_nothing_passes() -> None:
    """However many the other genomes are, they count as fewer than four."""
    passes = simulate("half", 90, 50, 0.1, repeats=100)

    assert passes.rule == 0
    assert passes.tango > 0.15


@pytest.mark.slow
@pytest.mark.parametrize(("n_genomes", "correlation"), list(PUBLISHED))
def test_rule_when_simulated_then_the_published_error_rates_come_back(
    n_genomes: int, correlation: float
) -> None:
    """Mean and worst over equal and log-normal genomes, of 10 or 100 rows on average."""
    repeats = 400
    mean, worst, tango = PUBLISHED[n_genomes, correlation]

    passes = [
        simulate(kind, n_genomes, rows, correlation, repeats=repeats)
        for kind in ("equal", "lognormal")
        for rows in ROWS_PER_GENOME
    ]

    rule = float(np.mean([found.rule for found in passes]))
    assert rule == pytest.approx(mean, abs=0.01 + 3 * monte_carlo_error(mean, 4 * repeats))
    assert max(x.rule for x in passes) <= worst + 3 * monte_carlo_error(worst, repeats)
    assert np.mean([x.tango for x in passes]) >= min(0.1, tango) - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.05, 0.1])
def test_rule_when_90_genomes_are_lognormal_then_at_most_eight_percent_pass(
    correlation: float,
) -> None:
    """The bound on the rule's error that users are told."""
    repeats = 1000

    passes = simulate("lognormal", 90, 30, correlation, repeats=repeats)

    assert passes.rule <= 0.08 + 2 * monte_carlo_error(0.08, repeats)


@pytest.mark.slow
@pytest.mark.parametrize("n_genomes", [20, 90, 1000])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3])
def test_bound_when_one_genome_holds_half_the_rows_then_it_is_safe_by_itself(
    n_genomes: int, correlation: float
) -> None:
    """Fewer than five percent pass even before the minimum of effective genomes."""
    repeats = 200

    passes = simulate("half", n_genomes, 10, correlation, repeats=repeats)

    assert passes.bound <= 0.05 + 2 * monte_carlo_error(0.05, repeats)
    assert passes.rule == 0
