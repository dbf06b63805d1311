"""How large a test set would settle what the present one leaves open.

Aids to planning: 'about so many, if the truth is what was observed'. Nothing is ever gated on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.gate.accuracy.design_effect import GenomeEffect
from harness.gate.accuracy.noninferiority import restricted_variance, wilson_interval

__all__ = ["SettlingSize", "settling_size", "settling_size_of_share", "unpaired_settling_size"]

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
    lost: int, gained: int, effect: GenomeEffect, *, limit_drop: float = 0.05
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
    return _settle(at_limit, observed, limit_drop - drop, effect)


def settling_size_of_share(share: float, limit: float, effect: GenomeEffect) -> SettlingSize:
    """Estimate how large a test set would show, with 80% power, that a share is above a limit.

    Parameters
    ----------
    share, limit : float
        Observed share, and the smaller one that it must be shown to exceed.
    effect : GenomeEffect
        Of the share, with at least two genomes.
    """
    return _settle(limit * (1 - limit), share * (1 - share), share - limit, effect)


def unpaired_settling_size(
    baseline: tuple[float, int],
    candidate: tuple[float, int],
    effect: GenomeEffect,
    *,
    limit_drop: float = 0.05,
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
    variance_at_limit: float, variance: float, distance: float, effect: GenomeEffect
) -> SettlingSize:
    reach = effect.quantile() * math.sqrt(variance_at_limit) + Z_POWER * math.sqrt(variance)
    independent = (reach / distance) ** 2
    correlation, effective = effect.correlation, effect.effective_genomes
    if independent * correlation < effective:
        rows = independent * (1 - correlation) / (1 - independent * correlation / effective)
        return SettlingSize(n_rows=_whole(rows))
    per_genome = correlation + (1 - correlation) * effective / effect.n_rows
    return SettlingSize(n_genomes=_whole(effect.n_genomes * independent * per_genome / effective))


def _whole(size: float) -> int | None:
    return math.ceil(size) if size <= MAX_SETTLING else None
