"""Predictions and metrics that come from elsewhere: reading them, joining them by record id.

A row that is missing, doubled or unreadable is an error that names some; nothing is dropped.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pandas as pd

from harness.errors import DataError, MissingInput

__all__ = [
    "ReportedMetrics",
    "join_predictions",
    "name_some",
    "read_metrics",
    "read_predictions",
]

_SHOWN_IDS = 5
_REPORTED = ("precision", "recall", "f1", "roc_auc", "average_precision", "mcc", "brier")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedMetrics:
    """What is known of a baseline of which only metrics are at hand.

    Attributes
    ----------
    accuracy : Fraction
        Share right, exactly as reported.
    n_rows : int
        Rows that it was measured on.
    others : dict of str to float
        Further metrics that were reported: for display, never judged.
    """

    accuracy: Fraction
    n_rows: int
    others: dict[str, float]


def read_predictions(path: Path) -> pd.DataFrame:
    """Read the scores of one side.

    Parameters
    ----------
    path : Path
        CSV (``.csv``, ``.csv.gz``) or Parquet (``.parquet``) with the columns ``id`` and ``score``,
        the viral class's probability; other columns are ignored.

    Returns
    -------
    DataFrame
        ``id`` (str, unique) and ``score`` (float64, from 0 to 1), in the file's order.

    Raises
    ------
    MissingInput
        If there is no such file.
    DataError
        If it cannot be read, lacks a column, holds an id twice or not at all, or a score that is
        not a number from 0 to 1.
    """
    table = _read_table(path)
    missing = [name for name in ("id", "score") if name not in table]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]!r} is missing; expected id and score, "
            f"has {', '.join(map(str, table.columns))}"
        )
    ids = table["id"].astype("str")
    scores = pd.to_numeric(table["score"], errors="coerce").astype("float64")
    nameless = table["id"].isna() | (ids == "")
    if nameless.any():
        first = int(nameless.argmax()) + 1
        raise DataError(f"{path}: {nameless.sum()} rows have no id; the first is row {first}")
    _refuse(path, ids, ids.duplicated(), "occur twice")
    _refuse(path, ids, ~scores.between(0, 1), "have a score that is no probability from 0 to 1")
    return pd.DataFrame({"id": ids, "score": scores})


def read_metrics(path: Path) -> ReportedMetrics:
    """Read bare metrics, such as ``{"accuracy": 0.9048, "n": 210000}``.

    Parameters
    ----------
    path : Path
        JSON object with ``accuracy`` (share right) and ``n`` (rows), and optionally ``precision``,
        ``recall``, ``f1``, ``roc_auc``, ``average_precision``, ``mcc``, ``brier``.

    Raises
    ------
    MissingInput
        If there is no such file.
    DataError
        If it is no such object.
    """
    _require_file(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_float=Fraction)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    known = ("accuracy", "n", *_REPORTED)
    if not isinstance(content, dict) or not {"accuracy", "n"} <= set(content) <= set(known):
        raise DataError(
            f"{path}: expected an object with accuracy and n; known: {', '.join(known)}"
        )
    accuracy, n_rows = content["accuracy"], content["n"]
    if type(n_rows) is not int or n_rows < 1:
        raise DataError(f"{path}: n is {n_rows!s}; expected the number of rows, at least 1")
    numbers = {name: value for name, value in content.items() if name != "n"}
    for name, value in numbers.items():
        lowest = -1 if name == "mcc" else 0
        if type(value) not in (int, Fraction) or not lowest <= value <= 1:
            shown = float(value) if isinstance(value, Fraction) else value
            raise DataError(f"{path}: {name} is {shown!s}; expected a number from {lowest} to 1")
    others = {name: float(value) for name, value in numbers.items() if name != "accuracy"}
    return ReportedMetrics(accuracy=Fraction(accuracy), n_rows=n_rows, others=others)


def join_predictions(
    test_rows: pd.DataFrame, baseline: pd.DataFrame, candidate: pd.DataFrame
) -> pd.DataFrame:
    """Put the scores of both sides beside the test rows.

    Parameters
    ----------
    test_rows : DataFrame
        ``id`` (unique), ``label`` and whatever else is to be kept, such as ``lineage``, ``genome``,
        ``length``.
    baseline, candidate : DataFrame
        ``id`` and ``score``, with exactly the ids of the test rows, in any order.

    Returns
    -------
    DataFrame
        The test rows, in their order, with ``baseline_score`` and ``candidate_score``.

    Raises
    ------
    DataError
        If a side has other ids than the test rows; some are listed.
    """
    joined = test_rows.reset_index(drop=True)
    for side, scores in (("baseline", baseline), ("candidate", candidate)):
        _require_same_ids(side, joined["id"], scores["id"])
        by_id = scores.set_index("id")["score"]
        joined[f"{side}_score"] = by_id.reindex(joined["id"]).to_numpy(dtype="float64")
    return joined


def _read_table(path: Path) -> pd.DataFrame:
    _require_file(path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.name.endswith((".csv", ".csv.gz")):
            return pd.read_csv(path, dtype="str", keep_default_na=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # pandas' and Arrow's too
        raise DataError(f"{path}: cannot be read: {error}") from error
    raise DataError(f"{path}: expected a file named .csv, .csv.gz or .parquet")


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise MissingInput(
            f"{path}: no such file", remedy="Put it there, or correct the path in gate.toml"
        )


def _refuse(path: Path, ids: pd.Series[str], is_bad: pd.Series[bool], problem: str) -> None:
    if is_bad.any():
        raise DataError(f"{path}: {is_bad.sum()} ids {problem}: {name_some(ids[is_bad].tolist())}")


def _require_same_ids(side: str, expected: pd.Series[str], found: pd.Series[str]) -> None:
    if found.duplicated().any():
        doubled = found[found.duplicated()].tolist()
        raise DataError(f"{side}: {len(doubled)} ids occur twice: {name_some(doubled)}")
    absent = expected[~expected.isin(found)].tolist()
    foreign = found[~found.isin(expected)].tolist()
    if absent or foreign:
        raise DataError(
            f"{side}: expected predictions of exactly the {len(expected)} test rows; "
            f"{len(absent)} are missing ({name_some(absent)}), "
            f"{len(foreign)} are of other rows ({name_some(foreign)}). "
            "Predict the rows of this split's test set, all of them and no others"
        )


def name_some(ids: Sequence[str]) -> str:
    """Return the first few of some ids, and how many more there are."""
    if not ids:
        return "none"
    rest = len(ids) - _SHOWN_IDS
    return ", ".join(ids[:_SHOWN_IDS]) + (f" and {rest} more" if rest > 0 else "")
