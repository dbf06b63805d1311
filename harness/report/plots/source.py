"""What the figures are drawn from: the verdict, and the predictions table that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import digest_file
from harness.report.content.outcome import read_outcome
from harness.report.content.reading import as_json, as_mapping, as_text
from harness.report.plots.style import label_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["SIDES", "Scores", "Source", "read_source"]

SIDES = ("baseline", "candidate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Labels and scores of test rows.

    Attributes
    ----------
    y_true : array of bool, shape (n,)
        Whether a row is viral.
    y_score : dict of side to array of float, shape (n,)
        The probability of the viral class, in [0, 1]; only sides that have scores.
    """

    y_true: np.ndarray[Any, np.dtype[np.bool_]]
    y_score: dict[str, np.ndarray[Any, np.dtype[np.float64]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A verdict and the scores behind it, None where there are none."""

    verdict: dict[str, Any]
    scores: Scores | None
    mark: str

    def name(self, side: str) -> str:
        """Return what a side is called in a legend; random weights are told in the title."""
        facts = as_mapping(self.verdict.get(side))
        name = label_text(as_text(facts.get("name")), 40)
        return f"{side}: {name}" if name else side


def read_source(verdict: Mapping[str, Any]) -> Source:
    """Return what can be drawn from.

    The predictions are used only if they are the file that the verdict names, by its digest.
    """
    plain = as_json(verdict)
    return Source(verdict=plain, scores=_scores(plain), mark=read_outcome(plain).short_mark)


def _scores(verdict: Mapping[str, Any]) -> Scores | None:
    entry = as_mapping(as_mapping(verdict.get("artifacts")).get("predictions"))
    table = _read_table(as_text(entry.get("path")), as_text(entry.get("sha256")))
    if table is None or "label" not in table:
        return None
    columns = {side: f"{side}_score" for side in SIDES if f"{side}_score" in table}
    numbers = table[["label", *columns.values()]].astype("float64")
    numbers = numbers.dropna(axis="columns", how="all").dropna()
    used = {side: name for side, name in columns.items() if name in numbers}
    is_valid = numbers.isin([0, 1])["label"]
    for name in used.values():
        is_valid &= numbers[name].between(0, 1)
    kept = numbers[is_valid]
    if not used or kept.empty:
        return None
    scores = {side: kept[name].to_numpy() for side, name in used.items()}
    return Scores(y_true=kept["label"].to_numpy() == 1, y_score=scores)


def _read_table(name: str, sha256: str) -> pd.DataFrame | None:
    import pandas as pd

    path = Path(name)
    try:
        if not name or not path.is_file() or digest_file(path) != sha256:
            return None
        return pd.read_parquet(path)
    except (OSError, ValueError):  # not readable, or no Parquet
        return None
