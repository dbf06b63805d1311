"""How much wider a bound must be to keep its error rate on the units of this very test set.

Student's quantile is only right for many alike, independent units. Here the bound is tried where
the truth is known: units of the run's own sizes, a true drop of exactly the limit, placed and
correlated in several ways. The multiplier of the quantile is the smallest that lets none of these
cells pass more often than 5% of the time. ``bound_paired`` puts it to use, for genomes and for
lineages; what is decided with the bounds is the work of the criteria.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.criteria.bounds import drop_interval, restricted_variance
from harness.criteria.units import (
    ASSUMED_CORRELATION,
    MIN_INFORMATIVE_ROWS,
    GenomeEffect,
    PairedOutcomes,
    PairedUnits,
    bell_mccaffrey_degrees,
)

__all__ = [
    "Calibration",
    "PairedBounds",
    "UnitBounds",
    "blind_spot_percent",
    "bound_paired",
    "calibrate",
]

FALSE_PASS_RATE = 0.05
DRAWS = 10_000
CORRELATIONS = (0.0, 0.05, 0.1, 0.2, 0.3)
BACKGROUND_CORRELATION = 0.1
# So many of the largest units are drawn one by one; the sums over all others, if those are more
# than as many again, are drawn as what they nearly are: jointly normal, with the exact moments.
DRAWN_UNITS = 100
THREADS = 2
# Where the degrees of freedom are looked up between: they are smooth in the correlation.
_GRID = np.linspace(0.0, 1.0, 65)

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One way in which a drop may lie in the units.

    Attributes
    ----------
    place : str
        ``everywhere``, ``viral`` or ``nonviral``.
    correlation : float
        Of the added losses within a unit.
    """

    place: str
    correlation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Multipliers of Student's quantile.

    Attributes
    ----------
    upper, lower : float
        For the upper and the lower bound of the drop, each at least 1.
    cell : Cell
        The one that set the upper multiplier.
    """

    upper: float
    lower: float
    cell: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitBounds:
    """One kind of unit, and the bounds of a paired difference with it.

    Attributes
    ----------
    unit : str
        ``genome`` or ``lineage``.
    paired : PairedUnits
        What was lost and gained in each.
    effect : GenomeEffect
        What the units do to the difference.
    calibration : Calibration
        What they ask of the quantile.
    interval : (float, float)
        Lower and upper one-sided 95% bound, as shares.
    """

    unit: str
    paired: PairedUnits
    effect: GenomeEffect
    calibration: Calibration
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedBounds:
    """The calibrated one-sided 95% bounds of a paired difference.

    Attributes
    ----------
    by_unit : tuple of UnitBounds
        By genome and, where any lineage is known, by lineage. All are solved with the larger
        multiplier of them.
    """

    by_unit: tuple[UnitBounds, ...]

    @property
    def widest(self) -> UnitBounds:
        """The kind of unit that sets the upper bound."""
        return max(self.by_unit, key=lambda found: found.interval[1])

    @property
    def strictest(self) -> UnitBounds:
        """The kind of unit that sets the upper multiplier."""
        return max(self.by_unit, key=lambda found: found.calibration.upper)

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest lower and the highest upper bound, as shares."""
        lower, upper = zip(*(found.interval for found in self.by_unit), strict=True)
        return min(lower), max(upper)


def bound_paired(
    outcomes: PairedOutcomes, *, limit_drop: float, like: PairedOutcomes | None = None
) -> PairedBounds:
    """Return the calibrated bounds of a paired difference, by genome and by lineage.

    Parameters
    ----------
    outcomes : PairedOutcomes
        Of at least one row; the difference is (lost - gained) / n_rows.
    limit_drop : float
        As a share. The upper bound passes a true difference of it at most 5% of the time, and so
        does the lower bound, from the other side.
    like : PairedOutcomes, optional
        Another comparison on the same rows whose multipliers are to be used: those depend on the
        rows gained, a little, and seeds of one run are judged alike.

    Returns
    -------
    PairedBounds
        The bounds are -1 and 1 where there is one unit only.
    """
    design = (like or outcomes).by_unit
    gained = (like or outcomes).gained
    found = {
        unit: calibrate(paired.class_sizes, gained=gained, limit_drop=limit_drop)
        for unit, paired in design.items()
    }
    multipliers = max(x.lower for x in found.values()), max(x.upper for x in found.values())
    bounds = []
    for unit, paired in outcomes.by_unit.items():
        effect = paired.effect()
        interval = drop_interval(outcomes.lost, outcomes.gained, effect, multipliers=multipliers)
        bounds.append(
            UnitBounds(
                unit=unit,
                paired=paired,
                effect=effect,
                calibration=found[unit],
                interval=interval,
            )
        )
    return PairedBounds(by_unit=tuple(bounds))


