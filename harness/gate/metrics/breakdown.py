"""Where accuracy is lost: the drop by lineage, length, genome or identity.

For reading; nothing is gated on it. Among many groups some show large drops by chance alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from harness.gate.accuracy.design_effect import genome_effect
from harness.gate.accuracy.noninferiority import drop_upper_bound
from harness.gate.metrics.scores import predict_labels
from harness.gate.proof.outcomes import as_binary

__all__ = ["break_down"]

# Percent identity of a row's best hit in the training part.
IDENTITY_EDGES = (30, 50, 90)
NUMBER_BINS = 4
_LEVEL = 0.975  # of each bound, so 95% between them
Codes = NDArray[np.intp]
_COUNTS = ["n", "baseline_right", "candidate_right", "lost", "gained"]


def break_down(
    predictions: pd.DataFrame, by: str, *, min_rows: int = 20, threshold: float = 0.5
) -> list[dict[str, Any]]:
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
    threshold : float
        A row is predicted viral if its score is above.

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
    counts = _count(predictions, codes, threshold)
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
        names = ["no hit", "<30", "30-50", "50-90", ">=90"]
        return np.digitize(np.nan_to_num(numbers, nan=-1.0), (0, *IDENTITY_EDGES)), names
    quartiles = np.quantile(numbers, np.linspace(0, 1, NUMBER_BINS + 1))
    edges = [int(x) for x in np.unique(quartiles.round())]
    ends = [*(high - 1 for high in edges[1:-1]), edges[-1]]
    names = [f"{low}-{end}" for low, end in zip(edges, ends, strict=False)]
    return np.digitize(numbers, edges[1:-1]), names


def _merge_small(codes: Codes, n_groups: int, min_rows: int) -> tuple[Codes, bool]:
    """Give all groups that are too small the code ``n_groups``; say whether there are any."""
    is_small = np.bincount(codes, minlength=n_groups)[codes] < min_rows
    return np.where(is_small, n_groups, codes), bool(is_small.any())


def _count(predictions: pd.DataFrame, codes: Codes, threshold: float) -> pd.DataFrame:
    """Count for each group and genome: index (group, genome), columns ``_COUNTS``."""
    labels = as_binary(predictions["label"], "label")
    baseline, candidate = (
        predict_labels(predictions[f"{side}_score"], threshold=threshold) == labels
        for side in ("baseline", "candidate")
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
