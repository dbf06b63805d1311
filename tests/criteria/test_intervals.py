"""Intervals of metrics and of their paired differences.

Resampled tables.

Influences: against definitions, derivatives and scikit-learn.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from harness.criteria.intervals import (
    MetricComparison,
    average_precision_influence,
    brier_influence,
    compare_metrics,
    resample_tables,
    roc_auc_influence,
)
from harness.criteria.metrics import METRIC_NAMES, evaluate
from harness.criteria.units import genomes_of

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


Rows = tuple[NDArray[np.int8], list[NDArray[np.int8]]]


def draw_rows(n: int) -> Rows:
    """Draw labels and two sides' predictions."""
    rng = np.random.default_rng(1)
    labels, baseline, candidate = rng.integers(0, 2, (3, n)).astype(np.int8)
    return labels, [baseline, candidate]


def mean_and_deviation(tables: NDArray[np.float64]) -> tuple[float, float]:
    """Return those of the share of rows where truth and both predictions are 1."""
    shares = tables[:, 1, 1, 1] / tables.sum(axis=(1, 2, 3))
    return float(shares.mean()), float(shares.std())


def test_tables_when_rows_are_resampled_then_each_has_all_rows() -> None:
    """As many rows as there were, around what was observed."""
    labels, predicted = draw_rows(400)
    observed = float((labels & predicted[0] & predicted[1]).mean())

    tables = resample_tables(labels, predicted, genomes_of(None, 400), 2000, seed=0)
    mean, deviation = mean_and_deviation(tables)

    assert (tables.sum(axis=(1, 2, 3)) == 400).all()
    assert mean == pytest.approx(observed, abs=0.002)
    assert deviation == pytest.approx(np.sqrt(observed * (1 - observed) / 400), rel=0.1)


@pytest.mark.parametrize("copies", [1, 5])
def test_tables_when_every_row_is_a_genome_then_as_for_rows(copies: int) -> None:
    """Drawn one by one or, where most genomes are alike, by the multinomial."""
    labels, predicted = draw_rows(100 * copies)
    names = [str(i) for i in range(100 * copies)]

    by_row = resample_tables(labels, predicted, genomes_of(None, len(names)), 2000, seed=0)
    by_genome = resample_tables(labels, predicted, genomes_of(names, len(names)), 2000, seed=0)

    assert mean_and_deviation(by_genome) == pytest.approx(mean_and_deviation(by_row), rel=0.1)


def test_tables_when_there_are_eight_rows_then_cells_keep_their_shares() -> None:
    """As many rows as cells is no special case."""
    labels = np.array([1] * 8, dtype=np.int8)

    tables = resample_tables(labels, [labels, labels], genomes_of(None, 8), 10, seed=0)

    assert (tables[:, 1, 1, 1] == 8).all()


def test_tables_when_genomes_are_alike_within_then_the_spread_is_theirs() -> None:
    """Twenty genomes of 50 equal rows vary like 20 rows, not like 1,000."""
    labels = np.repeat(np.array([0, 1] * 10, dtype=np.int8), 50)
    genomes = genomes_of(np.repeat(np.arange(20), 50), 1000)

    tables = resample_tables(labels, [labels, labels], genomes, 2000, seed=0)

    assert mean_and_deviation(tables)[1] == pytest.approx(np.sqrt(0.25 / 20), rel=0.1)


def test_tables_when_genomes_differ_then_whole_ones_are_drawn() -> None:
    """Genomes of 3 and 7 rows give tables of 6, 10 or 14."""
    labels = np.array([1] * 3 + [0] * 7, dtype=np.int8)
    genomes = genomes_of(["a"] * 3 + ["b"] * 7, 10)

    tables = resample_tables(labels, [labels, labels], genomes, 200, seed=0)

    assert set(tables.sum(axis=(1, 2, 3))) == {6.0, 10.0, 14.0}


def test_tables_when_the_seed_is_the_same_then_so_are_they() -> None:
    """And another seed gives others."""
    labels, predicted = draw_rows(50)
    one, same, other = (
        resample_tables(labels, predicted, genomes_of(None, 50), 20, seed) for seed in (3, 3, 4)
    )

    assert (one == same).all()
    assert (one != other).any()