def calibrate(sizes: NDArray[np.int64], *, gained: int, limit_drop: float) -> Calibration:
    """Return by how much the quantile must be multiplied for these units.

    Parameters
    ----------
    sizes : array of shape (n_units, 2), int
        Rows of each unit in class 0 and in class 1.
    gained : int
        Rows that only the candidate has right: losses and gains at this rate are added everywhere.
    limit_drop : float
        The drop that is too much, as a share.

    Returns
    -------
    Calibration
        The same for the same arguments, whatever the order of the units; infinite for one unit of
        several rows, which tells nothing about others.

    Notes
    -----
    Added losses are beta-binomial in each unit, with a mean that makes the drop exactly the limit;
    the background's losses and gains are, too, with a correlation of 0.1. 10,000 draws a cell,
    seeded by the digest of the arguments. A class too small to hold the whole loss is left out.
    """
    everywhere = Cell(place="everywhere", correlation=0.0)
    if len(sizes) == sizes.sum() or limit_drop >= 1:  # nothing is estimated, or nothing gated
        return Calibration(upper=1.0, lower=1.0, cell=everywhere)
    if len(sizes) == 1:
        return Calibration(upper=math.inf, lower=math.inf, cell=everywhere)
    ordered = sizes[np.lexsort(sizes.T)].astype(np.int64)
    return _calibrate(ordered.tobytes(), gained, limit_drop)


def blind_spot_percent(sizes: NDArray[np.int64]) -> float:
    """Return the share of units, in per cent, that a kind of unit may have and not be met at all.

    Parameters
    ----------
    sizes : array of shape (n_units,), int
        Rows of each unit.

    Notes
    -----
    100 (1 - 0.05^(1/G)), G being the effective number of units: a kind that makes up more of them
    is among the test set's units with a probability of at least 95%.
    """
    rows = sizes[sizes > 0].astype(np.float64)
    effective = float(rows.sum() ** 2 / (rows**2).sum())
    return float(100 * (1 - FALSE_PASS_RATE ** (1 / effective)))


@lru_cache(maxsize=64)
def _calibrate(sizes: bytes, gained: int, limit_drop: float) -> Calibration:
    design = _Design(np.frombuffer(sizes, dtype=np.int64).reshape(-1, 2), limit_drop)
    seed = int.from_bytes(hashlib.sha256(sizes + f"{gained} {limit_drop}".encode()).digest()[:8])
    cells = list(design.cells())
    seeds = np.random.SeedSequence(seed).spawn(len(cells) + 1)
    rate = gained / design.n_rows
    background = design.draw(design.rows, rate, BACKGROUND_CORRELATION, seeds[0], n_kinds=2)

    def quantiles(task: tuple[Cell, np.random.SeedSequence]) -> tuple[float, float]:
        cell, cell_seed = task
        distance = design.distances(design.sums(cell, background, rate, cell_seed))
        low, high = np.quantile(distance, [FALSE_PASS_RATE, 1 - FALSE_PASS_RATE])
        return -float(low), float(high)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(quantiles, zip(cells, seeds[1:], strict=True)))
    upper = [low for low, _ in found]
    worst = int(np.argmax(upper))
    return Calibration(
        upper=max(1.0, upper[worst]),
        lower=max(1.0, *(high for _, high in found)),
        cell=cells[worst],
    )


