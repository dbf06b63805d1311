"""The checks of one class: what makes a warning, a failure, or a class too small to judge.

The effects come from ``class_effects``, the lineages one by one from ``lineage_shares``. Which
classes there are, and their common error rate, is known to ``representativeness``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from harness.data.representativeness.class_effects import (
    ClassSample,
    count_effect,
    has_features,
    held_out_effect,
    known_distributions,
    trait_effect,
)
from harness.data.representativeness.comparison import Check, LineageRow, Outcome
from harness.data.representativeness.lineage_shares import (
    LINEAGE_SHARE,
    compare_lineages,
    judge_lineages,
)
from harness.data.representativeness.redraws import Distribution, redrawn_p_values
from harness.data.representativeness.traits import Traits
from harness.data.representativeness.two_sample import Judgement, judge_by_classifier

__all__ = ["Rules", "check_class", "count_fallible", "report_class"]

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


def report_class(sample: ClassSample, rules: Rules, rng: np.random.Generator) -> list[Check]:
    """Return the effects of a class, judged by nothing; takes what ``check_class`` takes."""
    return list(_look(sample, rules, rng).checks)


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
    checks += [judge_lineages(lineages)] if lineages else []
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
    n_genomes = int(sample.draw.units_drawn().sum())
    if sampling_unit == "genome" and n_genomes < _FEWEST_TEST_GENOMES:
        lacks.append(_lack(sample, "genomes", n_genomes, _FEWEST_TEST_GENOMES))
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
