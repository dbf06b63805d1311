"""Metrics: equal to scikit-learn's, consistent with the confusion matrix, never NaN.

The drop by lineage, length, genome and identity.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from harness.criteria.accuracy import judge_accuracy
from harness.criteria.bounds import drop_upper_bound
from harness.criteria.metrics import (
    METRIC_NAMES,
    break_down,
    evaluate,
    large_moves,
    predict_labels,
)

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


def test_large_moves_when_recall_falls_by_seven_points_then_it_is_called_out() -> None:
    """Equal accuracy may hide it."""
    baseline = {"accuracy": 0.90, "recall": 0.92, "precision": 0.88, "mcc": None}
    candidate = {"accuracy": 0.90, "recall": 0.85, "precision": 0.95, "mcc": 0.1}

    assert large_moves(baseline, candidate, limit_points=Fraction(5)) == (
        "precision rose by 7.0 points, from 0.880 to 0.950",
        "recall fell by 7.0 points, from 0.920 to 0.850",
    )


def test_large_moves_when_a_metric_moves_by_exactly_five_points_then_it_is_not() -> None:
    """More than 5 points, whatever 0.14 - 0.09 is in binary."""
    for before, after in ((0.90, 0.95), (0.09, 0.14)):
        assert large_moves({"recall": before}, {"recall": after}, limit_points=Fraction(5)) == ()


def predictions(n: int = 300, **columns: Any) -> pd.DataFrame:
    """Return rows on which the candidate errs every tenth time and the baseline never."""
    label = np.arange(n) % 2
    candidate = np.where(np.arange(n) % 10 == 0, 1 - label, label)
    return pd.DataFrame(
        {
            "label": label.astype("int8"),
            "baseline_score": 0.1 + 0.8 * label,
            "candidate_score": 0.1 + 0.8 * candidate,
            **columns,
        }
    )


def test_break_down_when_by_lineage_then_each_has_its_own_accuracies() -> None:
    """The largest drop first."""
    rows = predictions(200, lineage=["good"] * 100 + ["bad"] * 100)
    rows.loc[:99, "candidate_score"] = rows.loc[:99, "baseline_score"]

    worst, best = break_down(rows, "lineage")

    assert (worst["group"], worst["n"], worst["drop_points"]) == ("bad", 100, 10.0)
    assert (best["group"], best["candidate_accuracy"], best["drop_points"]) == ("good", 1.0, 0.0)
    assert worst["baseline_accuracy"] == 1.0


def test_break_down_when_groups_are_small_then_they_are_put_together() -> None:
    """No row is left out, and the rest comes last."""
    names = ["a"] * 100 + [f"rare {i // 10}" for i in range(200)]

    found = break_down(predictions(300, lineage=names), "lineage", min_rows=20)

    assert [(row["group"], row["n"]) for row in found] == [
        ("a", 100),
        ("groups of under 20 rows", 200),
    ]


def test_break_down_when_all_groups_are_large_then_there_is_no_rest() -> None:
    """The minimum is inclusive."""
    found = break_down(predictions(40, lineage=["a"] * 20 + ["b"] * 20), "lineage", min_rows=20)

    assert {row["group"] for row in found} == {"a", "b"}


def test_break_down_when_by_length_then_quartiles_in_order() -> None:
    """Bins that touch and cover, both ends included."""
    found = break_down(predictions(300, length=np.arange(300) % 100 + 67), "length")

    assert [row["group"] for row in found] == ["67-91", "92-115", "116-140", "141-166"]
    assert sum(row["n"] for row in found) == 300


def test_break_down_when_all_lengths_are_equal_then_one_bin() -> None:
    """Windows of one size are common."""
    found = break_down(predictions(50, length=[166] * 50), "length")

    assert [(row["group"], row["n"]) for row in found] == [("166-166", 50)]


def test_break_down_when_by_identity_then_the_leakage_bins() -> None:
    """Cut at 30, 50 and 90 percent; NaN is no hit."""
    identity = np.repeat([np.nan, 0.0, 29.9, 30.0, 50.0, 90.0, 100.0], 30)

    found = break_down(predictions(210, identity=identity), "identity")

    assert [(row["group"], row["n"]) for row in found] == [
        ("no hit", 30),
        ("<30", 60),
        ("30-50", 30),
        ("50-90", 30),
        (">=90", 60),
    ]


def test_break_down_when_by_genome_then_the_interval_is_of_its_rows() -> None:
    """One genome: Tango's bound on these very rows."""
    found = break_down(predictions(100, genome=["NC_1"] * 100), "genome")

    upper = 100 * float(drop_upper_bound(10, 0, 100, quantile=1.959964))
    assert found[0]["n_genomes"] == 1
    assert found[0]["interval"][1] == pytest.approx(upper, abs=1e-4)


def test_break_down_when_a_lineage_has_many_genomes_then_they_widen_its_interval() -> None:
    """Losses that fill whole genomes say less."""
    rows = predictions(400, lineage=["a"] * 400)
    scattered = rows.assign(genome=[f"g{i // 10}" for i in range(400)])
    together = rows.assign(genome=[f"g{i % 10}" for i in range(400)])

    one, other = (break_down(x, "lineage")[0] for x in (scattered, together))

    assert (one["n_genomes"], other["n_genomes"]) == (40, 10)
    assert other["interval"][1] > one["interval"][1]


def test_break_down_when_there_is_one_lineage_then_it_agrees_with_the_criterion() -> None:
    """The same counts as judge_accuracy."""
    rows = predictions(300, lineage=["a"] * 300)
    candidate = (rows["candidate_score"] > 0.5).astype(int)

    judged = judge_accuracy(rows["label"], rows["label"], candidate)

    assert judged.value is not None
    assert break_down(rows, "lineage")[0]["drop_points"] == pytest.approx(float(judged.value))


def test_break_down_when_names_are_empty_then_unknown() -> None:
    """Unknown text is "" in the record table."""
    found = break_down(predictions(50, lineage=pd.array([""] * 50, dtype="str")), "lineage")

    assert found[0]["group"] == "unknown"


def test_break_down_when_written_then_it_is_json() -> None:
    """No numpy scalars, and no genomes is null."""
    found = json.loads(json.dumps(break_down(predictions(60, lineage=["a"] * 60), "lineage")))

    assert found[0]["n_genomes"] is None
    assert set(found[0]) >= {"group", "n", "baseline_accuracy", "candidate_accuracy", "interval"}


def test_break_down_when_a_column_is_missing_then_refused() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match="column 'lineage' is missing"):
        break_down(predictions(), "lineage")


def test_break_down_when_there_are_no_rows_then_nothing() -> None:
    """An empty test set has no groups."""
    assert break_down(predictions(0, lineage=[]), "lineage") == []