class _Design:
    """The units of a test set, and what a drop would do to their sums.

    All that the bound asks of the units are five sums over them: of losses b, of gains c, and with
    T = b - c of T^2 / (1 - w), of n T / (1 - w) and of T^2 / n.
    """

    def __init__(self, sizes: NDArray[np.int64], limit_drop: float) -> None:
        self.limit_drop = limit_drop
        by_class = sizes[np.argsort(-sizes.sum(axis=1), kind="stable")]
        is_drawn_whole = len(sizes) <= 2 * DRAWN_UNITS
        self.n_drawn = len(sizes) if is_drawn_whole else DRAWN_UNITS
        self.by_class = by_class
        self.rows = by_class.sum(axis=1)
        self.n_rows, self.n_units = int(self.rows.sum()), len(sizes)
        rows = self.rows.astype(np.float64)
        self.weights = 1 / (1 - rows / self.n_rows)
        self.effective = self.n_rows**2 / float((rows**2).sum())
        degrees = [bell_mccaffrey_degrees(self.rows, float(x)) for x in _GRID]
        self._quantiles = stats.t.ppf(1 - FALSE_PASS_RATE, degrees)

    def cells(self) -> Iterator[Cell]:
        """Yield where the loss may lie, and how it may be correlated."""
        whole = int(self.held("viral").sum()) in (0, self.n_rows)  # one class is everywhere
        for place in ("everywhere",) if whole else ("everywhere", "nonviral", "viral"):
            if self.rate(place) < 1:
                for correlation in CORRELATIONS:
                    yield Cell(place=place, correlation=correlation)

    def held(self, place: str) -> NDArray[np.int64]:
        """Return how many rows of each unit the loss may hit."""
        return self.rows if place == "everywhere" else self.by_class[:, int(place == "viral")]

    def rate(self, place: str) -> float:
        """Return the share of those rows that is lost at a drop of exactly the limit."""
        held = int(self.held(place).sum())
        return self.limit_drop * self.n_rows / held if held else float("inf")

    def draw(
        self,
        rows: NDArray[np.int64],
        rate: float,
        correlation: float,
        seed: np.random.SeedSequence,
        *,
        n_kinds: int = 1,
    ) -> NDArray[np.int64]:
        """Draw beta-binomial counts for the units that are drawn; (n_kinds, draw, unit)."""
        rng = np.random.default_rng(seed)
        counts = np.zeros((n_kinds, DRAWS, self.n_drawn), dtype=np.int64)
        held = np.flatnonzero(rows[: self.n_drawn])
        if rate == 0:
            return counts
        shares: Numbers | float = rate
        if correlation > 0 and rate < 1:
            alpha, beta = _beta(rate, correlation)
            shares = rng.beta(alpha, beta, size=(n_kinds, DRAWS, len(held)))
        counts[:, :, held] = rng.binomial(rows[held], shares, size=(n_kinds, DRAWS, len(held)))
        return counts

    def sums(
        self, cell: Cell, background: NDArray[np.int64], rate: float, seed: np.random.SeedSequence
    ) -> Numbers:
        """Return the five sums of every draw; shape (5, draw)."""
        drawn_seed, rest_seed = seed.spawn(2)
        added = self.draw(
            self.held(cell.place), self.rate(cell.place), cell.correlation, drawn_seed
        )
        losses, gains = added[0] + background[0], background[1]
        weights, rows = self.weights[: self.n_drawn], self.rows[: self.n_drawn]
        difference = losses - gains
        square = (difference**2).astype(np.float64)
        drawn = np.stack(
            [
                losses.sum(axis=1),
                gains.sum(axis=1),
                square @ weights,
                difference @ (weights * rows),
                square @ (1 / rows),
            ]
        )
        return drawn + self._rest(cell, rate, rest_seed)

    def _rest(self, cell: Cell, rate: float, seed: np.random.SeedSequence) -> Numbers:
        """Draw the sums over the units that are too many to be drawn one by one."""
        rest = slice(self.n_drawn, None)
        rows, weights = self.rows[rest], self.weights[rest]
        if len(rows) == 0:
            return np.zeros((5, 1))
        added = _moments(self.held(cell.place)[rest], self.rate(cell.place), cell.correlation)
        noise = _moments(rows, rate, BACKGROUND_CORRELATION)
        mean, covariance = _loss_gain_square(_add(added, noise), noise)
        zero = np.zeros_like(weights)
        one = np.ones_like(weights)
        maps = np.array(  # (sum, of (b, c, T^2), unit)
            [
                [one, zero, zero],
                [zero, one, zero],
                [zero, zero, weights],
                [weights * rows, -weights * rows, zero],
                [zero, zero, 1 / rows],
            ]
        )
        means = np.einsum("sxu,xu->s", maps, mean)
        covariances = np.einsum("sxu,xyu,tyu->st", maps, covariance, maps)
        rng = np.random.default_rng(seed)
        return rng.multivariate_normal(  # a covariance by construction, but for rounding
            means, covariances, size=DRAWS, method="eigh", check_valid="ignore"
        ).T

    def distances(self, sums: Numbers) -> Numbers:
        """Return how far each draw lies from the limit, in Student's quantiles; shape (draw,)."""
        lost, gained, squares, products, shares = sums
        n, total, discordant = self.n_rows, lost - gained, lost + gained
        rows = self.rows.astype(np.float64)
        mean, constant = total / n, float(self.weights @ rows**2)
        between = squares - 2 * mean * products + mean**2 * constant
        spread = n * discordant - total**2
        ratio = np.divide(between * n, spread, out=np.ones_like(spread), where=spread > 0)
        correlation = self._correlation(total, discordant, shares)
        is_rare = discordant < MIN_INFORMATIVE_ROWS
        assumed = 1 + ASSUMED_CORRELATION * (n / self.effective - 1)
        ratio = np.where(is_rare, np.maximum(ratio, assumed), ratio)
        correlation = np.where(is_rare, ASSUMED_CORRELATION, correlation)
        size = np.full_like(lost, n)
        variance = restricted_variance(lost, gained, size, np.full_like(lost, self.limit_drop))
        deviation = np.sqrt(np.maximum(ratio, 1.0) * n * variance)
        quantile = np.interp(correlation, _GRID, self._quantiles)
        distance: Numbers = (total - n * self.limit_drop) / (deviation * quantile)
        return distance

    def _correlation(self, total: Numbers, discordant: Numbers, explained: Numbers) -> Numbers:
        """Return the analysis of variance's intraclass correlation, kept within [0, 1]."""
        n, groups = self.n_rows, self.n_units
        between = (explained - total**2 / n) / (groups - 1)
        within = (discordant - explained) / (n - groups)
        size = (n - n / self.effective) / (groups - 1)
        spread = between + (size - 1) * within
        share = np.divide(between - within, spread, out=np.zeros_like(spread), where=spread > 0)
        return np.clip(share, 0.0, 1.0)


