"""Metrics: equal to scikit-learn's, consistent with the confusion matrix, never NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from harness.criteria.metrics import (
    METRIC_NAMES,
    Metrics,
    check_consistent,
    evaluate,
    large_moves,
    predict_labels,
)
from harness.errors import DataError

SCORES = st.integers(0, 20).map(lambda i: i / 20)  # with many ties, and 0.5 among them
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=1, max_size=80)


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_evaluate_when_rows_are_any_then_it_equals_scikit_learn(
    rows: list[tuple[int, float]],
) -> None:
    """Wherever a metric is defined; ties included."""
    y, scores = (np.array(column) for column in zip(*rows, strict=True))
    predicted = (scores > 0.5).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(y, predicted),
        "precision": sk.precision_score(y, predicted, zero_division=0),
        "recall": sk.recall_score(y, predicted, zero_division=0),
        "f1": sk.f1_score(y, predicted, zero_division=0),
        "brier": np.mean((scores - y) ** 2),
    }
    if 0 < y.sum() < len(y):
        expected["mcc"] = sk.matthews_corrcoef(y, predicted)
        expected["roc_auc"] = sk.roc_auc_score(y, scores)
        expected["average_precision"] = sk.average_precision_score(y, scores)

    found = evaluate(y, scores)

    for name in expected.keys() - found.undefined.keys():
        assert found.values[name] == pytest.approx(expected[name], abs=1e-12), name
    assert found.confusion_matrix == tuple(
        tuple(row) for row in sk.confusion_matrix(y, predicted, labels=[0, 1]).tolist()
    )


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_evaluate_when_rows_are_any_then_undefined_is_none_with_a_reason(
    rows: list[tuple[int, float]],
) -> None:
    """A value is finite or None, and None has its reason."""
    y, scores = zip(*rows, strict=True)

    found = evaluate(y, scores)

    assert tuple(found.values) == METRIC_NAMES
    for name, value in found.values.items():
        assert (value is None) is (name in found.undefined)
        assert value is None or math.isfinite(value)


@pytest.mark.parametrize(
    ("y", "scores", "undefined"),
    [
        ([], [], set(METRIC_NAMES)),
        ([1, 1], [0.9, 0.1], {"roc_auc", "mcc"}),
        ([0, 0], [0.1, 0.1], {"precision", "recall", "f1", "mcc", "roc_auc", "average_precision"}),
        ([0, 1], [0.1, 0.2], {"precision", "mcc"}),
        ([0, 1], [0.1, 0.9], set()),
    ],
)
def test_evaluate_when_a_class_is_absent_then_says_what_is_undefined(
    y: list[int], scores: list[float], undefined: set[str]
) -> None:
    """One class, no prediction of a class, or no rows."""
    assert set(evaluate(y, scores).undefined) == undefined


def test_predict_when_the_score_is_one_half_then_not_viral() -> None:
    """The argmax of two equal logits is class 0."""
    assert predict_labels([0.5, math.nextafter(0.5, 1), 0.4]).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.1, math.nan], r"y_score\[1\] is nan"),
        ([0.1, 1.2], r"y_score\[1\] is 1.2"),
        ([-3.0, 0.2], r"y_score\[0\] is -3.0"),
        ([0.1], "expected 2 rows"),
        ([[0.1, 0.9], [0.2, 0.8]], "one dimension"),
    ],
)
def test_evaluate_when_a_score_is_no_probability_then_it_is_named(
    scores: Any, message: str
) -> None:
    """NaN, logits and two columns are refused."""
    with pytest.raises(ValueError, match=message):
        evaluate([0, 1], scores)


def test_to_dict_when_metrics_are_consistent_then_it_is_the_verdicts_form() -> None:
    """Rows of the matrix are truth, columns are prediction."""
    side = evaluate([0, 0, 1, 1], [0.1, 0.9, 0.8, 0.7]).to_dict()

    assert side["confusion_matrix"] == [[1, 1], [0, 2]]
    assert set(METRIC_NAMES) == set(side["metrics"])  # type: ignore[call-overload]


def test_to_dict_when_metrics_contradict_the_matrix_then_refused() -> None:
    """What is written was checked."""
    metrics = Metrics(values={"accuracy": 0.95}, confusion_matrix=((45, 5), (5, 45)), undefined={})

    with pytest.raises(DataError, match=r"accuracy is reported as 0\.95"):
        metrics.to_dict()


@pytest.mark.parametrize(
    ("reported", "message"),
    [
        ({"accuracy": 0.95}, "accuracy is reported as 0.95, but the confusion matrix"),
        ({"recall": None}, "recall is reported as None"),
        ({"roc_auc": math.nan}, "roc_auc is nan"),
    ],
)
def test_check_when_a_metric_contradicts_the_matrix_then_refused(
    reported: dict[str, float | None], message: str
) -> None:
    """A report whose matrix and accuracy disagree is never written."""
    with pytest.raises(DataError, match=message):
        check_consistent(reported, [[45, 5], [5, 45]])


def test_check_when_metrics_agree_then_nothing_happens() -> None:
    """Metrics that a matrix does not determine are left alone."""
    check_consistent({"accuracy": 0.9, "mcc": 0.8, "roc_auc": 0.97}, [[45, 5], [5, 45]])


def test_large_moves_when_recall_falls_by_seven_points_then_it_is_called_out() -> None:
    """Equal accuracy may hide it."""
    baseline = {"accuracy": 0.90, "recall": 0.92, "precision": 0.88, "mcc": None}
    candidate = {"accuracy": 0.90, "recall": 0.85, "precision": 0.95, "mcc": 0.1}

    assert large_moves(baseline, candidate) == (
        "precision rose by 7.0 points, from 0.880 to 0.950",
        "recall fell by 7.0 points, from 0.920 to 0.850",
    )


def test_large_moves_when_a_metric_moves_by_exactly_five_points_then_it_is_not() -> None:
    """More than 5 points, whatever 0.14 - 0.09 is in binary."""
    assert large_moves({"recall": 0.90}, {"recall": 0.95}) == ()
    assert large_moves({"recall": 0.09}, {"recall": 0.14}) == ()
