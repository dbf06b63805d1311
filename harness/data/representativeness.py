"""Whether the test set is a fair sample: train against test, within each class.

Owns the family of checks, its error rate, and what makes a warning, a failure, or a class too small
to judge. The effects come from ``class_effects``, their p-values and the lineages from ``redraws``;
leaks between the two parts are another question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.class_effects import (
    ClassSample,
    Judgement,
    count_effect,
    draw_histograms,
    has_features,
    held_out_effect,
    judge_by_classifier,
    known_distributions,
    trait_effect,
)
from harness.data.distributions import (
    Check,
    Histogram,
    LineageRow,
    Outcome,
    Representativeness,
    SampledClass,
    Traits,
    measure_traits,
)
from harness.data.groups import sampling_units
from harness.data.redraws import (
    LINEAGE_SHARE,
    ClassDraw,
    Distribution,
    compare_lineages,
    judge_lineages,
    redrawn_p_values,
)
from harness.data.split import exact_fraction

__all__ = ["Representativeness", "compare_distributions", "compare_traits"]


# A warning has to be unlikely by chance as well, or nearly every honest split of 225 test rows
# would warn of its lengths (D is .06 there on average). At .01, 1 in 10 such splits warns of
# anything (4 in 10 at .05); with the floor of .03, a shift by 0.1 SD is noticed in 94% of classes
# of 2,500 test rows.
_WARNING_LEVEL = 0.01
# A test set with fewer of them says nothing about a distribution.
_FEWEST_TEST_ROWS = 75
_FEWEST_TEST_GENOMES = 20

CLASSIFIER = "classifier"
_ORDER = (
    "class count",
    "lineage",
    LINEAGE_SHARE,
    "source kind",
    "frame",
    "length",
    "GC",
    CLASSIFIER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the checks of a class are judged.

    Attributes
    ----------
    sampling_unit : str
        What the units are called.
    alpha : float
        The level of each check.
    n_redraws : int
        The most redraws that a p rests on.
    """

    sampling_unit: str
    alpha: float
    n_redraws: int


def count_fallible(traits: Traits) -> int:
    """Return how many checks of a class may fail by chance: all whose traits are known."""
    known = known_distributions(traits)
    return len(known) + ("lineage" in known) + has_features(known)