def _beta(rate: float, correlation: float) -> tuple[float, float]:
    """Return the parameters of the beta distribution with this mean and intraclass correlation."""
    total = 1 / correlation - 1
    return rate * total, (1 - rate) * total


def _moments(rows: NDArray[np.int64], rate: float, correlation: float) -> Numbers:
    """Return the raw moments 0 to 4 of beta-binomial counts; shape (5, unit)."""
    n = rows.astype(np.float64)
    if correlation == 0:
        powers = [rate**k for k in range(5)]
    else:
        alpha, beta = _beta(rate, correlation)
        powers = [1.0]
        for k in range(4):
            powers.append(powers[-1] * (alpha + k) / (alpha + beta + k))
    f1, f2, f3, f4 = (
        np.prod([n - j for j in range(k)], axis=0) * powers[k] for k in range(1, 5)
    )  # factorial moments
    return np.stack([np.ones_like(n), f1, f2 + f1, f3 + 3 * f2 + f1, f4 + 6 * f3 + 7 * f2 + f1])


def _add(first: Numbers, second: Numbers) -> Numbers:
    """Return the raw moments of the sum of independent counts."""
    binomials = ((1,), (1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 4, 6, 4, 1))
    return np.stack(
        [
            sum(c * first[j] * second[k - j] for j, c in enumerate(row))
            for k, row in enumerate(binomials)
        ]
    )


def _loss_gain_square(b: Numbers, c: Numbers) -> tuple[Numbers, Numbers]:
    """Return mean (3, unit) and covariance (3, 3, unit) of independent b, c and (b - c)^2."""
    square = b[2] - 2 * b[1] * c[1] + c[2]
    b_square = b[3] - 2 * b[2] * c[1] + b[1] * c[2]
    c_square = b[2] * c[1] - 2 * b[1] * c[2] + c[3]
    fourth = b[4] - 4 * b[3] * c[1] + 6 * b[2] * c[2] - 4 * b[1] * c[3] + c[4]
    mean = np.stack([b[1], c[1], square])
    second = np.array(
        [[b[2], b[1] * c[1], b_square], [b[1] * c[1], c[2], c_square], [b_square, c_square, fourth]]
    )
    return mean, second - mean[:, None] * mean[None, :]
