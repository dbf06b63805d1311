"""Influences: against definitions, derivatives and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from harness.criteria.intervals import (
    average_precision_influence,
    brier_influence,
    roc_auc_influence,
)

Rows = tuple[NDArray[np.int8], NDArray[np.float64]]


@st.composite
def rows(draw: st.DrawFn) -> Rows:
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
    one: Rows, data: st.DataObject
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
    one: Rows, data: st.DataObject
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
def test_brier_influence_when_squared_then_it_is_the_variance_of_a_mean(one: Rows) -> None:
    """The squared errors' sample variance over n."""
    labels, scores = one
    errors = (scores - labels) ** 2

    influence = brier_influence(labels, scores)

    assert influence @ influence == pytest.approx(errors.var(ddof=1) / len(errors))


def test_auc_influence_when_a_class_has_one_row_then_it_is_finite() -> None:
    """DeLong's divisor would be zero."""
    influence = roc_auc_influence(np.array([1, 0, 0], dtype=np.int8), np.array([0.5, 0.4, 0.6]))

    assert np.isfinite(influence).all()
