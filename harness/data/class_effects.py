"""How far the train and test rows of one class lie apart, trait by trait; judged elsewhere.

Every check made here is REPORTED: it has an effect, its floors, and the smallest effect that could
have been caught, but no p yet. Beside the single traits stands a held-out two-sample classifier:
half of the units teach a logistic regression which side a row is on, the other half judge it. It
sees differences that no single trait shows; in-sample, or with rows of one unit in both halves, it
would invent them. Lengths and GC are also given as histograms, for the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.data.distributions import (
    Categories,
    Check,
    Histogram,
    Outcome,
    SampledClass,
    Traits,
    effective_units,
    smallest_cohen_w,
    smallest_ks_distance,
)
from harness.data.redraws import ClassDraw, Distribution, sequential_p_values

__all__ = [
    "ClassSample",
    "Judgement",
    "count_effect",
    "draw_histograms",
    "has_features",
    "held_out_effect",
    "judge_by_classifier",
    "known_distributions",
    "trait_effect",
]


Mask = npt.NDArray[np.bool_]

MOST_ROWS_A_SIDE = 20_000
# More rows of one genome tell little more, and would leave room for two or three genomes a side.
# The same for test and train, so that units stay exchangeable.
_MOST_ROWS_A_UNIT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How the judging half was ranked, unit by unit.

    Attributes
    ----------
    is_test : bool array, (n_units,)
        Whether the unit is in the test set.
    n_rows : int array, (n_units,)
        Rows of the unit.
    rank_sum : float array, (n_units,)
        Sum of the ranks of its rows' scores; ties share their mean rank.
    """

    is_test: Mask
    n_rows: IntArray
    rank_sum: FloatArray

    @property
    def effect(self) -> float:
        """2·AUC - 1: 0 where the classifier guesses, 1 where it is always right."""
        return self._effect_of(np.flatnonzero(self.is_test))

    def p_value(self, n_redraws: int, rng: np.random.Generator) -> float:
        """Return the p of the effect: units change sides, without refitting."""
        n_units, n_test = len(self.is_test), int(self.is_test.sum())

        def redraw(_: IntArray) -> list[float]:
            return [self._effect_of(rng.choice(n_units, n_test, replace=False, shuffle=False))]

        return float(sequential_p_values(np.array([self.effect]), redraw, n_redraws)[0])

    def smallest_effect(self, alpha: float) -> float:
        """Return the effect whose p is ``alpha``, from the normal limit of the rank sum."""
        n_test = effective_units(self.n_rows[self.is_test])
        n_train = effective_units(self.n_rows[~self.is_test])
        scale = np.sqrt((n_test + n_train + 1) / (3 * n_test * n_train))
        return float(stats.norm.isf(alpha) * scale)

    def _effect_of(self, test_units: IntArray) -> float:
        n_test = int(self.n_rows[test_units].sum())
        n_train = int(self.n_rows.sum()) - n_test
        wins = float(self.rank_sum[test_units].sum()) - n_test * (n_test + 1) / 2
        return 2 * wins / (n_test * n_train) - 1


