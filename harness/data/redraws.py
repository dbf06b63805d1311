"""p-values under the honest sampler: the test set drawn again and again, in whole units.

The sampler itself is the null, because what it draws together is not independent: permuting rows
where genomes were drawn would find a difference in every honest split. Each lineage's share of test
and train, counted in sampling units, is judged by the exact distribution instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.distributions import (
    Categories,
    Check,
    LineageRow,
    Outcome,
    SampledClass,
    cohen_w,
    ks_distance,
    ks_p,
    share_p,
    smallest_share_ratio,
)
from harness.data.split import Sampler

__all__ = [
    "LINEAGE_SHARE",
    "ClassDraw",
    "Distribution",
    "compare_lineages",
    "judge_lineages",
    "redrawn_p_values",
    "sequential_p_values",
]


IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# From the 20th redraw on that reaches the observed effect, p cannot come down to a level of
# failure, and its relative error is about a fifth: further redraws would change no state.
_ENOUGH_EXCEEDING = 20
# Of more units than these a random part is redrawn. Its effects scatter more, so p errs on the
# high side; yet with this many units, and up to 500 lineages, all that p still decides lies
# under the floors (w .18 of .20, D .035 of .06).
_MOST_UNITS = 40_000
# Equal effects may differ in the last digits.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDraw:
    """One class of a split: which of its rows were drawn, in which units.

    Attributes
    ----------
    is_test : bool array, (n_rows,)
        The class's rows in the test set.
    units : int array, (n_rows,)
        The sampling unit of each row, numbered from 0 without gaps.
    fraction : Fraction
        The share of rows that was to be drawn.
    """

    is_test: npt.NDArray[np.bool_]
    units: IntArray
    fraction: Fraction

    @property
    def has_single_rows(self) -> bool:
        """Whether every unit is one row, so that rows are independent."""
        return int(self.units.max(initial=-1)) + 1 == len(self.units)

    def unit_rows(self) -> IntArray:
        """Return the rows of each unit: (n_units,)."""
        return np.bincount(self.units)

    def units_drawn(self) -> npt.NDArray[np.bool_]:
        """Return which units have rows in the test set: (n_units,)."""
        return np.bincount(self.units, weights=self.is_test) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One trait of one class, as numbered values, and the statistic that compares its parts.

    Attributes
    ----------
    values : int array, (n_rows,)
        The value of each row, numbered from 0; in ascending order where order matters.
    is_ordered : bool
        Compared by Kolmogorov-Smirnov's D if so, else by Cohen's w.
    """

    values: IntArray
    is_ordered: bool

    def counts(self, rows: npt.NDArray[np.bool_] | None = None) -> IntArray:
        """Return the rows of each value, (n_values,): of all rows or of those selected."""
        n_values = int(self.values.max(initial=-1)) + 1
        return np.bincount(self.values if rows is None else self.values[rows], minlength=n_values)

    def effect(self, test: IntArray, total: IntArray) -> float:
        """Return the statistic for the counts of the test rows and of all rows."""
        return ks_distance(test, total) if self.is_ordered else cohen_w(test, total)


def redrawn_p_values(
    draw: ClassDraw,
    distributions: list[Distribution],
    *,
    n_redraws: int,
    rng: np.random.Generator,
    most_units: int = _MOST_UNITS,
) -> list[float]:
    """Return how likely the honest sampler is to give effects as large as those observed.

    Parameters
    ----------
    draw : ClassDraw
        The observed split of the class.
    distributions : list of Distribution
        The traits to judge, over the rows of the class; they share the redraws.
    n_redraws : int
        The most redraws, B.
    rng : Generator
        Source of the redraws.
    most_units : int
        A random part of so many units is redrawn where the class has more.

    Returns
    -------
    list of float
        One p for each distribution.

    Notes
    -----
    Where every unit is one row, the tables of the redraws are drawn from the hypergeometric
    distribution, and D is judged by Kolmogorov's.
    """
    observed = [d.effect(d.counts(draw.is_test), d.counts()) for d in distributions]
    if draw.has_single_rows:
        n_test = int(draw.is_test.sum())
        return [
            ks_p(effect, n_test, len(draw.units) - n_test)
            if distribution.is_ordered
            else _table_p(distribution, effect, n_test, n_redraws, rng)
            for distribution, effect in zip(distributions, observed, strict=True)
        ]
    redraw = _unit_redraws(draw, distributions, most_units, rng)
    p: list[float] = sequential_p_values(np.array(observed), redraw, n_redraws).tolist()
    return p


