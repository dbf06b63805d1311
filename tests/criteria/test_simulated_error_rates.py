"""How often accuracy-drop passes a candidate whose true drop is exactly the limit.

The designs are those on which a fixed quantile passed up to 54% of the time. Every figure has its
Monte Carlo error beside it; the seeds are fixed. ``docs/verdict.md`` has them with more draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.criteria.bounds import drop_upper_bound
from harness.criteria.calibration import calibrate
from harness.criteria.units import genome_effect

LIMIT = 0.05
ALLOWED = 0.06
BACKGROUND_CORRELATION = 0.1

Sizes = NDArray[np.int64]
Place = Literal["everywhere", "nonviral", "viral"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The genomes of a test set.

    Attributes
    ----------
    sizes : array of shape (n_genomes, 2), int
        Rows of each in class 0 and in class 1.
    lineages : array of shape (n_genomes,), int, or None
        The lineage of each, numbered from 0.
    """

    sizes: Sizes
    lineages: NDArray[np.int64] | None = None

    def kinds(self) -> list[NDArray[np.int64]]:
        """Return for each kind of unit, by genome, which unit the genome belongs to."""
        own = np.arange(len(self.sizes))
        return [own] if self.lineages is None else [own, self.lineages]

    def multiplier(self, *, gained: int) -> float:
        """Return the larger multiplier of the kinds of units."""
        return max(
            calibrate(_sums(self.sizes, kind), gained=gained, limit_drop=LIMIT).upper
            for kind in self.kinds()
        )


def _sums(values: Sizes, kind: NDArray[np.int64]) -> Sizes:
    """Add up the genomes of each unit: (genome, ...) to (unit, ...)."""
    sums = np.zeros((int(kind.max()) + 1, *values.shape[1:]), dtype=np.int64)
    np.add.at(sums, kind, values)
    return sums


