"""How far the train and test rows of one class lie apart, trait by trait; judged elsewhere.

Every check made here is REPORTED: it has an effect, its floors, and the smallest effect that
could have been caught, but no p yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.data.representativeness.comparison import Check, Outcome, SampledClass
from harness.data.representativeness.distribution_tests import (
    effective_units,
    smallest_cohen_w,
    smallest_ks_distance,
)
from harness.data.representativeness.redraws import ClassDraw, Distribution
from harness.data.representativeness.traits import Traits
from harness.data.representativeness.two_sample import Judgement

__all__ = [
    "ClassSample",
    "count_effect",
    "has_features",
    "held_out_effect",
    "known_distributions",
    "trait_effect",
]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """A statistic, and the effects above which it may warn and fail."""

    statistic: str
    warn_floor: float
    fail_floor: float


# Effects below the floors are too small to matter, however significant. Chosen by simulation with
# the levels in ``class_checks``: all together fail at most 1 in 200 honest splits, and with 2,500
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
