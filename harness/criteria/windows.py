"""The decision that users read: one call a window, over all its frames without a stop.

Owns VirNucPro's rule from the frames' scores to the window's call, what is reported of the calls,
and how they are judged beside the rows. Which frames a window has is ``harness.data``'s matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pandas as pd

from harness.criteria.metrics import break_down
from harness.criteria.result import CriterionResult, State

__all__ = ["call_windows", "false_positives", "join_levels", "kinds_that_gain"]

_OF_WINDOW = ["label", "lineage", "source_kind", "genome"]
_WORST_FIRST = (State.FAIL, State.INCONCLUSIVE, State.PASS)
_SHOWN = ("n", "b", "c", "both_right", "both_wrong", "drop_points", "upper_bound_points")


def call_windows(frames: pd.DataFrame) -> pd.DataFrame:
    """Call each window viral or not by VirNucPro's rule.

    Parameters
    ----------
    frames : DataFrame
        One row an open frame: ``window_id``, ``label``, ``lineage``, ``source_kind``, ``genome``,
        and columns that end in ``_score``, or in ``_score_43`` for another seed: the probability of
        the viral class, in [0, 1].

    Returns
    -------
    DataFrame
        One row a window, sorted by ``window_id``; each score is the call, 1 or 0.

    Notes
    -----
    A window is viral if the largest viral score over its frames is at least the largest other one.
    A frame's two scores add up to 1, so that is: largest viral score >= 1 - smallest viral score,
    rounded as in the files that ``write_results`` writes.

    Examples
    --------
    >>> scores = {"baseline_score": [0.8, 0.3], "candidate_score": [0.6, 0.3]}
    >>> frames = pd.DataFrame({"window_id": "w", "label": 1, **scores})
    >>> call_windows(frames)[["baseline_score", "candidate_score"]].iloc[0].tolist()
    [1, 0]
    """
    grouped = frames.groupby("window_id", sort=True)
    windows = grouped[[name for name in _OF_WINDOW if name in frames]].first()
    for name in (column for column in map(str, frames) if "_score" in column):
        called = grouped[name].max() >= 1 - grouped[name].min()
        windows[name] = called.astype("int8")
    return windows.reset_index()


def false_positives(windows: pd.DataFrame) -> list[dict[str, Any]]:
    """Compare how often both sides call windows viral that are not, by the kind of source.

    Parameters
    ----------
    windows : DataFrame
        As ``call_windows`` returns it.

    Returns
    -------
    list of dict
        ``source_kind``, ``n`` (windows), ``n_genomes``, ``baseline_percent``,
        ``candidate_percent``, ``gained_points`` and its two-sided 95% ``interval``; the largest
        gain first.
    """
    rows = break_down(windows[windows["label"] == 0], "source_kind", min_rows=1)
    return [
        {
            "source_kind": row["group"],
            "n": row["n"],
            "n_genomes": row["n_genomes"],
            "baseline_percent": 100 * (1 - row["baseline_accuracy"]),
            "candidate_percent": 100 * (1 - row["candidate_accuracy"]),
            "gained_points": row["drop_points"],
            "interval": row["interval"],
        }
        for row in rows
    ]


def kinds_that_gain(rows: Sequence[dict[str, Any]], limit_points: Fraction) -> tuple[str, ...]:
    """Name the kinds of source that gain more false positives than accuracy may fall."""
    return tuple(
        f"Windows of the kind {row['source_kind']!r} ({_count(row)}) are called viral wrongly more "
        f"often than before: {row['baseline_percent']:.1f}% by the baseline, "
        f"{row['candidate_percent']:.1f}% by the candidate (95% interval of the gain "
        f"{row['interval'][0]:.1f} to {row['interval'][1]:.1f} points)."
        for row in rows
        if row["gained_points"] > limit_points
    )


def _count(row: dict[str, Any]) -> str:
    known = row["n_genomes"]
    return f"{row['n']:,}" + (f", of {known:,} genomes" if known else "")


def join_levels(
    rows: CriterionResult, judged: CriterionResult, windows: pd.DataFrame
) -> CriterionResult:
    """Return the judgement by rows, which passes only if the one by windows does, too.

    Parameters
    ----------
    rows, judged : CriterionResult
        The judgements by rows and by windows, with a limit.
    windows : DataFrame
        As ``call_windows`` returns it.
    """
    facts = {name: judged.evidence[name] for name in _SHOWN if name in judged.evidence}
    steps = () if judged.state is State.PASS else judged.next_steps
    only = (text for text in judged.reservations if text not in rows.reservations)
    measures = windows["label"].map({1: "recall (viral)", 0: "specificity (not viral)"})
    described = {
        "window_classes": break_down(windows.assign(measure=measures), "measure", min_rows=1),
        "window_precision": judged.evidence["precision_at_prevalence"],
        "window_false_positives": (found := false_positives(windows)),
    }
    gains = kinds_that_gain(found, rows.limit or Fraction(0))
    return replace(
        rows,
        state=min(rows.state, judged.state, key=_WORST_FIRST.index),
        detail=f"{rows.detail} By windows, as deployed: {judged.state}: {judged.detail}",
        reservations=(*rows.reservations, *(f"By windows: {text}" for text in only), *gains),
        next_steps=tuple(dict.fromkeys((*rows.next_steps, *steps))),
        evidence=rows.evidence | {"windows": facts} | described,
    )