def sequential_p_values(
    observed: FloatArray, redraw: Callable[[IntArray], list[float]], n_redraws: int
) -> FloatArray:
    """Return Monte Carlo p-values, and stop redrawing where nothing can change any more.

    Parameters
    ----------
    observed : float array, (n_effects,)
        The observed effects.
    redraw : callable
        Positions of the effects that are still open in, those effects in one redraw out.
    n_redraws : int
        The most redraws, B.

    Returns
    -------
    float array, (n_effects,)
        ``(1 + #{T* >= T}) / (B + 1)``; once 20 redraws have reached T, ``20 / redraws so far``
        (Besag and Clifford, Biometrika 78:301, 1991).
    """
    exceeding = np.zeros(len(observed), dtype=np.int64)
    p = np.full(len(observed), np.nan)
    is_open = np.ones(len(observed), dtype=bool)
    for n_done in range(1, n_redraws + 1):
        waiting = np.flatnonzero(is_open)
        exceeding[waiting] += np.array(redraw(waiting)) >= observed[waiting] - _ROUNDING
        is_settled = is_open & (exceeding == _ENOUGH_EXCEEDING)
        p[is_settled] = _ENOUGH_EXCEEDING / n_done
        is_open &= ~is_settled
        if not is_open.any():
            return p
    p[is_open] = (1 + exceeding[is_open]) / (n_redraws + 1)
    return p


def _table_p(
    distribution: Distribution,
    effect: float,
    n_test: int,
    n_redraws: int,
    rng: np.random.Generator,
) -> float:
    total = distribution.counts()

    def redraw(_: IntArray) -> list[float]:
        test = rng.multivariate_hypergeometric(total, n_test, method="marginals")
        return [distribution.effect(test, total)]

    return float(sequential_p_values(np.array([effect]), redraw, n_redraws)[0])


def _unit_redraws(
    draw: ClassDraw, distributions: list[Distribution], most_units: int, rng: np.random.Generator
) -> Callable[[IntArray], list[float]]:
    rows = _rows_to_redraw(draw.units, most_units, rng)
    units = np.unique(draw.units[rows], return_inverse=True)[1]
    one_class = pd.DataFrame({"label": np.ones(len(rows), dtype=np.int8)})
    sampler = Sampler(one_class, draw.fraction, units=units)
    parts = [Distribution(values=d.values[rows], is_ordered=d.is_ordered) for d in distributions]
    totals = [part.counts() for part in parts]

    def redraw(waiting: IntArray) -> list[float]:
        is_test = sampler.draw(rng)
        return [parts[i].effect(parts[i].counts(is_test), totals[i]) for i in waiting]

    return redraw


def _rows_to_redraw(units: IntArray, most_units: int, rng: np.random.Generator) -> IntArray:
    n_units = int(units.max()) + 1
    if n_units <= most_units:
        return np.arange(len(units))
    is_chosen = np.zeros(n_units, dtype=bool)
    is_chosen[rng.choice(n_units, most_units, replace=False)] = True
    return np.flatnonzero(is_chosen[units])


LINEAGE_SHARE = "lineage share"

# A lineage may hold this many times its share of the training part in the test set, or the
# reverse; a lineage of 5% doubled is far outside. A rule such as 'every lineage of 30 rows has a
# test row' would refuse most honest splits.
_RATIO_LIMIT = 1.5
# A lineage of at least this share of its class has to be missed where it is not in the test set.
_NOTICED_SHARE = Fraction(1, 20)


