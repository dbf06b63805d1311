"""Bounds on how much accuracy a candidate loses.

Paired: Tango's score bound, widened by what the genomes take away. Unpaired, and for one share
alone: Wilson's. How large a test set would settle what the present one leaves open is an aid to
planning, never gated on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.criteria.result import CriterionResult, State
from harness.criteria.units import GenomeEffect

__all__ = [
    "MIN_EFFECTIVE_GENOMES",
    "SettlingSize",
    "drop_interval",
    "drop_upper_bound",
    "exact_points",
    "finite",
    "lacking_genomes",
    "nothing_judged",
    "restricted_variance",
    "settling_size",
    "settling_size_of_share",
    "unpaired_interval",
    "unpaired_settling_size",
    "wilson_interval",
]


Z_ONE_SIDED = float(stats.norm.ppf(0.95))
_HALVINGS = 60  # of an interval no longer than 2, so to the last bit

Numbers = NDArray[np.float64]


def drop_upper_bound(
    lost: ArrayLike,
    gained: ArrayLike,
    n_rows: ArrayLike,
    *,
    quantile: ArrayLike = Z_ONE_SIDED,
    design_effect: ArrayLike = 1.0,
) -> Numbers:
    """Return the upper bound of Tango's score interval for the drop of paired shares.

    Parameters
    ----------
    lost, gained : array_like of int
        Rows that only the baseline has right, and rows that only the candidate has right.
    n_rows : array_like of int
        All rows, at least 1.
    quantile : array_like of float
        Of the reference distribution; the default is the normal's for a one-sided 95% bound.
    design_effect : array_like of float
        Factor by which the variance is inflated.

    Returns
    -------
    array of float, in [-1, 1], of the arguments' common shape
        The drop (lost - gained) / n_rows is at most this, as a share.

    Notes
    -----
    The bound is the value Delta above the observed drop at which
    (lost - gained - n Delta) / sqrt(deff n (2 q + Delta (1 - Delta))) = -quantile, q being the
    estimate of the gained share under that Delta (Tango, Statistics in Medicine 17:891, 1998).

    Examples
    --------
    >>> float(drop_upper_bound(0, 0, 52).round(4))
    0.0495
    """
    b, c, n, critical, inflation = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (lost, gained, n_rows, quantile, design_effect))
    )
    low, high = (b - c) / n, np.ones_like(n)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        spread = np.sqrt(inflation * n * restricted_variance(b, c, n, middle))
        is_outside = n * middle - (b - c) >= critical * spread
        low, high = np.where(is_outside, low, middle), np.where(is_outside, middle, high)
    return high


def drop_interval(
    lost: int,
    gained: int,
    effect: GenomeEffect,
    *,
    multipliers: tuple[float, float] = (1.0, 1.0),
) -> tuple[float, float]:
    """Return the lower and the upper one-sided 95% bound of the drop on genomes like these.

    Parameters
    ----------
    lost, gained : int
        Rows that only the baseline has right, and rows that only the candidate has right.
    effect : GenomeEffect
        Of the paired differences.
    multipliers : (float, float)
        Of Student's quantile, for the lower and the upper bound; calibration.py finds them.

    Returns
    -------
    (float, float)
        As shares; (-1, 1) for a single genome, which tells nothing about others.
    """
    if effect.n_genomes == 1 or not all(map(math.isfinite, multipliers)):
        return -1.0, 1.0
    minus_lower, upper = drop_upper_bound(
        [gained, lost],
        [lost, gained],
        effect.n_rows,
        quantile=effect.quantile() * np.array(multipliers),
        design_effect=effect.design_effect,
    )
    return -float(minus_lower), float(upper)


def wilson_interval(share: float, n_rows: int, effect: GenomeEffect) -> tuple[float, float]:
    """Return the lower and the upper one-sided Wilson bound of one share.

    Parameters
    ----------
    share : float
        Observed, in [0, 1].
    n_rows : int
        Rows it was observed on, at least 1.
    effect : GenomeEffect
        Its design effect divides the rows, its degrees of freedom give the quantile.

    Notes
    -----
    Wilson (JASA 22:209, 1927), with rows / design effect in the place of rows, as Korn and
    Graubard (Survey Methodology 24:193, 1998) do for survey data.
    """
    if effect.n_genomes == 1:
        return 0.0, 1.0
    surplus = effect.quantile() ** 2 * effect.design_effect / n_rows
    centre = (share + surplus / 2) / (1 + surplus)
    half = math.sqrt(surplus * share * (1 - share) + surplus**2 / 4) / (1 + surplus)
    return centre - half, centre + half


def unpaired_interval(
    baseline: tuple[float, int], candidate: tuple[float, int], effect: GenomeEffect
) -> tuple[float, float]:
    """Return the one-sided 95% bounds of the drop between shares seen on different rows.

    Parameters
    ----------
    baseline, candidate : (float, int)
        Share right and number of rows.
    effect : GenomeEffect
        Of the candidate's rows; the baseline's are taken to be alike.

    Notes
    -----
    Newcombe's hybrid of two Wilson intervals (Statistics in Medicine 17:873, 1998, method 10): the
    distances from each share to its bound are added in squares. Zou and Donner (Statistics in
    Medicine 27:1693, 2008) show that any bounds may be put in, hence the clustered ones.
    """
    baseline_low, baseline_high = wilson_interval(*baseline, effect)
    candidate_low, candidate_high = wilson_interval(*candidate, effect)
    drop = baseline[0] - candidate[0]
    down = math.hypot(baseline[0] - baseline_low, candidate_high - candidate[0])
    up = math.hypot(baseline_high - baseline[0], candidate[0] - candidate_low)
    return drop - down, drop + up


def restricted_variance(b: Numbers, c: Numbers, n: Numbers, drop: Numbers) -> Numbers:
    """Return the variance of one row's paired difference under Tango's restricted estimate.

    Parameters
    ----------
    b, c, n : array of float
        Rows lost, rows gained and all rows.
    drop : array of float
        The mean that the difference is assumed to have, as a share.
    """
    linear = -b - c + (2 * n - b + c) * drop
    discriminant = linear**2 + 8 * n * c * drop * (1 - drop)
    root = np.sqrt(np.maximum(discriminant, 0.0))  # rounding may take it below zero
    gained_share = (root - linear) / (4 * n)
    variance: Numbers = 2 * gained_share + drop * (1 - drop)
    return variance


Z_POWER = float(stats.norm.ppf(0.80))
MAX_SETTLING = 10**7  # more rows or genomes than this: too near the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlingSize:
    """How large a test set would settle the question, if the truth is what was observed.

    Attributes
    ----------
    n_rows : int or None
        Rows from the same genomes; None where no number of rows would do.
    n_genomes : int or None
        Genomes with as many rows each as now, where rows alone would not do. Both None: too near
        the limit, over ten million would be needed.
    """

    n_rows: int | None = None
    n_genomes: int | None = None


def settling_size(
    lost: int,
    gained: int,
    effect: GenomeEffect,
    *,
    limit_drop: float,
    multiplier: float = 1.0,
) -> SettlingSize:
    """Estimate how large a test set would show, with 80% power, that the drop is below the limit.

    Parameters
    ----------
    lost, gained : int
        Rows that only the baseline has right, and rows that only the candidate has right; the drop
        must be below the limit.
    effect : GenomeEffect
        Of the paired differences, with at least two genomes.
    limit_drop : float
        As a share.
    multiplier : float
        Of Student's quantile; taken to stay what it is.

    Notes
    -----
    The rows that Tango's test of the limit would need if they were independent, turned into rows
    or genomes by the correlation within genomes. An aid to planning, never gated on.
    """
    n, drop = effect.n_rows, (lost - gained) / effect.n_rows
    at_limit = float(
        restricted_variance(*np.array([lost, gained, n, limit_drop], dtype=np.float64))
    )
    observed = max(0.0, (lost + gained) / n - drop**2)
    return _settle(at_limit, observed, limit_drop - drop, effect, multiplier)


def settling_size_of_share(share: float, limit: float, effect: GenomeEffect) -> SettlingSize:
    """Estimate how large a test set would show, with 80% power, that a share is above a limit.

    Parameters
    ----------
    share, limit : float
        Observed share, and the smaller one that it must be shown to exceed.
    effect : GenomeEffect
        Of the share, with at least two genomes.
    """
    return _settle(limit * (1 - limit), share * (1 - share), share - limit, effect, 1.0)


def unpaired_settling_size(
    baseline: tuple[float, int],
    candidate: tuple[float, int],
    effect: GenomeEffect,
    *,
    limit_drop: float,
) -> SettlingSize | None:
    """Estimate how many candidate rows would show, with 80% power, a drop below the limit.

    Parameters
    ----------
    baseline, candidate : (float, int)
        Share right and number of rows; the baseline's rows stay as they are.
    effect : GenomeEffect
        Of the candidate's rows, with at least two genomes.
    limit_drop : float
        As a share, above the observed drop.

    Returns
    -------
    SettlingSize or None
        None where the baseline's rows are too few for any number of the candidate's.

    Notes
    -----
    The candidate's part of the bound shrinks with the root of its rows, spread over genomes as now.
    """
    powered = (limit_drop - baseline[0] + candidate[0]) / (1 + Z_POWER / effect.quantile())
    of_baseline = wilson_interval(*baseline, effect)[1] - baseline[0]
    of_candidate = candidate[0] - wilson_interval(*candidate, effect)[0]
    if of_baseline >= powered:
        return None
    factor = of_candidate**2 / (powered**2 - of_baseline**2)
    if effect.n_genomes == effect.n_rows:
        return SettlingSize(n_rows=_whole(factor * effect.n_rows))
    return SettlingSize(n_genomes=_whole(factor * effect.n_genomes))


def _settle(
    variance_at_limit: float,
    variance: float,
    distance: float,
    effect: GenomeEffect,
    multiplier: float,
) -> SettlingSize:
    quantile = multiplier * effect.quantile()
    reach = quantile * math.sqrt(variance_at_limit) + Z_POWER * math.sqrt(variance)
    independent = (reach / distance) ** 2
    correlation, effective = effect.correlation, effect.effective_genomes
    if independent * correlation < effective:
        rows = independent * (1 - correlation) / (1 - independent * correlation / effective)
        return SettlingSize(n_rows=_whole(rows))
    per_genome = correlation + (1 - correlation) * effective / effect.n_rows
    return SettlingSize(n_genomes=_whole(effect.n_genomes * independent * per_genome / effective))


def _whole(size: float) -> int | None:
    return math.ceil(size) if size <= MAX_SETTLING else None


# With fewer a bound that is not calibrated cannot be trusted. Both were chosen by simulation.
MIN_EFFECTIVE_GENOMES = 10
MIN_DEGREES_OF_FREEDOM = 4


def lacking_genomes(effect: GenomeEffect) -> tuple[str, ...]:
    """Return what the genomes of a test set lack for a bound to be trusted; empty if nothing."""
    genomes, degrees = effect.effective_genomes, effect.degrees_of_freedom
    lacking = []
    if genomes < MIN_EFFECTIVE_GENOMES:
        lacking.append(f"{MIN_EFFECTIVE_GENOMES} effective genomes (there are {genomes:.1f})")
    if degrees < MIN_DEGREES_OF_FREEDOM:
        lacking.append(f"{MIN_DEGREES_OF_FREEDOM} degrees of freedom (there are {degrees:.1f})")
    return tuple(lacking)


def exact_points(points: str | int | Fraction) -> Fraction:
    """Return a limit as an exact number.

    Raises
    ------
    TypeError
        If it is a float: 5.1 is not 51/10 in binary.
    """
    if isinstance(points, float):
        raise TypeError(f'expected a limit as text, such as "{points}", so that it stays exact')
    return Fraction(points)


def finite(number: float) -> float | None:
    """Return the number, or None where JSON has no way to write it."""
    return number if math.isfinite(number) else None


def nothing_judged(criterion: str, limit: Fraction | None) -> CriterionResult:
    """Return the result for an empty test set: INCONCLUSIVE."""
    return CriterionResult(
        id=criterion,
        state=State.INCONCLUSIVE,
        limit=limit,
        detail="There are no test rows, so nothing was judged.",
        next_steps=("Check the split: its test set has no rows.",),
        evidence={"n": 0},
    )
