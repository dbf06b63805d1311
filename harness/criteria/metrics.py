"""The metrics of one side, and where accuracy is lost: by lineage, length, genome or identity.

What cannot be computed is None with a reason, never NaN. All of it is for reading; nothing is gated
on it, and among many groups some show large drops by chance alone. Intervals are intervals.py's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from harness.criteria.bounds import drop_upper_bound
from harness.criteria.result import ratios_of
from harness.criteria.units import Binary, as_binary, genome_effect

__all__ = [
    "METRIC_NAMES",
    "Metrics",
    "as_scores",
    "break_down",
    "evaluate",
    "large_moves",
    "precision_at",
    "predict_labels",
]


COUNT_METRICS = ("accuracy", "precision", "recall", "f1", "mcc")
SCORE_METRICS = ("roc_auc", "average_precision", "brier")
METRIC_NAMES = COUNT_METRICS + SCORE_METRICS

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
        """Return a side's ``metrics`` and ``confusion_matrix`` as ``verdict.json`` has them."""
        return {
            "metrics": dict(self.values),
            "confusion_matrix": [list(row) for row in self.confusion_matrix],
            "undefined": dict(self.undefined),
        }


def evaluate(y_true: ArrayLike, y_score: ArrayLike) -> Metrics:
    """Compute the metrics of one side.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,)
        Labels: 1 viral, 0 not.
    y_score : array_like of shape (n_rows,)
        The viral class's probability, from 0 to 1.

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
    confusion = _confusion(labels, predict_labels(scores))
    (tn, fp), (fn, tp) = confusion
    values: dict[str, float | None] = {
        name: part / whole if whole else None
        for name, (part, whole) in ratios_of(tn, fp, fn, tp).items()
    }
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    values["mcc"] = (tp * tn - fp * fn) / math.sqrt(spread) if spread else None
    values |= dict.fromkeys(SCORE_METRICS)
    if len(labels):
        values["brier"] = float(brier_score_loss(labels, scores, pos_label=1))
    if tp + fn:
        values["average_precision"] = float(average_precision_score(labels, scores))
    if tp + fn and tn + fp:
        values["roc_auc"] = float(roc_auc_score(labels, scores))
    undefined = {name: _UNDEFINED[name] for name, value in values.items() if value is None}
    return Metrics(values=values, confusion_matrix=confusion, undefined=undefined)


def predict_labels(y_score: ArrayLike) -> Binary:
    """Return the predicted labels: 1 where the score is above 0.5, else 0.

    A score of exactly 0.5 is not viral, because VirNucPro takes the argmax of the two logits, and
    that is class 0 on a tie.
    """
    return (as_scores(y_score, "y_score") > 0.5).astype(np.int8)


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


def large_moves(
    baseline: Mapping[str, float | None],
    candidate: Mapping[str, float | None],
    *,
    limit_points: Fraction,
) -> tuple[str, ...]:
    """Name each metric that differs between the sides by more than ``limit_points``.

    Returns
    -------
    tuple of str
        One sentence a metric, such as ``recall fell by 7.0 points, from 0.920 to 0.850``.
    """
    found = []
    for name in METRIC_NAMES:
        before, after = baseline.get(name), candidate.get(name)
        if before is None or after is None:
            continue
        points = round(100 * (after - before), 9)  # so that .95 to .90 is not a hair over .05
        if abs(points) > limit_points:
            verb = "rose" if points > 0 else "fell"
            found.append(
                f"{name} {verb} by {abs(points):.1f} points, from {before:.3f} to {after:.3f}"
            )
    return tuple(found)


def precision_at(prevalence: float, *, recall: float, specificity: float) -> float | None:
    """Return the precision where viruses make up that share; None where nothing is called viral.

    Parameters
    ----------
    prevalence, recall, specificity : float
        Shares, from 0 to 1.

    Examples
    --------
    >>> round(precision_at(0.01, recall=0.9, specificity=0.99), 3)
    0.476
    """
    found, false_alarms = prevalence * recall, (1 - prevalence) * (1 - specificity)
    return found / (found + false_alarms) if found + false_alarms else None


def _confusion(labels: Binary, predicted: Binary) -> ConfusionMatrix:
    tn, fp, fn, tp = (int(x) for x in np.bincount(labels * 2 + predicted, minlength=4))
    return (tn, fp), (fn, tp)


# Percent identity of a row's best hit in the training part.
IDENTITY_EDGES = (30, 50, 90)
IDENTITY_NAMES = ("no hit", "<30", "30-50", "50-90", ">=90")
NUMBER_BINS = 4
_LEVEL = 0.975  # of each bound, so 95% between them
Codes = NDArray[np.intp]
_COUNTS = ["n", "baseline_right", "candidate_right", "lost", "gained"]


NEW_LINEAGE = "lineage not in training"


def tell_novelty(lineages: pd.Series[str], trained: pd.Series[str]) -> pd.Series[str]:
    """Say of each test row whether its lineage is in training; "lineage unknown" where it is ""."""
    named = lineages.isin(trained).map({True: "lineage in training", False: NEW_LINEAGE})
    return named.where(lineages != "", "lineage unknown")


def break_down(predictions: pd.DataFrame, by: str, *, min_rows: int = 20) -> list[dict[str, Any]]:
    """Compare the accuracies of both sides group by group.

    Parameters
    ----------
    predictions : DataFrame
        One row a test row: ``label``, ``baseline_score``, ``candidate_score``, the column ``by``
        and, where it is known, ``genome``.
    by : str
        A text column, such as ``lineage`` or ``genome``, gives one group a value. A numeric
        ``identity``, in percent, is cut at 30, 50 and 90, without a hit where it is NaN; any other
        numeric column, such as ``length``, is cut at its quartiles.
    min_rows : int
        Groups with fewer rows are put together in one, so that no row is left out.

    Returns
    -------
    list of dict
        ``group``, ``n``, ``n_genomes`` (None if unknown), ``baseline_accuracy``,
        ``candidate_accuracy``, ``drop_points`` and its two-sided 95% ``interval``, which speaks of
        genomes like these where a group has at least two, else of its very genome. Bins come in
        their order; other groups with the largest drop first and the small ones last.

    Raises
    ------
    ValueError
        If a column is missing, or a label or score is unusable.
    """
    needed = ("label", "baseline_score", "candidate_score", by)
    if absent := [name for name in needed if name not in predictions]:
        raise ValueError(f"column {absent[0]!r} is missing; has {list(predictions.columns)}")
    if predictions.empty:
        return []
    is_numeric = pd.api.types.is_numeric_dtype(predictions[by])
    codes, names = _bins(predictions[by], by) if is_numeric else _names(predictions[by])
    codes, has_small = _merge_small(codes, len(names), min_rows)
    counts = _count(predictions, codes)
    names.append(f"groups of under {min_rows} rows")
    rows = _compare(counts, names, has_genomes="genome" in predictions)
    if is_numeric:
        return rows
    small = [rows.pop()] if has_small else []
    return sorted(rows, key=lambda row: -float(row["drop_points"])) + small


def _names(values: pd.Series[Any]) -> tuple[Codes, list[str]]:
    codes, names = pd.factorize(values.astype("str").fillna(""))
    return codes, [str(name) or "unknown" for name in names]


def _bins(values: pd.Series[Any], by: str) -> tuple[Codes, list[str]]:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if by == "identity":
        return np.digitize(np.nan_to_num(numbers, nan=-1.0), (0, *IDENTITY_EDGES)), [
            *IDENTITY_NAMES
        ]
    quartiles = np.quantile(numbers, np.linspace(0, 1, NUMBER_BINS + 1))
    edges = [int(x) for x in np.unique(quartiles.round())]
    ends = [*(high - 1 for high in edges[1:-1]), edges[-1]]
    names = [f"{low}-{end}" for low, end in zip(edges, ends, strict=False)]
    return np.digitize(numbers, edges[1:-1]), names


def _merge_small(codes: Codes, n_groups: int, min_rows: int) -> tuple[Codes, bool]:
    """Give all groups that are too small the code ``n_groups``; say whether there are any."""
    is_small = np.bincount(codes, minlength=n_groups)[codes] < min_rows
    return np.where(is_small, n_groups, codes), bool(is_small.any())


def _count(predictions: pd.DataFrame, codes: Codes) -> pd.DataFrame:
    """Count for each group and genome: index (group, genome), columns ``_COUNTS``."""
    labels = as_binary(predictions["label"], "label")
    baseline, candidate = (
        predict_labels(predictions[f"{side}_score"]) == labels for side in ("baseline", "candidate")
    )
    genomes = predictions["genome"] if "genome" in predictions else range(len(predictions))
    table = pd.DataFrame(
        {
            "group": codes,
            "genome": pd.factorize(pd.Series(genomes))[0],
            "n": 1,
            "baseline_right": baseline,
            "candidate_right": candidate,
            "lost": baseline & ~candidate,
            "gained": candidate & ~baseline,
        }
    )
    return table.groupby(["group", "genome"])[_COUNTS].sum()


def _compare(counts: pd.DataFrame, names: list[str], *, has_genomes: bool) -> list[dict[str, Any]]:
    """Return one row a group, in the order of the groups' codes."""
    totals = counts.groupby(level="group").sum()
    parts = [part for _, part in counts.groupby(level="group")]
    widths = np.array([_widening(part) for part in parts])  # (group, quantile and design effect)
    lost, gained, n = (totals[name].to_numpy() for name in ("lost", "gained", "n"))
    upper = drop_upper_bound(lost, gained, n, quantile=widths[:, 0], design_effect=widths[:, 1])
    lower = -drop_upper_bound(gained, lost, n, quantile=widths[:, 0], design_effect=widths[:, 1])
    return [
        {
            "group": names[int(code)],
            "n": int(n[i]),
            "n_genomes": len(parts[i]) if has_genomes else None,
            "baseline_accuracy": float(totals["baseline_right"].iloc[i] / n[i]),
            "candidate_accuracy": float(totals["candidate_right"].iloc[i] / n[i]),
            "drop_points": float(100 * (lost[i] - gained[i]) / n[i]),
            "interval": [float(100 * lower[i]), float(100 * upper[i])],
        }
        for i, code in enumerate(totals.index)
    ]


def _widening(part: pd.DataFrame) -> tuple[float, float]:
    """Return quantile and design effect of a group's bounds; rows as such for a single genome."""
    lost, gained = part["lost"].to_numpy(), part["gained"].to_numpy()
    discordant = int(lost.sum() + gained.sum())
    effect = genome_effect(
        part["n"].to_numpy(),
        lost - gained,
        sum_of_squares=discordant,
        n_informative=discordant,
    )
    if effect.n_genomes == 1:
        return float(stats.norm.ppf(_LEVEL)), 1.0
    return effect.quantile(_LEVEL), effect.design_effect