def compare_lineages(
    label: SampledClass, lineage: Categories, draw: ClassDraw, *, alpha: float, is_enough: bool
) -> list[LineageRow]:
    """Compare the shares of every lineage of one class.

    Parameters
    ----------
    label : int or "both"
        The class.
    lineage : Categories
        Of its rows. A unit belongs to the lineage of its first row.
    draw : ClassDraw
        Which rows were drawn, in which units; with test and train rows.
    alpha : float
        The level of the whole class; each lineage has its part of it (Bonferroni).
    is_enough : bool
        Whether the class is large enough to be judged; its rows are INCONCLUSIVE otherwise.

    Returns
    -------
    list of LineageRow
        By p, the least likely first.
    """
    first = np.unique(draw.units, return_index=True)[1]
    n_lineages = len(lineage.names)
    total = np.bincount(lineage.codes[first], minlength=n_lineages)
    test = np.bincount(lineage.codes[first][draw.is_test[first]], minlength=n_lineages)
    n_test, n_all = int(test.sum()), int(total.sum())
    p = share_p(test, total)
    level = alpha / n_lineages
    fails = _is_outside(test, total) & (p <= level)
    caught = smallest_share_ratio(level, test, total, above=_RATIO_LIMIT)
    outcome = {True: Outcome.FAIL, False: Outcome.PASS} if is_enough else {}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (test / n_test) / ((total - test) / (n_all - n_test))
    return [
        LineageRow(
            label=label,
            lineage=lineage.names[i],
            n_train=int(total[i] - test[i]),
            n_test=int(test[i]),
            expected_test=float(total[i] * n_test / n_all),
            ratio=float(ratio[i]),
            p=float(p[i]),
            alpha=level,
            smallest_caught=None if np.isnan(caught[i]) else float(caught[i]),
            state=outcome.get(bool(fails[i]), Outcome.INCONCLUSIVE),
        )
        for i in np.argsort(p, kind="stable")
    ]


def judge_lineages(rows: list[LineageRow], *, unit: str) -> Check:
    """Sum up the lineages of one class in one check: it fails if one of them does.

    Parameters
    ----------
    rows : list of LineageRow
        At least one, the least likely first.
    unit : str
        What the sampling units are called.

    Returns
    -------
    Check
        INCONCLUSIVE where none fails, but a lineage of 5% or more could be gone unnoticed.
    """
    worst = next((row for row in rows if row.state is Outcome.FAIL), rows[0])
    state, detail = (
        worst.state,
        (
            f"{worst.lineage or 'unknown lineage'}: {worst.n_test} in the test set, "
            f"{worst.expected_test:.1f} expected"
        ),
    )
    if state is Outcome.PASS and (blind := _blindness(rows, unit)):
        state, detail = Outcome.INCONCLUSIVE, blind
    return Check(
        label=worst.label,
        what=LINEAGE_SHARE,
        statistic="test share over train share",
        state=state,
        value=worst.ratio,
        fail_floor=_RATIO_LIMIT,
        p=worst.p,
        alpha=worst.alpha,
        smallest_caught=min(
            (row.smallest_caught for row in rows if row.smallest_caught is not None), default=None
        ),
        detail=detail,
    )


def _blindness(rows: list[LineageRow], unit: str) -> str:
    """Name the smallest lineage of 5% or more that could be gone unnoticed; empty if there is none.

    The larger a lineage is, the surer its absence is noticed.
    """
    sizes = {row.n_train + row.n_test: row for row in rows}
    n_test = sum(row.n_test for row in rows)
    n_all = n_test + sum(row.n_train for row in rows)
    noticed = [n for n in sizes if n >= int(_NOTICED_SHARE * n_all)]
    if not noticed or len(rows) == 1:
        return ""
    size = min(noticed)
    p = share_p(np.array([0, n_test]), np.array([size, n_all - size]))[0]
    if p <= (level := sizes[size].alpha):
        return ""
    would_do = math.log(level / 2) / math.log1p(-n_test / n_all) * n_all / size
    return (
        f"class {rows[0].label} has {n_test:,} test {unit}s, too few to notice that "
        f"{sizes[size].lineage or 'unknown lineage'}, {size / n_all:.0%} of the class, is missing "
        f"(p {p:.2g}, limit {level:.2g}); {math.ceil(would_do):,} {unit}s of the class would do"
    )


def _is_outside(test: IntArray, total: IntArray) -> npt.NDArray[np.bool_]:
    """Whether test share over train share lies outside 1/1.5 to 1.5, in whole numbers."""
    train = total - test
    in_test, in_train = test * int(train.sum()), train * int(test.sum())
    outside: npt.NDArray[np.bool_] = (2 * in_test > 3 * in_train) | (2 * in_train > 3 * in_test)
    return outside
