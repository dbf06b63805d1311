"""Criterion ``representative-split``: the comparison of train and test, judged and explained.

The statistics, floors and levels are those of ``harness.data.representativeness``; here
they become one state, sentences for a reader, and plain values for the reports.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pandas as pd

from harness.criteria.criterion import FAILS, Bench, Fault, Run
from harness.criteria.result import CriterionResult, State
from harness.data.distributions import Check, Histogram, LineageRow, Outcome, Representativeness
from harness.data.redraws import LINEAGE_SHARE

__all__ = [
    "FAULTS",
    "judge",
    "judge_representative",
]


CRITERION = "representative-split"

# More lineages than these help no reader of a figure or a to-do list.
_MOST_SHARES = 15
_MOST_STEPS = 5
_OF_LINEAGES = ("lineage", LINEAGE_SHARE)


def judge(run: Run) -> CriterionResult:
    """Judge that the test set is as an honest draw would leave it."""
    return judge_representative(run.comparison(), requires_lineage=True)


def judge_representative(
    comparison: Representativeness, *, requires_lineage: bool
) -> CriterionResult:
    """Judge whether the test set is representative.

    Parameters
    ----------
    comparison : Representativeness
        What ``compare_distributions`` found.
    requires_lineage : bool
        Whether lineages must have been compared, as a deployment requires.

    Returns
    -------
    CriterionResult
        FAIL if any check fails; NOT_RUN if lineages are required and unknown; INCONCLUSIVE if a
        class is too small; else PASS. The value is the number of checks that failed. Evidence:
        ``checks``, ``lineages``, ``lineage_shares`` and ``histograms`` (by class).
    """
    gated = [check for check in comparison.checks if check.state is not Outcome.REPORTED]
    failed = _having(gated, Outcome.FAIL)
    state = _state(gated, requires_lineage=requires_lineage)
    is_judged = state in (State.PASS, State.FAIL)
    return CriterionResult(
        id=CRITERION,
        state=state,
        value=Fraction(len(failed)) if is_judged else None,
        limit=Fraction(0) if is_judged else None,
        unit="failed checks" if is_judged else "",
        detail=_detail(gated, state),
        warnings=_warnings(comparison, gated, requires_lineage=requires_lineage),
        next_steps=tuple(_next_steps(comparison, gated, state)),
        evidence=_evidence(comparison),
    )


def _state(checks: list[Check], *, requires_lineage: bool) -> State:
    if _having(checks, Outcome.FAIL):
        return State.FAIL
    if requires_lineage and any(
        check.what == "lineage" for check in _having(checks, Outcome.NOT_RUN)
    ):
        return State.NOT_RUN
    return State.INCONCLUSIVE if _having(checks, Outcome.INCONCLUSIVE) else State.PASS


def _detail(checks: list[Check], state: State) -> str:
    if state is State.NOT_RUN:
        return "No lineages are known for a class, so they cannot be compared."
    if state is State.INCONCLUSIVE:
        reasons = dict.fromkeys(check.detail for check in _having(checks, Outcome.INCONCLUSIVE))
        return f"Too small to be judged: {'; '.join(reasons)}."
    failed, warned = _having(checks, Outcome.FAIL), _having(checks, Outcome.WARN)
    traits = [check for check in _having(checks, Outcome.PASS) if check.warn_floor is not None]
    n_judged = len(checks) - len(_having(checks, Outcome.NOT_RUN))
    summary = f"{len(failed) or 'None'} of {n_judged} checks failed"
    shown = failed or warned or traits
    if not shown:
        return f"{summary}."
    opening = "worst" if failed or warned else "largest effect"
    return f"{summary}; {opening}: {_sentence(max(shown, key=_severity))}."


def _severity(check: Check) -> float:
    """How large an effect is, relative to its limit."""
    if check.value is None or not check.fail_floor:
        return math.inf
    if check.what == LINEAGE_SHARE:
        return max(check.value, 1 / check.value if check.value else math.inf) / check.fail_floor
    return check.value / check.fail_floor


def _sentence(check: Check) -> str:
    parts = [f"class {check.label}, {check.what}"]
    if check.value is not None and check.fail_floor is not None:
        parts.append(f"{check.statistic} {check.value:.3g} (limit {check.fail_floor:.3g})")
    if check.p is not None and check.alpha is not None:
        parts.append(f"p {check.p:.2g} (limit {check.alpha:.2g})")
    return ", ".join([*parts, check.detail] if check.detail else parts)


def _warnings(
    comparison: Representativeness, checks: list[Check], *, requires_lineage: bool
) -> tuple[str, ...]:
    notes = [f"{_sentence(check)}." for check in _having(checks, Outcome.WARN)]
    for check in _having(checks, Outcome.NOT_RUN):
        if not (requires_lineage and check.what in _OF_LINEAGES):
            notes.append(f"class {check.label}, {check.what}: not compared, {check.detail}.")
    for row in comparison.lineages:
        if not row.lineage:
            n_units = row.n_train + row.n_test
            unit = comparison.sampling_unit
            notes.append(f"class {row.label}: {_count(n_units, unit)} without a lineage.")
    return tuple(notes)


def _next_steps(comparison: Representativeness, checks: list[Check], state: State) -> Iterator[str]:
    if state is State.NOT_RUN:
        yield "Name a taxonomy in the settings ([data] taxonomy): accession <TAB> lineage"
    if state is State.FAIL:
        yield from _steps_after_failure(comparison, checks)
    shortages = dict.fromkeys(check.detail for check in _having(checks, Outcome.INCONCLUSIVE))
    for shortage in shortages:
        yield f"Add records, or draw a larger share: {shortage}"


def _steps_after_failure(comparison: Representativeness, checks: list[Check]) -> Iterator[str]:
    unit = comparison.sampling_unit
    skewed = [row for row in comparison.lineages if row.state is Outcome.FAIL]
    for row in skewed[:_MOST_STEPS]:
        yield _lineage_step(row, unit)
    if len(skewed) > _MOST_STEPS:
        yield f"{len(skewed) - _MOST_STEPS} more lineages stand in the evidence"
    for check in _having(checks, Outcome.FAIL):
        if check.what != LINEAGE_SHARE:
            shifts = [_shift(h) for h in comparison.histograms if _shows(h, check)]
            yield "; ".join([f"Compare train with test: {_sentence(check)}", *shifts])
    yield (
        "A random draw fails at most once in 200, so this test set was probably not drawn at "
        f"random by {unit}: draw another with `harness split --redraw`"
    )


def _shows(histogram: Histogram, check: Check) -> bool:
    return (histogram.label, histogram.what) == (check.label, check.what)


def _shift(histogram: Histogram) -> str:
    """Say up to which value the two parts differ most, which is where D is found."""
    train, test = list(accumulate(histogram.train)), list(accumulate(histogram.test))
    at = max(range(len(train)), key=lambda bin_number: abs(test[bin_number] - train[bin_number]))
    edge = histogram.edges[at + 1]
    most = f"{math.floor(edge):,} residues" if histogram.what == "length" else f"{edge:.1%} GC"
    return f"{test[at]:.0%} of the test set, {train[at]:.0%} of the rest have up to {most}"


def _lineage_step(row: LineageRow, unit: str) -> str:
    excess = row.n_test - row.expected_test
    direction = "too many" if excess > 0 else "too few"
    return (
        f"Class {row.label}, {row.lineage or 'unknown lineage'}: {_count(row.n_test, unit)} in the "
        f"test set where {row.expected_test:,.0f} are expected, {abs(excess):,.0f} {direction}"
    )


def _evidence(comparison: Representativeness) -> dict[str, Any]:
    labels = dict.fromkeys(histogram.label for histogram in comparison.histograms)
    return {
        "sampling_unit": comparison.sampling_unit,
        "test_fraction": comparison.test_fraction,
        "seed": comparison.seed,
        "n_redraws": comparison.n_redraws,
        "n_checks": comparison.n_checks,
        "checks": [_plain(check) for check in comparison.checks],
        "lineages": [_plain(row) for row in comparison.lineages],
        "lineage_shares": {
            str(label): _shares([row for row in comparison.lineages if row.label == label])
            for label in dict.fromkeys(row.label for row in comparison.lineages)
        },
        "histograms": {
            str(label): {
                histogram.what.lower(): {
                    "edges": list(histogram.edges),
                    "train": list(histogram.train),
                    "test": list(histogram.test),
                }
                for histogram in comparison.histograms
                if histogram.label == label
            }
            for label in labels
        },
    }


def _shares(rows: list[LineageRow]) -> list[dict[str, Any]]:
    """Return the shares of the largest lineages, and of all others together."""
    n_train, n_test = sum(row.n_train for row in rows), sum(row.n_test for row in rows)
    by_size = sorted(rows, key=lambda row: (-row.n_train - row.n_test, row.lineage))
    named = [(row.lineage or "unknown", [row]) for row in by_size[:_MOST_SHARES]]
    rest = by_size[_MOST_SHARES:]
    groups = [*named, (f"{len(rest)} others", rest)] if rest else named
    return [
        {
            "lineage": name,
            "train": sum(row.n_train for row in members) / n_train,
            "test": sum(row.n_test for row in members) / n_test,
        }
        for name, members in groups
    ]


def _plain(value: Check | LineageRow) -> dict[str, Any]:
    """Return plain JSON values, an infinite ratio as null."""
    plain = dataclasses.asdict(value) | {"state": value.state.value}
    is_infinite = {name for name, item in plain.items() if item == math.inf}
    return plain | dict.fromkeys(is_infinite)


def _having(checks: Iterable[Check], outcome: Outcome) -> list[Check]:
    return [check for check in checks if check.state is outcome]


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _one_lineage(bench: Bench) -> Run:
    """Replace the viral test rows by those of the largest viral lineage, as far as they reach."""
    records, split = bench.run.records(), bench.run.split()
    is_test = split.masks(records["id"]).test
    viral = records[records["label"] == 1]
    largest = viral["lineage"].value_counts().idxmax()
    of_lineage = viral["id"][viral["lineage"] == largest]
    honest = records["id"][is_test & (records["label"] == 1)]
    chosen = pd.concat([of_lineage, honest]).drop_duplicates().head(len(honest))
    test = pd.concat([records["id"][is_test & (records["label"] == 0)], chosen])
    rest = records["id"][~records["id"].isin(test)]
    validation = split.validation[~split.validation.isin(test)]
    skewed = dataclasses.replace(
        split,
        train=rest[~rest.isin(validation)].sort_values(ignore_index=True),
        validation=validation,
        test=test.sort_values(ignore_index=True),
    )
    return bench.with_split(skewed)


FAULTS = (Fault(name="a test set of one lineage", expected=FAILS, plant=_one_lineage),)
