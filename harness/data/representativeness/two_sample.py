"""The held-out two-sample classifier, which tries to tell test rows from train rows.

Half of the units teach a logistic regression which side a row is on; the other half judge it.
It sees differences that no single trait shows. In-sample or with rows of one unit in both halves
it would invent them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.data.representativeness.distribution_tests import effective_units
from harness.data.representativeness.redraws import sequential_p_values
from harness.data.representativeness.traits import Categories, Traits

__all__ = ["Judgement", "judge_by_classifier"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
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