def check_class(
    sample: ClassSample, rules: Rules, rng: np.random.Generator
) -> tuple[list[Check], list[LineageRow]]:
    """Judge one class.

    Parameters
    ----------
    sample : ClassSample
        The class.
    rules : Rules
        Level and redraws.
    rng : Generator
        Source of the redraws and of the classifier's halves.

    Returns
    -------
    list of Check, list of LineageRow
        A check for each trait, in the order of the report; the lineages that one of them rests on.
    """
    found = _look(sample, rules, rng)
    shortage = _shortage(sample, rules.sampling_unit)
    lineages: list[LineageRow] = []
    if "lineage" in found.known and sample.has_both_parts:
        lineages = compare_lineages(
            sample.label,
            sample.traits.lineage,
            sample.draw,
            alpha=rules.alpha,
            is_enough=not shortage,
        )
    if shortage:
        checks = [replace(c, state=Outcome.INCONCLUSIVE, detail=shortage) for c in found.checks]
    else:
        p = _p_values(sample, found, rules, rng)
        checks = [_judge(check, p.get(check.what), rules.alpha) for check in found.checks]
    checks += [judge_lineages(lineages, unit=rules.sampling_unit)] if lineages else []
    by_name = {check.what: check for check in checks} | {"class count": _judge_count(sample)}
    return [by_name.get(what) or _absent(sample, what, shortage) for what in _ORDER], lineages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The effects of a class, and what their p-values are computed from."""

    known: dict[str, Distribution]
    judgement: Judgement | None
    checks: tuple[Check, ...]


def _look(sample: ClassSample, rules: Rules, rng: np.random.Generator) -> _Found:
    known = known_distributions(sample.traits)
    checks = [trait_effect(sample, what, known[what], alpha=rules.alpha) for what in known]
    judgement = None
    if has_features(known):
        judgement = judge_by_classifier(sample.traits, sample.draw.is_test, sample.draw.units, rng)
        checks.append(held_out_effect(sample, judgement, alpha=rules.alpha))
    return _Found(known=known, judgement=judgement, checks=tuple(checks))


def _p_values(
    sample: ClassSample, found: _Found, rules: Rules, rng: np.random.Generator
) -> dict[str, float]:
    """Return the p of each effect that is over its floor."""
    over = [check.what for check in found.checks if _is_over(check.value, check.warn_floor)]
    redrawn = [what for what in over if what in found.known]
    p_values = redrawn_p_values(
        sample.draw,
        [found.known[what] for what in redrawn],
        n_redraws=rules.n_redraws,
        rng=rng,
    )
    p = dict(zip(redrawn, p_values, strict=True))
    if CLASSIFIER in over and found.judgement is not None:
        p[CLASSIFIER] = found.judgement.p_value(rules.n_redraws, rng)
    return p


def _judge(check: Check, p: float | None, alpha: float) -> Check:
    if check.value is None:
        return replace(check, state=Outcome.INCONCLUSIVE, detail="each side needs two units")
    state = Outcome.PASS
    if p is not None and p <= _WARNING_LEVEL:
        state = Outcome.WARN
    if p is not None and p <= alpha and _is_over(check.value, check.fail_floor):
        state = Outcome.FAIL
    return replace(check, state=state, p=p, alpha=alpha)


def _judge_count(sample: ClassSample) -> Check:
    check = count_effect(sample)
    state = Outcome.FAIL if _is_over(check.value, check.fail_floor) else Outcome.PASS
    return replace(check, state=state)


def _is_over(value: float | None, floor: float | None) -> bool:
    return value is not None and floor is not None and value > floor


def _shortage(sample: ClassSample, sampling_unit: str) -> str:
    """Say what the class lacks to be judged, and the size that would do; empty if nothing."""
    if 0 < sample.n_rows == sample.n_test:
        return f"class {sample.label} has no rows in the training part"
    lacks = []
    if sample.n_test < _FEWEST_TEST_ROWS:
        lacks.append(_lack(sample, "rows", sample.n_test, _FEWEST_TEST_ROWS))
    n_units = int(sample.draw.units_drawn().sum())
    if sampling_unit in ("genome", "lineage") and n_units < _FEWEST_TEST_GENOMES:
        lacks.append(_lack(sample, f"{sampling_unit}s", n_units, _FEWEST_TEST_GENOMES))
    return "; ".join(lacks)


def _lack(sample: ClassSample, unit: str, n_test: int, fewest: int) -> str:
    would_do = math.ceil(fewest / sample.draw.fraction)
    return (
        f"class {sample.label} has {n_test} test {unit} of the {fewest} needed; "
        f"{would_do:,} {unit} of the class would do"
    )


def _absent(sample: ClassSample, what: str, shortage: str) -> Check:
    """Stand in for a check without numbers: its trait is unknown, or a part has no rows."""
    is_unknown = sample.has_both_parts
    return Check(
        label=sample.label,
        what=what,
        statistic="",
        state=Outcome.NOT_RUN if is_unknown else Outcome.INCONCLUSIVE,
        detail="unknown for every record of the class" if is_unknown else shortage,
    )


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
    test_fraction: str | float | Fraction | None = "0.10",
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
    sampling_unit : {"record", "window", "genome", "lineage"}
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
    is_test = np.asarray(is_test)  # a Series counts by position, like the records
    if is_test.shape != (len(records),) or is_test.dtype != np.bool_:
        raise ValueError(
            f"is_test must be {len(records)} bools, got {is_test.dtype} of shape {is_test.shape}"
        )
    return compare_traits(
        measure_traits(records),
        is_test,
        sampling_units(records, sampling_unit) if units is None else np.asarray(units),
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
    test_fraction: str | float | Fraction | None = "0.10",
    seed: int = 0,
    n_redraws: int = N_REDRAWS,
) -> Representativeness:
    """Compare a test set with the training part, from traits that were measured before.

    For many splits of the same records; see ``compare_distributions``.
    """
    fraction = None if test_fraction is None else exact_fraction(test_fraction)
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
    both = _sample(traits, is_test, units, fraction, "both")
    checks += _look(both, rules, rngs[-1]).checks
    return Representativeness(
        sampling_unit=sampling_unit,
        test_fraction=str(test_fraction or Fraction(int(is_test.sum()), len(is_test))),
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
    traits: Traits, is_test: Mask, units: IntArray, fraction: Fraction | None, label: SampledClass
) -> ClassSample:
    rows = np.arange(len(is_test)) if label == "both" else np.flatnonzero(traits.label == label)
    own_units = np.unique(units[rows], return_inverse=True)[1]
    fraction = fraction or Fraction(int(is_test[rows].sum()), len(rows))
    draw = ClassDraw(is_test=is_test[rows], units=own_units, fraction=fraction)
    return ClassSample(label=label, traits=traits.take(rows), draw=draw)
