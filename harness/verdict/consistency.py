"""Whether the parts of one verdict agree: looked for when it is written and when it is read.

What a verdict authorises, and what makes it a PASS, is decided in :mod:`harness.verdict.verdict`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from harness.criteria import CRITERIA
from harness.criteria.criterion import Comparison
from harness.criteria.result import State, decimal_text, ratios_of
from harness.verdict.contents import CriterionRow, SideOutcome, Split, Verdict

__all__ = ["find_contradictions"]

ROUNDING = 1e-3  # of what is written for people
_COMPARISONS = {criterion.id: criterion.comparison for criterion in CRITERIA}


def find_contradictions(verdict: Verdict) -> Iterator[str]:
    """Yield where two parts of a verdict tell different things, as sentences."""
    if verdict.rehearsal != bool(verdict.rehearsal_reasons):
        yield f"rehearsal is {verdict.rehearsal}, with {len(verdict.rehearsal_reasons)} reasons"
    if (verdict.verdict == "INCOMPLETE") != (verdict.finished is None):
        yield f"the verdict is {verdict.verdict}, and its end is {verdict.finished}"
    repeated = [name for name, n in Counter(row.id for row in verdict.criteria).items() if n > 1]
    yield from (f"{name} stands there more than once" for name in repeated)
    for row in verdict.criteria:
        yield from (f"{row.id}: {problem}" for problem in _about_row(row))
    yield from _about_split(verdict.split)
    for name, side in verdict.sides.items():
        yield from (f"{name}: {problem}" for problem in _about_side(side, verdict.split))
    yield from _about_drop(verdict)
    judged = verdict.rows.get("accuracy-drop")
    if judged is not None and judged.state is State.PASS:
        yield from (f"{judged.id}: is PASS, but {problem}" for problem in _about_bounds(judged))
    yield from _about_time(verdict)


def _about_row(row: CriterionRow) -> Iterator[str]:
    value = Fraction(row.numerator or 0, row.denominator) if row.denominator else None
    if (row.numerator is None) != (value is None):
        yield f"its fraction is {row.numerator}/{row.denominator}"
    if row.value != (None if value is None else decimal_text(value)):
        yield f"the value is {row.value}, but its fraction is {value}"
    if row.interval and float(row.interval[0]) > float(row.interval[1]):
        yield f"its interval is from {row.interval[0]} to {row.interval[1]}"
    if row.state is State.PASS and row.limit is not None:
        ends = row.interval or (row.value or "nan", row.value or "nan")
        if value is None or not _lies(value, ends, row, _COMPARISONS.get(row.id)):
            interval = f" in {' to '.join(row.interval)}" if row.interval else ""
            yield f"is PASS with the value {row.value}{interval} and the limit {row.limit}"


def _lies(
    value: Fraction, ends: tuple[str, str], row: CriterionRow, comparison: Comparison | None
) -> bool:
    """Whether value and interval are on the right side; both and the limit are rounded alike."""
    limit, lower, upper = float(row.limit or "nan"), *map(float, ends)
    if comparison == "below":
        return value < Fraction(limit) and upper <= limit
    if comparison == "at most":
        return float(row.value or "nan") <= limit and upper <= limit
    if comparison == "lower end above":
        return float(row.value or "nan") >= limit and lower >= limit
    return True  # of a criterion that is not installed here nothing is known


def _about_split(split: Split) -> Iterator[str]:
    if None not in (parts := (split.test_viral, split.test_nonviral, split.n_test)):
        viral, nonviral, n_test = (part or 0 for part in parts)
        if viral + nonviral != n_test:
            yield f"split: {n_test} test rows, of which {viral} are viral and {nonviral} are not"


def _about_side(side: SideOutcome, split: Split) -> Iterator[str]:
    known = (split.test_nonviral, split.test_viral)
    if matrix := side.confusion_matrix:
        counts = tuple(map(sum, matrix))
        if None not in known and counts != known:
            yield f"{counts} rows in its confusion matrix, {known} in the test set"
        if split.n_test is not None and sum(counts) != split.n_test:
            yield f"{sum(counts)} rows in its confusion matrix, {split.n_test} in the test set"
        for metric, (part, whole) in ratios_of(*matrix[0], *matrix[1]).items():
            exact = part / whole if whole else 0.0
            told = side.metrics.get(metric)
            if told is not None and not math.isclose(told, exact, abs_tol=1e-9):
                yield f"{metric} is {told!r}, but its confusion matrix gives {exact!r}"


def _about_drop(verdict: Verdict) -> Iterator[str]:
    """Yield where the drop that was judged is not that of the two confusion matrices."""
    matrices = [side.confusion_matrix for side in verdict.sides.values()]
    row, (baseline, candidate) = verdict.rows.get("accuracy-drop"), matrices
    if baseline is None or candidate is None or row is None or not row.denominator:
        return
    shares = [Fraction(m[0][0] + m[1][1], max(1, sum(map(sum, m)))) for m in (baseline, candidate)]
    drop = 100 * (shares[0] - shares[1])
    if Fraction(row.numerator or 0, row.denominator) != drop:
        found = decimal_text(drop)
        yield f"accuracy-drop: the value is {row.value}, but the confusion matrices give {found}"


def _about_bounds(row: CriterionRow) -> Iterator[str]:
    """Yield what forbids a PASS besides the gated bound: other seeds, windows, classes."""
    told, limit = row.evidence, float(row.limit or "inf")
    bounds = {f"seed {one['seed']}": one["upper_bound_points"] for one in told.get("seeds", ())}
    if "windows" in told:
        bounds["windows"] = told["windows"]["upper_bound_points"]
    most = told.get("max_class_drop_points", math.inf)
    for name, bound in bounds.items():
        if not float(decimal_text(bound)) <= limit:  # rounded as the limit is
            yield f"the upper bound by {name} is {decimal_text(bound)}, and the limit {row.limit}"
    drops = {name: count.get("drop_points") for name, count in told.get("by_class", {}).items()}
    drops |= {one["group"]: one.get("drop_points") for one in told.get("window_classes", ())}
    for name, drop in drops.items():
        if drop is not None and float(decimal_text(drop)) > most:
            yield f"the drop of {name} is {decimal_text(drop)}, and a class may lose {most:g}"
    if told.get("missing"):
        yield f"it lacks {', '.join(told['missing'])}"


def _about_time(verdict: Verdict) -> Iterator[str]:
    """Yield where the ratio that was judged is not that of the timed rounds."""
    row, timing = verdict.rows.get("embedding-time"), verdict.timing
    baseline, candidate = timing.baseline_seconds, timing.candidate_seconds
    if row is None or row.value is None or not baseline or not candidate or 0 in baseline:
        return
    lowest, highest = min(candidate) / max(baseline), max(candidate) / min(baseline)
    if not lowest - ROUNDING <= float(row.value) <= highest + ROUNDING:
        pairs = f"{lowest:.4f} to {highest:.4f}"
        yield f"embedding-time: the value is {row.value}, but the rounds give {pairs}"