def equal(n_genomes: int, n_rows: int) -> Sizes:
    """Return genomes of one size and of one class."""
    return in_class(np.full(n_genomes, n_rows // n_genomes), 1)


def log_normal(n_genomes: int, n_rows: int, seed: int = 1) -> NDArray[np.int64]:
    """Return unequal sizes, with sigma 1, as genomes have."""
    shares = np.random.default_rng(seed).lognormal(size=n_genomes)
    sizes: Sizes = np.maximum(1, np.round(n_rows * shares / shares.sum())).astype(np.int64)
    return sizes


def in_class(rows: NDArray[np.int64], label: int) -> Sizes:
    """Return genomes of one class."""
    return np.stack([rows * (label == 0), rows * (label == 1)], axis=1)


def both_classes(n_genomes: int, n_rows: int, seed: int = 1) -> Sizes:
    """Return so many log-normal genomes, and rows, in each class."""
    return np.concatenate(
        [in_class(log_normal(n_genomes, n_rows, 2 * seed + label), label) for label in (0, 1)]
    )


def few_beside_many(n_few: int) -> Sizes:
    """Return a few large genomes of one class beside a thousand small ones of the other."""
    few, many = np.full(n_few, 5000 // n_few), np.full(1000, 5)
    return np.concatenate([in_class(few, 1), in_class(many, 0)])


def in_lineages(n_genomes: int, n_lineages: int) -> Design:
    """Return genomes of both classes that share lineages, within a class."""
    sizes = both_classes(n_genomes, 2500)
    member = np.arange(n_genomes) % n_lineages
    return Design(sizes=sizes, lineages=np.concatenate([member, member + n_lineages]))


def beta_binomial(
    rows: Sizes, rate: float, correlation: float, shape: tuple[int, ...], rng: np.random.Generator
) -> Sizes:
    """Draw how many rows of each unit are hit."""
    if correlation == 0 or rate == 0:
        return rng.binomial(rows, rate, size=shape)
    total = 1 / correlation - 1
    return rng.binomial(rows, rng.beta(rate * total, (1 - rate) * total, size=shape))


def share_passed(
    design: Design,
    *,
    place: Place = "everywhere",
    correlation: float,
    drop: float = LIMIT,
    discordance: float = 0.0,
    by_lineage: bool = False,
    wholly: bool = False,
    repeats: int,
    seed: int = 0,
) -> float:
    """Return how often test sets with this true drop pass.

    Parameters
    ----------
    design : Design
        Its genomes.
    place : str
        Which class loses.
    correlation : float
        Of the losses, within genomes or, with ``by_lineage``, within lineages.
    drop : float
        The true one, as a share of all rows.
    discordance : float
        The share of rows that is lost, and the one that is gained, besides.
    wholly : bool
        Genomes are lost whole, each with the probability ``drop``.
    """
    rng = np.random.default_rng(seed)
    sizes, n = design.sizes.sum(axis=1), int(design.sizes.sum())
    held = sizes if place == "everywhere" else design.sizes[:, int(place == "viral")]
    rate, shape = drop * n / held.sum(), (repeats, len(sizes))
    if wholly:
        added = held * (rng.random(shape) < rate)
    elif by_lineage and design.lineages is not None:
        total, n_lineages = 1 / correlation - 1, int(design.lineages.max()) + 1
        shares = rng.beta(rate * total, (1 - rate) * total, size=(repeats, n_lineages))
        added = rng.binomial(held, shares[:, design.lineages])
    else:
        added = beta_binomial(held, rate, correlation, shape, rng)
    noise = [
        beta_binomial(sizes, discordance, BACKGROUND_CORRELATION, shape, rng) for _ in range(2)
    ]
    return float(_passes(design, np.minimum(sizes, added + noise[0]), noise[1]).mean())


def _passes(design: Design, lost: Sizes, gained: Sizes) -> NDArray[np.bool_]:
    """Judge each draw, as the product does; lost and gained: (draw, genome)."""
    b, c, n = lost.sum(axis=1), gained.sum(axis=1), int(design.sizes.sum())
    multiplier = design.multiplier(gained=round(float(c.mean())))
    passes = np.ones(len(b), dtype=bool)
    for kind in design.kinds():
        rows = _sums(design.sizes.sum(axis=1), kind)
        differences = _sums((lost - gained).T, kind).T
        effects = [
            genome_effect(rows, difference, sum_of_squares=int(s), n_informative=int(s))
            for difference, s in zip(differences, b + c, strict=True)
        ]
        bound = drop_upper_bound(
            b,
            c,
            n,
            quantile=[multiplier * effect.quantile() for effect in effects],
            design_effect=[effect.design_effect for effect in effects],
        )
        passes &= bound < LIMIT
    return passes


def most_allowed(repeats: int) -> float:
    """Return the share that may pass, with three Monte Carlo errors."""
    return ALLOWED + 3 * math.sqrt(ALLOWED * (1 - ALLOWED) / repeats)


# Designs by name, with the correlations that are tried and where the losses lie.
CORRELATED = (0.0, 0.1, 0.3)
GRID: dict[str, tuple[Design, tuple[float, ...], tuple[Place, ...]]] = {
    "12 equal": (Design(sizes=equal(12, 5000)), CORRELATED, ("everywhere",)),
    "20 equal": (Design(sizes=equal(20, 5000)), CORRELATED, ("everywhere",)),
    "90 log-normal": (
        Design(sizes=in_class(log_normal(90, 5000), 1)),
        CORRELATED,
        ("everywhere",),
    ),
    **{
        f"{n} beside 1,000": (Design(sizes=few_beside_many(n)), (0.3,), ("viral",))
        for n in (5, 8, 19)
    },
    "45 log-normal a class": (
        Design(sizes=both_classes(45, 2500)),
        (0.0, 0.3),
        ("everywhere", "nonviral", "viral"),
    ),
}
IN_LINEAGES = {"90 genomes in 15 lineages a class": in_lineages(90, 15)}
WHOLLY_LOST = {
    "12 equal": Design(sizes=equal(12, 5000)),
    "20 equal": Design(sizes=equal(20, 5000)),
    "90 log-normal": Design(sizes=in_class(log_normal(90, 5000), 1)),
}


def test_rule_when_the_true_drop_is_the_limit_then_few_pass() -> None:
    """Where a quantile that is not calibrated passes 19% of the time."""
    design, _, _ = GRID["12 equal"]

    assert share_passed(design, correlation=0.3, repeats=400) <= most_allowed(400)


@pytest.mark.parametrize(
    ("n_genomes", "expected"), [(45, 0.80), pytest.param(90, 0.95, marks=pytest.mark.slow)]
)
def test_rule_when_both_are_equally_good_then_most_pass(n_genomes: int, expected: float) -> None:
    """A rule that never passes would pass the other tests: 3% lost and gained, 20,000 rows."""
    design = Design(sizes=both_classes(n_genomes, 10_000))

    passed = share_passed(design, correlation=0.0, drop=0.0, discordance=0.03, repeats=200)

    assert passed >= expected - 3 * math.sqrt(expected * (1 - expected) / 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(GRID))
def test_rule_when_the_loss_lies_within_the_grid_then_at_most_six_percent_pass(name: str) -> None:
    """Every cell that the calibration covers."""
    design, correlations, places = GRID[name]

    passed = {
        (place, correlation): share_passed(
            design, place=place, correlation=correlation, repeats=600
        )
        for place in places
        for correlation in correlations
    }

    assert {cell: x for cell, x in passed.items() if x > most_allowed(600)} == {}


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.1, 0.3])
def test_rule_when_the_loss_follows_lineages_then_they_are_judged_as_well(
    correlation: float,
) -> None:
    """By genome alone a drop of the limit passes up to 23% of the time."""
    (design,) = IN_LINEAGES.values()

    passed = share_passed(design, correlation=correlation, by_lineage=True, repeats=600)

    assert passed <= most_allowed(600)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("12 equal", 0.6), ("90 log-normal", 0.25)])
def test_rule_when_genomes_are_lost_whole_then_no_calibration_helps(name: str, most: float) -> None:
    """Outside the grid: what is not met is not seen, which the blind spot says."""
    passed = share_passed(WHOLLY_LOST[name], correlation=0.0, wholly=True, repeats=600)

    assert passed <= most