def judge_by_classifier(
    traits: Traits, is_test: Mask, units: IntArray, rng: np.random.Generator
) -> Judgement | None:
    """Fit on half of the units, and rank the rows of the other half.

    Parameters
    ----------
    traits : Traits
        Length, GC, composition, frame and source kind are the features.
    is_test : bool array, (n_rows,)
        The side of each row.
    units : int array, (n_rows,)
        The sampling unit of each row.
    rng : Generator
        Chooses rows and units, at most 50 rows a unit and 20,000 a side, and halves the units.

    Returns
    -------
    Judgement or None
        None where a side has fewer than two units.
    """
    rows = _rows_within_units(units, rng)
    sides = (rows[is_test[rows]], rows[~is_test[rows]])
    chosen = np.concatenate([_choose_units(side, units, rng) for side in sides])
    is_judge = np.zeros(len(chosen), dtype=bool)
    for is_side in (is_test[chosen], ~is_test[chosen]):  # halves are cut within each side
        present = np.unique(units[chosen[is_side]])
        if len(present) < 2:
            return None
        half = rng.permutation(present)[: len(present) // 2]
        is_judge |= is_side & np.isin(units[chosen], half)
    scores = _held_out_scores(_features(traits.take(chosen)), is_test[chosen], is_judge)
    judged = chosen[is_judge]
    return _rank_units(scores, is_test[judged], units[judged])


def _rows_within_units(units: IntArray, rng: np.random.Generator) -> IntArray:
    """Return all rows, but a random 50 of a unit that has more."""
    shuffled = rng.permutation(len(units))
    by_unit = shuffled[np.argsort(units[shuffled], kind="stable")]
    first = np.searchsorted(units[by_unit], units[by_unit])
    return by_unit[np.arange(len(units)) - first < _MOST_ROWS_A_UNIT]


def _choose_units(rows: IntArray, units: IntArray, rng: np.random.Generator) -> IntArray:
    """Return the rows of random whole units, as many as a side may have."""
    present, position = np.unique(units[rows], return_inverse=True)
    order = rng.permutation(len(present))
    rows_so_far = np.cumsum(np.bincount(position, minlength=len(present))[order])
    is_chosen = np.zeros(len(present), dtype=bool)
    is_chosen[order] = rows_so_far <= MOST_ROWS_A_SIDE
    return rows[is_chosen[position]]


def _features(traits: Traits) -> FloatArray:
    """Return (n_rows, n_features), without what is unknown."""
    gc = np.nan_to_num(traits.gc)
    return np.column_stack(
        [
            traits.length_residues,
            gc,
            traits.composition(np.arange(len(gc))),
            _indicators(traits.frame),
            _indicators(traits.source_kind),
        ]
    ).astype(np.float64)


def _indicators(categories: Categories) -> FloatArray:
    return np.eye(len(categories.names))[categories.codes]


def _held_out_scores(features: FloatArray, is_test: Mask, is_judge: Mask) -> FloatArray:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(features[~is_judge], is_test[~is_judge])
    scores: FloatArray = model.decision_function(features[is_judge])
    return scores


def _rank_units(scores: FloatArray, is_test: Mask, units: IntArray) -> Judgement:
    _, first, position = np.unique(units, return_index=True, return_inverse=True)
    return Judgement(
        is_test=is_test[first],
        n_rows=np.bincount(position),
        rank_sum=np.bincount(position, weights=stats.rankdata(scores)).astype(np.float64),
    )


IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """A statistic, and the effects above which it may warn and fail."""

    statistic: str
    warn_floor: float
    fail_floor: float


# Effects below the floors are too small to matter, however significant. Chosen by simulation with
# the levels of a class: all together fail at most 1 in 200 honest splits, and with 2,500
# test rows of a class they catch lengths or GC shifted by 0.2 SD (D is .08 then).
_COHEN_W = _Measure(statistic="Cohen's w", warn_floor=0.10, fail_floor=0.20)
_KS_DISTANCE = _Measure(statistic="Kolmogorov-Smirnov D", warn_floor=0.03, fail_floor=0.06)
_HELD_OUT_AUC = _Measure(statistic="2·AUC-1", warn_floor=0.05, fail_floor=0.10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSample:
    """One class, or both together: what its rows are like, and which were drawn."""

    label: SampledClass
    traits: Traits
    draw: ClassDraw

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return len(self.draw.is_test)

    @property
    def n_test(self) -> int:
        """Rows in the test set."""
        return int(self.draw.is_test.sum())

    @property
    def has_both_parts(self) -> bool:
        """Whether there are test rows as well as train rows."""
        return 0 < self.n_test < self.n_rows


def known_distributions(traits: Traits) -> dict[str, Distribution]:
    """Return the traits that are known for some row, by name, as values that can be counted."""
    categories = {
        "lineage": traits.lineage,
        "source kind": traits.source_kind,
        "frame": traits.frame,
    }
    numbers = {"length": traits.length_residues, "GC": traits.gc}
    is_known = {"length": traits.length_residues > 0, "GC": ~np.isnan(traits.gc)}
    return {
        name: Distribution(values=column.codes, is_ordered=False)
        for name, column in categories.items()
        if column.is_known
    } | {
        name: Distribution(values=np.unique(column, return_inverse=True)[1], is_ordered=True)
        for name, column in numbers.items()
        if is_known[name].any()
    }


def has_features(known: dict[str, Distribution]) -> bool:
    """Whether anything that the classifier looks at is known."""
    return bool(known.keys() - {"lineage"})


def count_effect(sample: ClassSample) -> Check:
    """Compare the number of test rows with the number that was to be drawn.

    The two are equal up to rows drawn together: rows may be missing only if they are fewer than
    any unit left in the training part has, and in excess only by less than the largest unit drawn.
    """
    expected = round(sample.draw.fraction * sample.n_rows)
    difference = sample.n_test - expected
    rows, is_drawn = sample.draw.unit_rows(), sample.draw.units_drawn()
    if difference < 0:
        explained = rows[~is_drawn].min(initial=sample.n_rows) - 1
    else:
        explained = rows[is_drawn].max(initial=1) - 1
    return Check(
        label=sample.label,
        what="class count",
        statistic="rows off the exact number",
        value=float(abs(difference)),
        fail_floor=float(explained),
        state=Outcome.REPORTED,
        detail=f"{sample.n_test:,} of {sample.n_rows:,} rows are in the test set, "
        f"{expected:,} expected",
    )


def trait_effect(
    sample: ClassSample, what: str, distribution: Distribution, *, alpha: float
) -> Check:
    """Compare one trait.

    Parameters
    ----------
    sample : ClassSample
        The class.
    what : str
        The trait's name.
    distribution : Distribution
        Its values.
    alpha : float
        The level that it is judged at, from which the smallest effect caught follows.
    """
    measure = _KS_DISTANCE if distribution.is_ordered else _COHEN_W
    if not sample.has_both_parts:
        return _reported(sample, what, measure)
    test, total = distribution.counts(sample.draw.is_test), distribution.counts()
    smallest = _smallest(sample.draw, distribution, alpha, test, total)
    return _reported(
        sample, what, measure, value=distribution.effect(test, total), smallest=smallest
    )


def held_out_effect(sample: ClassSample, judgement: Judgement | None, *, alpha: float) -> Check:
    """Tell what the classifier found; without a judgement, that it found nothing.

    Parameters
    ----------
    sample : ClassSample
        The class.
    judgement : Judgement or None
        How it ranked the judging half.
    alpha : float
        The level that it is judged at.
    """
    if judgement is None:
        return _reported(sample, "classifier", _HELD_OUT_AUC)
    smallest = judgement.smallest_effect(alpha)
    return _reported(sample, "classifier", _HELD_OUT_AUC, value=judgement.effect, smallest=smallest)


def _reported(
    sample: ClassSample,
    what: str,
    measure: _Measure,
    *,
    value: float | None = None,
    smallest: float | None = None,
) -> Check:
    return Check(
        label=sample.label,
        what=what,
        statistic=measure.statistic,
        value=value,
        warn_floor=measure.warn_floor,
        fail_floor=measure.fail_floor,
        smallest_caught=None if smallest is None else max(smallest, measure.fail_floor),
        state=Outcome.REPORTED,
    )


def _smallest(
    draw: ClassDraw, distribution: Distribution, alpha: float, test: IntArray, total: IntArray
) -> float | None:
    if np.count_nonzero(total) < 2:
        return None
    rows, is_drawn = draw.unit_rows(), draw.units_drawn()
    if distribution.is_ordered:
        n_test, n_train = effective_units(rows[is_drawn]), effective_units(rows[~is_drawn])
        return smallest_ks_distance(alpha, n_test, n_train)
    return smallest_cohen_w(alpha, test, total, n_effective=effective_units(rows))


FloatArray = npt.NDArray[np.float64]

_MOST_BINS = 40
_GC_EDGES = np.linspace(0, 1, _MOST_BINS + 1)


def draw_histograms(sample: ClassSample) -> list[Histogram]:
    """Return the histograms of what is known of one class: lengths in residues, GC as shares."""
    lengths = sample.traits.length_residues
    gc, is_test = sample.traits.gc, sample.draw.is_test
    is_known = ~np.isnan(gc)
    found = []
    if lengths.any():
        found.append(_histogram(sample, "length", lengths, is_test, _length_edges(lengths)))
    if is_known.any():
        found.append(_histogram(sample, "GC", gc[is_known], is_test[is_known], _GC_EDGES))
    return found


def _length_edges(lengths: npt.NDArray[np.int64]) -> FloatArray:
    """Cut between whole numbers, so that every bin holds equally many of them."""
    first, last = int(lengths.min()), int(lengths.max())
    step = -(-(last + 1 - first) // _MOST_BINS)
    return np.arange(first, last + 1 + step, step, dtype=np.float64) - 0.5


def _histogram(
    sample: ClassSample,
    what: str,
    values: npt.NDArray[np.generic],
    is_test: npt.NDArray[np.bool_],
    edges: FloatArray,
) -> Histogram:
    parts = [np.histogram(values[rows], edges)[0] for rows in (~is_test, is_test)]
    train, test = (tuple((part / max(1, part.sum())).tolist()) for part in parts)
    return Histogram(
        label=sample.label, what=what, edges=tuple(edges.tolist()), train=train, test=test
    )
