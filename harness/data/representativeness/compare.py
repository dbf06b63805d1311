"""Whether the test set is a fair sample: train against test, within each class.

The family of checks and its error rate. What is compared is measured in ``traits``, each class is
judged in ``class_checks``; leaks between the two parts are another question.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.groups import sampling_units
from harness.data.representativeness.class_checks import (
    Rules,
    check_class,
    count_fallible,
    report_class,
)
from harness.data.representativeness.class_effects import ClassSample
from harness.data.representativeness.comparison import (
    Check,
    Histogram,
    LineageRow,
    Representativeness,
    SampledClass,
)
from harness.data.representativeness.histograms import draw_histograms
from harness.data.representativeness.redraws import ClassDraw
from harness.data.representativeness.traits import Traits, measure_traits
from harness.data.sampler import exact_fraction

__all__ = ["Representativeness", "compare_distributions", "compare_traits"]

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_CLASSES = (1, 0)
# An honest split fails at most this often, all checks together: 1 in 200.
_FAMILY_LEVEL = 0.005
N_REDRAWS = 9_999


def compare_distributions(
    records: pd.DataFrame,
    is_test: Mask,
    *,
    sampling_unit: str = "record",
    test_fraction: str | float | Fraction = "0.10",
    seed: int = 0,
    n_redraws: int = N_REDRAWS,
    units: IntArray | None = None,
) -> Representativeness:
    """Compare a test set with the training part, trait by trait, within each class.

    Parameters
    ----------
    records : DataFrame
        A record table (see ``harness.data.records``).
    is_test : bool array, (n_rows,)
        Which rows are in the test set; validation counts as training.
    sampling_unit : {"record", "window", "genome"}
        What was drawn as a whole.
    test_fraction : str, float or Fraction
        The share of each class that was to be drawn, between 0 and 1.
    seed : int
        Of the redraws and of the classifier's halves.
    n_redraws : int
        The most redraws of the sampler that a p rests on.
    units : int array, (n_rows,), optional
        ``sampling_units(records, sampling_unit)``, where it is at hand.

    Returns
    -------
    Representativeness
        Every check with its state, every lineage, and histograms.

    Raises
    ------
    ValueError
        If ``is_test`` has another shape or type, or the redraws are too few for a check to fail.
    DataError
        If genomes were drawn and a row's genome is unknown.

    Notes
    -----
    A check fails only if its effect is over a floor *and* its p under the honest sampler is at
    most .005 / m for m checks: at 200,000 rows a p alone is tiny for differences that do not
    matter, at 200 an effect alone is large by chance. It warns if the effect is over a lower
    floor and p is at most .01.

    Power is counted in *test rows* of a class, with nine times as many train rows: a shift of GC
    by 0.2 SD fails in 11% / 52% / 99% of simulated classes of 225 / 500 / 2,500 test rows, and a
    lineage of 5% (of 20 lineages) doubled in 13% / 74% / 100%. Of 1,800 honest splits by record,
    window or genome, with 225 or 500 test rows a class, 9 failed (0.5%; 95% interval 0.2 to 1.0%).
    """
    if is_test.shape != (len(records),) or is_test.dtype != np.bool_:
        raise ValueError(
            f"is_test must be {len(records)} bools, got {is_test.dtype} of shape {is_test.shape}"
        )
    return compare_traits(
        measure_traits(records),
        is_test,
        sampling_units(records, sampling_unit) if units is None else units,
        sampling_unit=sampling_unit,
        test_fraction=test_fraction,
        seed=seed,
        n_redraws=n_redraws,
    )


def compare_traits(
    traits: Traits,
    is_test: Mask,
    units: IntArray,
    *,
    sampling_unit: str = "record",
    test_fraction: str | float | Fraction = "0.10",
    seed: int = 0,
    n_redraws: int = N_REDRAWS,
) -> Representativeness:
    """Compare a test set with the training part, from traits that were measured before.

    For many splits of the same records; see ``compare_distributions``.
    """
    fraction = exact_fraction(test_fraction)
    samples = {label: _sample(traits, is_test, units, fraction, label) for label in _CLASSES}
    n_checks = sum(count_fallible(sample.traits) for sample in samples.values())
    rules = _rules(sampling_unit, n_checks, n_redraws)
    rngs = np.random.default_rng(seed).spawn(len(_CLASSES) + 1)
    checks: list[Check] = []
    lineages: list[LineageRow] = []
    histograms: list[Histogram] = []
    for sample, rng in zip(samples.values(), rngs, strict=False):
        class_checks, class_lineages = check_class(sample, rules, rng)
        checks += class_checks
        lineages += class_lineages
        histograms += draw_histograms(sample)
    checks += report_class(_sample(traits, is_test, units, fraction, "both"), rules, rngs[-1])
    return Representativeness(
        sampling_unit=sampling_unit,
        test_fraction=str(test_fraction),
        seed=seed,
        n_redraws=n_redraws,
        n_checks=n_checks,
        checks=tuple(checks),
        lineages=tuple(lineages),
        histograms=tuple(histograms),
    )


def _rules(sampling_unit: str, n_checks: int, n_redraws: int) -> Rules:
    alpha = _FAMILY_LEVEL / max(1, n_checks)
    if n_redraws < math.ceil(1 / alpha) - 1:
        raise ValueError(
            f"n_redraws must be at least {math.ceil(1 / alpha) - 1} for any of {n_checks} checks "
            f"to fail, got {n_redraws}"
        )
    return Rules(sampling_unit=sampling_unit, alpha=alpha, n_redraws=n_redraws)


def _sample(
    traits: Traits, is_test: Mask, units: IntArray, fraction: Fraction, label: SampledClass
) -> ClassSample:
    rows = np.arange(len(is_test)) if label == "both" else np.flatnonzero(traits.label == label)
    own_units = np.unique(units[rows], return_inverse=True)[1]
    draw = ClassDraw(is_test=is_test[rows], units=own_units, fraction=fraction)
    return ClassSample(label=label, traits=traits.take(rows), draw=draw)
