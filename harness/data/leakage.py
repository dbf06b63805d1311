"""Leaks between the parts of a split: what may not happen, and what should be known.

Hard leaks are counted exactly and fail the criterion ``split-integrity``; how near the test rows
are to the training part otherwise (same genome, neighbouring window, other frame) is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from harness.data.groups import Codes, is_in, sequence_codes, window_codes
from harness.data.records import check_records
from harness.data.split import RowMasks, Split

__all__ = ["LeakCheck", "LeakReport", "NearbyRows", "find_feature_leaks", "find_leaks"]

MAX_EXAMPLES = 5
ROWS_PER_BATCH = 4096

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCheck:
    """One thing that may not happen, and how often it does.

    Attributes
    ----------
    what : str
        What was looked for, in words.
    count : int
        How often it was found: rows, or sequences where the words say so. 0 is clean.
    examples : tuple of tuple of str
        Ids concerned, up to five; pairs where two rows clash.
    is_in_data : bool
        Whether the data contradict themselves, however they are split.
    """

    what: str
    count: int
    examples: tuple[tuple[str, ...], ...] = ()
    is_in_data: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NearbyRows:
    """Test rows with something close to them in the training part; allowed, but reported.

    Attributes
    ----------
    what : str
        What is close: the same genome, a neighbouring window, another frame of the window.
    count : int
        Test rows for which it is in the training part.
    n_test : int
        All test rows.
    """

    what: str
    count: int
    n_test: int

    @property
    def share(self) -> Fraction:
        """Return the share of test rows, from 0 to 1; 0 where there are none."""
        return Fraction(self.count, self.n_test) if self.n_test else Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """All checks of one split.

    Attributes
    ----------
    checks : tuple of LeakCheck
        The hard ones, those with nothing found included.
    nearby : tuple of NearbyRows
        What is reported only; empty where only features are at hand.
    compared : str
        What stood for identity: ``sequences`` or ``features``.
    """

    checks: tuple[LeakCheck, ...]
    nearby: tuple[NearbyRows, ...]
    compared: str

    @property
    def leaks(self) -> tuple[LeakCheck, ...]:
        """Return the checks that found something."""
        return tuple(check for check in self.checks if check.count)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "compared": self.compared,
            "checks": [asdict(check) for check in self.checks],
            "nearby": [asdict(near) | {"share": float(near.share)} for near in self.nearby],
        }


def find_leaks(records: pd.DataFrame, split: Split) -> LeakReport:
    """Look for anything that the test set shares with the training part, and for contradictions.

    Parameters
    ----------
    records : DataFrame
        The record table that was split.
    split : Split
        Its parts, drawn here or elsewhere.

    Returns
    -------
    LeakReport
        Sequences are compared exactly; nucleotides on both strands.

    Raises
    ------
    DataError
        If the table is not a valid record table.
    """
    check_records(records)
    masks, codes = split.masks(records["id"]), sequence_codes(records)
    checks = _hard_checks(
        records["id"],
        records["label"].to_numpy(),
        masks,
        {"nucleotides": codes.nucleotides, "protein": codes.protein},
    )
    return LeakReport(
        checks=(*checks, *_coverage(records["id"], split, masks)),
        nearby=_nearby(records, masks),
        compared="sequences",
    )


def find_feature_leaks(
    ids: pd.Series,
    features: npt.NDArray[np.floating],
    split: Split,
    *,
    labels: npt.NDArray[np.integer],
) -> LeakReport:
    """Look for leaks where only features are at hand: equal rows stand for equal sequences.

    Parameters
    ----------
    ids : Series of str, (n_rows,)
        Record ids.
    features : array, (n_rows, dim)
        Read in batches, so it may be mapped from a file. Rows are equal if all bytes are.
    split : Split
        The parts.
    labels : int array, (n_rows,)
        1 viral, 0 not.

    Returns
    -------
    LeakReport
        Without ``nearby``. A sequence that was embedded twice with a rounding difference is not
        recognised, nor is its reverse complement.

    Raises
    ------
    ValueError
        If ids, features and labels differ in length.
    """
    if not len(ids) == len(features) == len(labels):
        raise ValueError(
            f"{len(ids)} ids, {len(features)} feature rows and {len(labels)} labels do not match"
        )
    masks = split.masks(ids)
    checks = _hard_checks(ids, labels, masks, {"features": _feature_codes(features)})
    return LeakReport(
        checks=(*checks, *_coverage(ids, split, masks)), nearby=(), compared="features"
    )


def _hard_checks(
    ids: pd.Series,
    label: npt.NDArray[np.integer],
    masks: RowMasks,
    codes: Mapping[str, Codes],
) -> Iterator[LeakCheck]:
    same = {"id": np.arange(len(ids)), **codes}
    for name, code in same.items():
        what = f"test rows with the same {name} as a row of the training part"
        yield _shared(what, ids, code, masks.test, masks.training_part)
    for name, code in same.items():
        what = f"validation rows with the same {name} as a row of train"
        yield _shared(what, ids, code, masks.validation, masks.train)
    for name, code in codes.items():
        yield _two_labels(f"{name} with two labels (distinct sequences)", ids, code, label)


def _shared(what: str, ids: pd.Series, codes: Codes, part: Mask, other: Mask) -> LeakCheck:
    rows = np.flatnonzero(part)
    partner = _first_row_of_code(codes, other)[codes[rows]]
    found = partner >= 0
    return _check(what, ids, rows[found], partner[found])


def _two_labels(
    what: str, ids: pd.Series, codes: Codes, label: npt.NDArray[np.integer]
) -> LeakCheck:
    viral, other = _first_row_of_code(codes, label == 1), _first_row_of_code(codes, label == 0)
    found = (viral >= 0) & (other >= 0)
    return replace(_check(what, ids, viral[found], other[found]), is_in_data=True)


def _first_row_of_code(codes: Codes, is_member: Mask) -> Codes:
    """Return the first member row of each code, (n_codes,); -1 where there is none."""
    rows = np.flatnonzero(is_member)[::-1]
    first = np.full(int(codes.max(initial=-1)) + 1, -1, dtype=np.int64)
    first[codes[rows]] = rows
    return first


def _check(what: str, ids: pd.Series, *rows: Codes) -> LeakCheck:
    columns = [ids.iloc[row[:MAX_EXAMPLES]] for row in rows]
    examples = tuple(tuple(map(str, clash)) for clash in zip(*columns, strict=True))
    return LeakCheck(what=what, count=len(rows[0]), examples=examples)


def _coverage(ids: pd.Series, split: Split, masks: RowMasks) -> tuple[LeakCheck, LeakCheck]:
    in_no_part = np.flatnonzero(~(masks.training_part | masks.test))
    named = pd.concat([split.train, split.validation, split.test], ignore_index=True)
    strangers = np.flatnonzero(~is_in(named, ids))
    return (
        _check("records in no part of the split", ids, in_no_part),
        _check("ids in the split without a record", named, strangers),
    )


def _nearby(records: pd.DataFrame, masks: RowMasks) -> tuple[NearbyRows, ...]:
    genome = np.where(records["genome"] == "", -1, pd.factorize(records["genome"])[0])
    window = window_codes(records)
    return (
        _near("genome in the training part", genome, masks),
        _near("neighbouring window in the training part", window, masks, offsets=(-1, 1)),
        _near("other frame of the same window in the training part", window, masks),
    )


def _near(
    what: str, place: Codes, masks: RowMasks, *, offsets: tuple[int, ...] = (0,)
) -> NearbyRows:
    is_known = place >= 0
    in_training = pd.unique(place[masks.training_part & is_known])
    tested = pd.Series(place[masks.test & is_known])
    is_near = np.logical_or.reduce([(tested + step).isin(in_training) for step in offsets])
    return NearbyRows(what=what, count=int(is_near.sum()), n_test=int(masks.test.sum()))


def _feature_codes(features: npt.NDArray[np.floating]) -> Codes:
    digests: list[bytes] = []
    for start in range(0, len(features), ROWS_PER_BATCH):
        batch = np.ascontiguousarray(features[start : start + ROWS_PER_BATCH])
        digests += [hashlib.blake2b(row.data, digest_size=16).digest() for row in batch]
    encoded = pa.array(digests, pa.binary(16)).dictionary_encode()
    codes: Codes = encoded.indices.to_numpy().astype(np.int64)
    return codes