Rows_INFLUENCE = tuple[NDArray[np.int8], NDArray[np.float64]]


@st.composite
def rows(draw: st.DrawFn) -> Rows_INFLUENCE:
    """Draw labels of both classes, at least two rows each, and scores with ties."""
    labels = draw(st.lists(st.integers(0, 1), min_size=4, max_size=30))
    assume(2 <= sum(labels) <= len(labels) - 2)
    scores = draw(st.lists(st.integers(0, 10), min_size=len(labels), max_size=len(labels)))
    return np.array(labels, dtype=np.int8), np.array(scores) / 10


def delong_covariance(labels: NDArray[np.int8], sides: list[NDArray[np.float64]]) -> float:
    """Return DeLong's covariance of two areas, pair by pair as in the paper."""
    viral, rest = [x[labels == 1] for x in sides], [x[labels == 0] for x in sides]
    wins = [
        (v[:, None] > r[None, :]) + 0.5 * (v[:, None] == r[None, :])
        for v, r in zip(viral, rest, strict=True)
    ]
    of_viral = np.cov([w.mean(axis=1) for w in wins])[0, 1] / len(viral[0])
    of_rest = np.cov([w.mean(axis=0) for w in wins])[0, 1] / len(rest[0])
    return float(of_viral + of_rest)


@settings(max_examples=40, deadline=None)
@given(rows(), st.data())
def test_auc_influence_when_multiplied_then_it_is_delongs_covariance(
    one: Rows_INFLUENCE, data: st.DataObject
) -> None:
    """Variances and the covariance of two sides, ties included."""
    labels, scores = one
    other = np.array(data.draw(st.permutations(scores.tolist())))

    first, second = roc_auc_influence(labels, scores), roc_auc_influence(labels, other)

    assert first @ first == pytest.approx(delong_covariance(labels, [scores, scores]), abs=1e-12)
    assert first @ second == pytest.approx(delong_covariance(labels, [scores, other]), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(rows(), st.data())
def test_precision_influence_when_compared_with_a_difference_quotient_then_equal(
    one: Rows_INFLUENCE, data: st.DataObject
) -> None:
    """What a slightly heavier row does to average precision."""
    labels, scores = one
    row, step = data.draw(st.integers(0, len(labels) - 1)), 1e-6
    lighter, heavier = np.ones(len(labels)), np.ones(len(labels))
    lighter[row] -= step
    heavier[row] += step

    slope = (
        average_precision_score(labels, scores, sample_weight=heavier)
        - average_precision_score(labels, scores, sample_weight=lighter)
    ) / (2 * step)

    assert average_precision_influence(labels, scores)[row] == pytest.approx(slope, abs=1e-6)


@pytest.mark.slow
def test_influences_when_rows_are_resampled_then_their_squares_are_the_variance() -> None:
    """Against a plain bootstrap of 400 resamples, within its error of 5 times 3.5%."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500).astype(np.int8)
    scores = 1 / (1 + np.exp(-(2.0 * labels - 1 + rng.normal(size=500))))
    picks = rng.integers(0, 500, (400, 500))

    areas = np.std([roc_auc_score(labels[p], scores[p]) for p in picks])
    precisions = np.std([average_precision_score(labels[p], scores[p]) for p in picks])

    assert np.linalg.norm(roc_auc_influence(labels, scores)) == pytest.approx(areas, rel=0.18)
    assert np.linalg.norm(average_precision_influence(labels, scores)) == pytest.approx(
        precisions, rel=0.18
    )


@given(rows())
def test_brier_influence_when_squared_then_it_is_the_variance_of_a_mean(
    one: Rows_INFLUENCE,
) -> None:
    """The squared errors' sample variance over n."""
    labels, scores = one
    errors = (scores - labels) ** 2

    influence = brier_influence(labels, scores)

    assert influence @ influence == pytest.approx(errors.var(ddof=1) / len(errors))


def test_auc_influence_when_a_class_has_one_row_then_it_is_finite() -> None:
    """DeLong's divisor would be zero."""
    influence = roc_auc_influence(np.array([1, 0, 0], dtype=np.int8), np.array([0.5, 0.4, 0.6]))

    assert np.isfinite(influence).all()
