"""The criterion baseline-sanity: a baseline near chance proves nothing about a candidate.

By how much it must beat the constant answer is the run's limit of the drop, so that any candidate
within that limit beats it as well. The bound is Wilson's, widened by the genomes as in
accuracy-drop, and asks for as many of them.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.criteria.advice import learning_steps, more_genomes_step, read_curve, settling_step
from harness.criteria.bounds import (
    exact_points,
    finite,
    lacking_genomes,
    nothing_judged,
    settling_size_of_share,
    wilson_interval,
)
from harness.criteria.criterion import DOES_NOT_PASS, Bench, Fault, Run
from harness.criteria.metrics import predict_labels
from harness.criteria.result import CriterionResult, State
from harness.criteria.units import Binary, GenomeEffect, Genomes, as_binary, as_share, genomes_of

__all__ = [
    "FAULTS",
    "explain_baseline",
    "judge",
    "judge_baseline",
    "judge_baseline_unpaired",
]


CRITERION = "baseline-sanity"


def judge(run: Run) -> CriterionResult:
    """Judge that the baseline beats the constant answer by more than the allowed drop."""
    margin = run.config.thresholds.max_accuracy_drop_points
    if reported := run.reported_accuracy():
        rows = run.candidate_scores()
        result = judge_baseline_unpaired(
            *reported,
            rows["label"],
            predict_labels(rows["score"]),
            groups=run.genomes(rows["id"]),
            margin_points=margin,
        )
        return explain_baseline(result, run)
    rows = run.predictions()
    result = judge_baseline(
        rows["label"],
        predict_labels(rows["baseline_score"]),
        groups=run.genomes(rows["id"]),
        margin_points=margin,
    )
    return explain_baseline(result, run)


def explain_baseline(result: CriterionResult, run: Run) -> CriterionResult:
    """Add where the baseline's head comes from and, unless it passed, how it learned."""
    steps = result.next_steps
    if result.state is State.INCONCLUSIVE:
        steps += run.taxonomy_steps()
    if result.state is not State.PASS:
        facts = run.trainings().get("baseline")
        steps += learning_steps(read_curve(facts) if facts else None, name="baseline")
    warnings = (*result.warnings, *run.caveats("baseline"))
    return replace(result, warnings=warnings, next_steps=steps)


def judge_baseline(
    y_true: ArrayLike,
    baseline_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    margin_points: str | int | Fraction,
) -> CriterionResult:
    """Judge whether the baseline is good enough to be compared with.

    Parameters
    ----------
    y_true, baseline_pred : array_like of shape (n_rows,)
        Labels and the baseline's predictions, 0 or 1.
    groups : array_like of shape (n_rows,), optional
        The genome of each row. Without it every row is its own genome.
    margin_points : str, int or Fraction
        By how many percentage points it must beat the constant answer.

    Returns
    -------
    CriterionResult
        ``value`` is the exact accuracy in percent, ``limit`` the larger class's share plus the
        margin, ``interval`` the one-sided 95% Wilson bounds with the design effect of the genomes.
        PASS: the lower bound exceeds the limit, with at least 10 effective genomes and 4 degrees of
        freedom. FAIL: the accuracy itself does not. INCONCLUSIVE: neither, or the limit is 100 or
        more.

    Raises
    ------
    ValueError
        If lengths differ, a value is neither 0 nor 1, or a row has no genome.

    Notes
    -----
    Two models near chance have a drop near 0. That is no pass: a candidate within the limit must
    still beat the constant answer.

    Simulated at an accuracy of exactly the limit, with correlations of 0 to 0.3 within genomes, the
    bound alone passes 0 to 6% of the time with two or three genomes, up to 12% with five, and 9%
    with ten. The minimum of accuracy-drop holds here as well; no run passes the one without it.
    """
    labels = as_binary(y_true, "y_true")
    is_right = as_binary(baseline_pred, "baseline_pred", n_rows=len(labels)) == labels
    if len(labels) == 0:
        return nothing_judged(CRITERION, None)
    genomes = genomes_of(groups, len(labels))
    share = (Fraction(int(is_right.sum()), len(labels)), len(labels))
    return _judge_sanity(share, labels, is_right, genomes, exact_points(margin_points))


