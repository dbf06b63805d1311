"""Intervals of metrics and of their paired differences."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.criteria.intervals import MetricComparison, compare_metrics
from harness.criteria.metrics import METRIC_NAMES, evaluate

Scores = NDArray[np.float64]


def draw_scores(n: int, *, seed: int = 0) -> tuple[NDArray[np.int64], Scores, Scores]:
    """Draw labels and the correlated scores of two sides, the baseline's a little better."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    shared, one, other = rng.normal(size=(3, n))
    baseline = 1 / (1 + np.exp(-(3.0 * y - 1.5 + shared + 0.5 * one)))
    candidate = 1 / (1 + np.exp(-(2.6 * y - 1.3 + shared + 0.5 * other)))
    return y, baseline, candidate


def compare(*sides: Any, **settings: Any) -> MetricComparison:
    """Compare with fewer resamples than users do."""
    return compare_metrics(*sides, n_resamples=1000, **settings)


def width(interval: tuple[float, float] | None) -> float:
    """Return an interval's length."""
    assert interval is not None
    return interval[1] - interval[0]


def test_compare_when_both_sides_are_defined_then_every_interval_holds_its_value() -> None:
    """All metrics, both sides and the difference."""
    y, baseline, candidate = draw_scores(500)

    found = compare(y, baseline, candidate)

    for estimates in (found.baseline, found.candidate, found.difference):
        assert tuple(estimates) == METRIC_NAMES
        for estimate in estimates.values():
            assert estimate.interval is not None
            assert estimate.value is not None
            assert estimate.interval[0] <= estimate.value <= estimate.interval[1]


def test_compare_when_values_are_read_then_they_are_evaluates() -> None:
    """One source for the numbers; the difference is candidate minus baseline."""
    y, baseline, candidate = draw_scores(300)

    found = compare(y, baseline, candidate)

    before, after = evaluate(y, baseline).values, evaluate(y, candidate).values
    assert {k: x.value for k, x in found.baseline.items()} == before
    assert found.difference["recall"].value == (after["recall"] or 0) - (before["recall"] or 0)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "roc_auc", "average_precision", "brier"])
def test_compare_when_sides_are_correlated_then_the_difference_is_narrower_than_unpaired(
    metric: str,
) -> None:
    """Pairing is what the intervals of differences are for."""
    y, baseline, candidate = draw_scores(1000)

    found = compare(y, baseline, candidate)

    alone = [width(side[metric].interval) for side in (found.baseline, found.candidate)]
    assert width(found.difference[metric].interval) < np.hypot(alone[0], alone[1])


def test_compare_when_sides_are_the_same_then_the_difference_is_exactly_zero() -> None:
    """No noise where there is no difference."""
    y, baseline, _ = draw_scores(200)

    found = compare(y, baseline, baseline)

    assert {x.interval for x in found.difference.values()} == {(0.0, 0.0)}


def test_compare_when_rows_come_in_genomes_then_intervals_widen_and_say_so() -> None:
    """Each row ten times in its genome: intervals as wide as without the copies."""
    y, baseline, candidate = draw_scores(200)
    copied = [np.repeat(x, 10) for x in (y, baseline, candidate)]
    genomes = np.repeat([f"genome {i}" for i in range(200)], 10)

    once = compare(y, baseline, candidate)
    naive, clustered = compare(*copied), compare(*copied, groups=genomes)

    for metric in METRIC_NAMES:
        expected = width(once.difference[metric].interval)
        assert width(clustered.difference[metric].interval) == pytest.approx(expected, rel=0.1)
        assert width(naive.difference[metric].interval) < expected / 2
    assert clustered.accounts_for_genomes
    assert not naive.accounts_for_genomes
    assert "200 genomes" in clustered.method


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "brier"])
def test_compare_when_every_row_is_a_genome_then_normal_intervals_are_the_same(
    metric: str,
) -> None:
    """Naming single rows changes nothing."""
    y, baseline, candidate = draw_scores(60)

    named = compare(y, baseline, candidate, groups=[str(i) for i in range(60)])

    expected = compare(y, baseline, candidate).difference[metric].interval
    assert named.difference[metric].interval == pytest.approx(expected)


def test_compare_when_there_are_two_genomes_then_they_count_as_two() -> None:
    """Squared errors of .01 in one genome and .09 in the other: standard error .04."""
    found = compare([0] * 200, [0.1] * 100 + [0.3] * 100, [0.0] * 200, groups=[0] * 100 + [1] * 100)

    low, high = found.difference["brier"].interval or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.96 * 0.04, rel=0.001)


def test_compare_when_a_value_is_near_its_bound_then_the_interval_stays_within() -> None:
    """No area above 1, no Brier score below 0."""
    y = np.arange(40) % 2
    scores = np.where(y == 1, 0.99, 0.01)
    scores[:2] = 0.5

    found = compare(y, scores, scores)

    for side in (found.baseline, found.candidate):
        assert (side["roc_auc"].interval or (0, 2))[1] <= 1
        assert (side["brier"].interval or (-1, 0))[0] >= 0


def test_compare_when_there_is_one_genome_then_no_intervals() -> None:
    """One genome cannot be resampled; the values stay."""
    y, baseline, candidate = draw_scores(100)

    found = compare(y, baseline, candidate, groups=["NC_1"] * 100)

    assert found.difference["accuracy"].value is not None
    assert {x.interval for x in found.difference.values()} == {None}


def test_compare_when_a_metric_is_undefined_then_none_in_json() -> None:
    """One class only: no area, no NaN."""
    found = compare([1] * 30, [0.9] * 20 + [0.2] * 10, [0.8] * 30)

    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))

    assert written["differences"]["roc_auc"] == {"value": None, "interval": None}
    assert written["intervals"]["candidate"]["recall"] == [1.0, 1.0]


def test_compare_when_a_metric_is_often_undefined_then_it_has_no_interval() -> None:
    """One row predicted viral is missing from a third of the resamples."""
    y, low = [0, 1] * 20, [0.1] * 39

    found = compare(y, [0.9, *low], [0.9, *low])

    assert found.baseline["precision"].value == 0
    assert found.baseline["precision"].interval is None


def test_compare_when_there_are_no_rows_then_nothing_has_a_value() -> None:
    """And nothing is raised."""
    found = compare([], [], [])

    assert {x.value for x in found.difference.values()} == {None}


@pytest.mark.slow
def test_compare_when_simulated_then_intervals_cover_the_truth() -> None:
    """Accuracy, ROC-AUC, average precision: near 95 of 100 test sets, against a large one."""
    truth = compare(*draw_scores(200_000, seed=1)).difference
    names = ("accuracy", "roc_auc", "average_precision", "brier")
    hits = dict.fromkeys(names, 0)

    for seed in range(100):
        found = compare_metrics(*draw_scores(300, seed=100 + seed), n_resamples=300).difference
        for name in names:
            low, high = found[name].interval or (1.0, -1.0)
            hits[name] += low <= (truth[name].value or 0.0) <= high

    assert all(88 <= count <= 100 for count in hits.values()), hits
