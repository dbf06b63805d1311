"""The metrics of one side: from labels and scores to numbers that agree with each other.

What cannot be computed is None with a reason, never NaN. Intervals are intervals.py's work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from harness.errors import DataError
from harness.gate.proof.outcomes import Binary, as_binary

__all__ = [
    "METRIC_NAMES",
    "Metrics",
    "as_scores",
    "check_consistent",
    "evaluate",
    "large_moves",
    "predict_labels",
]

COUNT_METRICS = ("accuracy", "precision", "recall", "f1", "mcc")
SCORE_METRICS = ("roc_auc", "average_precision", "brier")
METRIC_NAMES = COUNT_METRICS + SCORE_METRICS
# "Called out: any metric that moves by more than 5 points."
CALLED_OUT_POINTS = "5"

ConfusionMatrix = tuple[tuple[int, int], tuple[int, int]]

_UNDEFINED = {
    "accuracy": "there are no rows",
    "precision": "no row is predicted viral",
    "recall": "no row is viral",
    "f1": "no row is viral or predicted viral",
    "mcc": "labels or predictions are all alike",
    "roc_auc": "there is only one class",
    "average_precision": "no row is viral",
    "brier": "there are no rows",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How well one side does on the test rows.

    Attributes
    ----------
    values : dict of str to float or None
        Each of ``METRIC_NAMES``: shares from 0 to 1, ``mcc`` from -1 to 1; None where undefined.
    confusion_matrix : 2 x 2 tuple of int
        Rows: truth (0 then 1); columns: prediction (0 then 1).
    undefined : dict of str to str
        For each metric that is None, why.
    """

    values: dict[str, float | None]
    confusion_matrix: ConfusionMatrix
    undefined: dict[str, str]

    def to_dict(self) -> dict[str, object]:
        """Return a side's ``metrics`` and ``confusion_matrix`` as ``verdict.json`` has them.

        Raises
        ------
        DataError
            If they contradict each other.
        """
        check_consistent(self.values, self.confusion_matrix)
        return {
            "metrics": dict(self.values),
            "confusion_matrix": [list(row) for row in self.confusion_matrix],
            "undefined": dict(self.undefined),
        }


def evaluate(y_true: ArrayLike, y_score: ArrayLike, *, threshold: float = 0.5) -> Metrics:
    """Compute the metrics of one side.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,)
        Labels: 1 viral, 0 not.
    y_score : array_like of shape (n_rows,)
        The viral class's probability, from 0 to 1.
    threshold : float
        A row is predicted viral if its score is above; see ``predict_labels``.

    Raises
    ------
    ValueError
        If lengths differ, a label is neither 0 nor 1, or a score is no probability.

    Notes
    -----
    Equal to scikit-learn's values wherever those are defined; where scikit-learn puts 0 for an
    undefined precision, recall, F1 or MCC, the value here is None.
    """
    labels = as_binary(y_true, "y_true")
    scores = as_scores(y_score, "y_score", n_rows=len(labels))
    confusion = _confusion(labels, predict_labels(scores, threshold=threshold))
    (tn, fp), (fn, tp) = confusion
    values = _from_confusion(confusion) | dict.fromkeys(SCORE_METRICS)
    if len(labels):
        values["brier"] = float(brier_score_loss(labels, scores, pos_label=1))
    if tp + fn:
        values["average_precision"] = float(average_precision_score(labels, scores))
    if tp + fn and tn + fp:
        values["roc_auc"] = float(roc_auc_score(labels, scores))
    undefined = {name: _UNDEFINED[name] for name, value in values.items() if value is None}
    return Metrics(values=values, confusion_matrix=confusion, undefined=undefined)


def predict_labels(y_score: ArrayLike, *, threshold: float = 0.5) -> Binary:
    """Return the predicted labels: 1 where the score is above the threshold, else 0.

    A score of exactly 0.5 is not viral, because VirNucPro takes the argmax of the two logits, and
    that is class 0 on a tie.
    """
    return (as_scores(y_score, "y_score") > threshold).astype(np.int8)


def as_scores(values: ArrayLike, name: str, *, n_rows: int | None = None) -> NDArray[np.float64]:
    """Return probabilities as a float64 array.

    Raises
    ------
    ValueError
        If it has another shape or length, or a value is not a number from 0 to 1.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {scores.shape}")
    if n_rows is not None and len(scores) != n_rows:
        raise ValueError(f"{name}: expected {n_rows} rows as in y_true, got {len(scores)}")
    is_bad = ~((scores >= 0) & (scores <= 1))  # NaN is in neither
    if is_bad.any():
        first = int(is_bad.argmax())
        raise ValueError(f"{name}[{first}] is {scores[first]}; expected a probability from 0 to 1")
    return scores


def check_consistent(
    metrics: Mapping[str, float | None], confusion_matrix: Sequence[Sequence[int]]
) -> None:
    """Raise DataError if a metric is not what the confusion matrix says; call before writing.

    Parameters
    ----------
    metrics : mapping of str to float or None
        Metrics by name; those that a confusion matrix does not determine are only required to
        be finite.
    confusion_matrix : 2 x 2 sequence of int
        Rows: truth (0 then 1); columns: prediction (0 then 1).
    """
    (tn, fp), (fn, tp) = confusion_matrix
    expected = _from_confusion(((tn, fp), (fn, tp)))
    for name, value in metrics.items():
        if value is not None and not math.isfinite(value):
            raise DataError(f"{name} is {value}; expected a finite number, or none with a reason")
        if name in expected and not _is_same(value, expected[name]):
            raise DataError(
                f"{name} is reported as {value}, but the confusion matrix "
                f"[[{tn}, {fp}], [{fn}, {tp}]] gives {expected[name]}. Evaluate again"
            )


def large_moves(
    baseline: Mapping[str, float | None],
    candidate: Mapping[str, float | None],
    *,
    limit_points: str = CALLED_OUT_POINTS,
) -> tuple[str, ...]:
    """Name each metric that differs between the sides by more than ``limit_points``.

    Returns
    -------
    tuple of str
        One sentence a metric, such as ``recall fell by 7.0 points, from 0.920 to 0.850``.
    """
    limit, found = Fraction(limit_points), []
    for name in METRIC_NAMES:
        before, after = baseline.get(name), candidate.get(name)
        if before is None or after is None:
            continue
        points = round(100 * (after - before), 9)  # so that 95% to 90% is 5 points, not a hair more
        if abs(points) > limit:
            verb = "rose" if points > 0 else "fell"
            found.append(
                f"{name} {verb} by {abs(points):.1f} points, from {before:.3f} to {after:.3f}"
            )
    return tuple(found)


def _confusion(labels: Binary, predicted: Binary) -> ConfusionMatrix:
    tn, fp, fn, tp = (int(x) for x in np.bincount(labels * 2 + predicted, minlength=4))
    return (tn, fp), (fn, tp)


def _from_confusion(confusion: ConfusionMatrix) -> dict[str, float | None]:
    (tn, fp), (fn, tp) = confusion
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "mcc": (tp * tn - fp * fn) / math.sqrt(spread) if spread else None,
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _is_same(reported: float | None, computed: float | None) -> bool:
    if reported is None or computed is None:
        return reported is computed
    return math.isclose(reported, computed, abs_tol=1e-9)