def judge_baseline_unpaired(
    baseline_accuracy: str | Fraction,
    baseline_n: int,
    y_true: ArrayLike,
    candidate_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    margin_points: str | int | Fraction,
) -> CriterionResult:
    """Judge the baseline where only its accuracy is known, not its predictions.

    The larger class's share and the design effect are those of the candidate's test rows; the
    parameters are those of ``judge_accuracy_unpaired`` and ``judge_baseline``.
    """
    accuracy = as_share(baseline_accuracy, baseline_n)
    labels = as_binary(y_true, "y_true")
    is_right = as_binary(candidate_pred, "candidate_pred", n_rows=len(labels)) == labels
    if len(labels) == 0:
        return nothing_judged(CRITERION, None)
    genomes, share = genomes_of(groups, len(labels)), (accuracy, baseline_n)
    return _judge_sanity(share, labels, is_right, genomes, exact_points(margin_points))


def _judge_sanity(
    share: tuple[Fraction, int],
    labels: Binary,
    is_right: NDArray[np.bool_],
    genomes: Genomes,
    margin: Fraction,
) -> CriterionResult:
    """Judge an accuracy and its rows by the class shares and genomes of the rows at hand."""
    accuracy, n = share
    effect = genomes.share_effect(is_right)
    viral = int(labels.sum())
    larger_share = Fraction(max(viral, len(labels) - viral), len(labels))
    limit, value = 100 * larger_share + margin, 100 * accuracy
    lower, upper = (100 * x for x in wilson_interval(float(accuracy), n, effect))
    missing = lacking_genomes(effect)
    state = State.PASS if lower > limit and not missing else State.INCONCLUSIVE
    if value <= limit < 100:
        state = State.FAIL
    return CriterionResult(
        id=CRITERION,
        state=state,
        value=value,
        limit=limit,
        unit="percent",
        interval=(lower, upper),
        detail=f"The baseline is right on {float(value):.2f}% of {n:,} rows, with 95% confidence "
        f"on at least {lower:.2f}%; always answering the larger class would be right on "
        f"{100 * float(larger_share):.2f}%, and {float(margin):g} points more are required."
        + (f" Missing: {', '.join(missing)}." if missing else ""),
        next_steps=_next_steps(state, (accuracy, lower), limit, effect, genomes),
        evidence={
            "n": n,
            "accuracy": float(accuracy),
            "larger_class_share": float(larger_share),
            "margin_points": float(margin),
            "lower_bound_points": lower,
            "design_effect": finite(effect.design_effect),
            "degrees_of_freedom": finite(effect.degrees_of_freedom),
            "n_genomes": effect.n_genomes,
            "effective_genomes": effect.effective_genomes,
            "missing": list(missing),
        },
    )


def _next_steps(
    state: State,
    found: tuple[Fraction, float],
    limit: Fraction,
    effect: GenomeEffect,
    genomes: Genomes,
) -> tuple[str, ...]:
    """Say what to do about an accuracy, found with its lower bound, that is no PASS."""
    accuracy, lower_percent = found
    if state is State.PASS:
        return ()
    if limit >= 100:
        return (
            f"Draw a more balanced test set: {float(limit):.2f}% would be required, so with one "
            "class this large no accuracy can be told from the constant answer.",
        )
    if state is State.FAIL:
        gap = float(limit - 100 * accuracy)
        return (
            f"The baseline is {gap:.2f} points short of {float(limit):.2f}%: check that its "
            "predictions, labels and class order belong together.",
        )
    steps = [more_genomes_step(effect, genomes)] if lacking_genomes(effect) else []
    if effect.n_genomes > 1 and lower_percent <= limit:
        size = settling_size_of_share(float(accuracy), float(limit / 100), effect)
        steps.append(settling_step(size, effect, of="accuracy"))
    return tuple(steps)


def _ignorant_baseline(bench: Bench) -> Run:
    rows = bench.run.predictions()
    shuffled = bench.rng().permutation(rows["baseline_score"].to_numpy())
    return bench.with_scores(baseline=shuffled, candidate=rows["candidate_score"])


FAULTS = (Fault(name="a baseline that guesses", expected=DOES_NOT_PASS, plant=_ignorant_baseline),)
