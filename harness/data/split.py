"""The split of a record table into train, validation and test, and its form on disk.

Owns the sampler: which whole units of records make up a random part of each class's exact size. It
draws the test set, the validation part, and every redraw that the checks of representativeness
compare them with. What a unit is, ``groups`` decides; whether the result is representative or leaks
is judged elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import write_atomically
from harness.data.groups import Codes, is_in, order_by_id, sampling_units, sequence_codes
from harness.data.inputs import read_parquet
from harness.data.records import check_records
from harness.documents import exact_number, read_json
from harness.errors import ArtifactError, DataError, HarnessError

__all__ = ["RowMasks", "Sampler", "Split", "draw_split", "exact_fraction"]


N_CLASSES = 2


class Sampler:
    """Draws a part of each class at random, in whole units.

    The units are walked in random order; each is taken if it still fits in the number of rows
    that its class, or each of its classes, may have. Where no unit fits into what is left,
    one more is taken if that comes nearer to the numbers, or if a class would be absent otherwise.

    Parameters
    ----------
    records : DataFrame
        A record table.
    test_fraction : str, float or Fraction
        The share of each class to draw, strictly between 0 and 1. ``round(fraction * n)`` rows of
        a class of n are aimed at, ties to even, in exact arithmetic; a float counts as the
        decimal number that it prints as.
    sampling_unit : {"record", "window", "genome", "lineage"}
        What is drawn as a whole; see ``sampling_units``.
    units : int array, (n_rows,), optional
        Other units to draw, numbered from 0 on, in place of those of ``sampling_unit``. Numbers
        that do not occur do no harm.

    Attributes
    ----------
    units : int array, (n_rows,)
        Each row's unit.
    unit_rows : int array, (n_classes, n_units)
        How many rows of each class a unit has.
    targets : int array, (n_classes,)
        How many rows of each class are aimed at.

    Raises
    ------
    ValueError
        For a fraction outside (0, 1), or an unknown sampling unit.
    DataError
        If genomes are drawn and a row's genome is unknown.

    Examples
    --------
    >>> sampler = Sampler(records, "0.10", "window")  # doctest: +SKIP
    >>> is_test = sampler.draw(np.random.default_rng(42))  # doctest: +SKIP
    """

    def __init__(
        self,
        records: pd.DataFrame,
        test_fraction: str | float | Fraction = "0.10",
        sampling_unit: str = "record",
        *,
        units: Codes | None = None,
    ) -> None:
        fraction = exact_fraction(test_fraction)
        label = records["label"].to_numpy()
        self.units = sampling_units(records, sampling_unit) if units is None else units
        self.unit_rows = _count_rows(self.units, label)
        n_rows = self.unit_rows.sum(axis=1)
        self.targets = np.array([round(fraction * int(n)) for n in n_rows], dtype=np.int64)

    def draw(self, rng: np.random.Generator) -> Mask:
        """Draw once: (n_rows,), True for the rows drawn."""
        return self.draw_units(rng)[self.units]

    def draw_units(self, rng: np.random.Generator) -> Mask:
        """Draw once: (n_units,), True for the units drawn. Cheaper than ``draw``."""
        order = rng.permutation(self.unit_rows.shape[1])
        rows = self.unit_rows[:, order]
        is_taken = _walk(rows, self.targets)
        _come_nearer(rows, self.targets, is_taken)
        drawn = np.empty_like(is_taken)
        drawn[order] = is_taken
        return drawn


def exact_fraction(value: str | float | Fraction) -> Fraction:
    """Return a fraction between 0 and 1 exactly; a float counts as the decimal that it prints as.

    Examples
    --------
    >>> exact_fraction(0.1), exact_fraction("0.10"), exact_fraction("1/3")
    (Fraction(1, 10), Fraction(1, 10), Fraction(1, 3))

    Raises
    ------
    ValueError
        If it is no number, or does not lie strictly between 0 and 1.
    """
    fraction = Fraction(str(value))
    if not 0 < fraction < 1:
        raise ValueError(f"a fraction must lie between 0 and 1, got {value}")
    return fraction


def _count_rows(units: Codes, label: npt.NDArray[np.int8]) -> Codes:
    n_units = int(units.max(initial=-1)) + 1
    counts = [np.bincount(units[label == c], minlength=n_units) for c in range(N_CLASSES)]
    return np.stack(counts).astype(np.int64)


def _walk(rows: Codes, targets: Codes) -> Mask:
    """Take the units that still fit, in order; a few passes, each over what may still fit."""
    is_taken = np.zeros(rows.shape[1], dtype=bool)
    left = targets.copy()
    waiting = _fitting(rows, left, np.arange(rows.shape[1]))
    while waiting.size:
        filled = rows[:, waiting].cumsum(axis=1)
        n_taken = min(
            int(np.searchsorted(filled[c], left[c], side="right")) for c in range(N_CLASSES)
        )
        is_taken[waiting[:n_taken]] = True
        left -= filled[:, n_taken - 1]
        waiting = _fitting(rows, left, waiting[n_taken:])
    return is_taken


def _fitting(rows: Codes, left: Codes, waiting: Codes) -> Codes:
    fits = np.logical_and.reduce([rows[c, waiting] <= left[c] for c in range(N_CLASSES)])
    return waiting[fits]


def _come_nearer(rows: Codes, targets: Codes, is_taken: Mask) -> None:
    """Take a unit that is too large to fit where that helps; leave some rows of each class."""
    for c in range(N_CLASSES):
        taken = rows[:, is_taken].sum(axis=1)
        left = targets - taken
        if left[c] <= 0:
            continue
        remaining = (rows.sum(axis=1) - taken)[:, np.newaxis]
        leaves_some = ((rows < remaining) | (rows == 0)).all(axis=0)
        waiting = np.flatnonzero(~is_taken & leaves_some & (rows[c] > 0))
        if not waiting.size:
            continue
        rows_off = np.abs(left[:, np.newaxis] - rows[:, waiting]).sum(axis=0)
        nearest = int(np.argmin(rows_off))
        is_taken[waiting[nearest]] = taken[c] == 0 or rows_off[nearest] < np.abs(left).sum()


PARTS = ("train", "validation", "test")
TABLE_FILE, SETTINGS_FILE = "split.parquet", "split.json"

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """How many rows of one class went where.

    Attributes
    ----------
    label : int
        1 viral, 0 not.
    n_train, n_validation, n_test : int
        Rows in each part.
    target_test, target_validation : int
        Rows that the fractions ask for; rows drawn together may prevent the exact number.
    n_units, n_test_units : int
        Sampling units with rows of this class: in all, and in the test set.
    """

    label: int
    n_train: int
    n_validation: int
    n_test: int
    target_test: int
    target_validation: int
    n_units: int
    n_test_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMasks:
    """Which rows of one table belong to each part: bool arrays, (n_rows,)."""

    train: Mask
    validation: Mask
    test: Mask

    @property
    def training_part(self) -> Mask:
        """Train and validation together."""
        return self.train | self.validation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Three sets of record ids, and how they were drawn.

    Attributes
    ----------
    train, validation, test : Series of str
        Record ids, sorted. Train and validation together are the training part.
    sampling_unit : str
        What was drawn as a whole: record, window, genome or lineage.
    test_fraction : Fraction
        Share of each class that the test set is to have.
    validation_fraction : Fraction
        Share of each class in the training part that validation is to have.
    seed : int
        Seed of the draw.
    counts : tuple of ClassCount
        Target and actual rows of each class.
    is_brought : bool
        Whether the test ids were named, and only validation was drawn.
    """

    train: pd.Series
    validation: pd.Series
    test: pd.Series
    sampling_unit: str
    test_fraction: Fraction
    validation_fraction: Fraction
    seed: int
    counts: tuple[ClassCount, ...]
    is_brought: bool = False

    def masks(self, ids: pd.Series) -> RowMasks:
        """Say for each of a table's ids, in the table's order, which part it belongs to."""
        return RowMasks(**{part: is_in(ids, getattr(self, part)) for part in PARTS})

    def id_digests(self) -> dict[str, str]:
        """Return the sha256 (hex) of each part's ids, sorted, one a line."""
        return {part: _digest_ids(getattr(self, part)) for part in PARTS}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, counts and id digests as plain JSON values."""
        brought = {"brought": True} if self.is_brought else {}
        return brought | {
            "sampling_unit": self.sampling_unit,
            "test_fraction": str(self.test_fraction),
            "validation_fraction": str(self.validation_fraction),
            "seed": self.seed,
            "counts": [asdict(count) for count in self.counts],
            "ids_sha256": self.id_digests(),
        }

    def save(self, folder: Path) -> None:
        """Write ``split.parquet`` (id, part) and ``split.json`` (the rest) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = [pd.DataFrame({"id": getattr(self, part), "part": part}) for part in PARTS]
        pd.concat(parts).to_parquet(folder / TABLE_FILE, index=False)
        write_atomically(folder / SETTINGS_FILE, json.dumps(self.to_dict(), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        ArtifactError
            If a file is missing or unreadable, or the ids are not those that were saved.
        """
        try:
            settings = read_json(folder / SETTINGS_FILE)
            table = read_parquet(folder / TABLE_FILE).to_pandas()
            split = cls(
                **{
                    part: table["id"][table["part"] == part].reset_index(drop=True)
                    for part in PARTS
                },
                sampling_unit=settings["sampling_unit"],
                test_fraction=exact_number(settings["test_fraction"]),
                validation_fraction=exact_number(settings["validation_fraction"]),
                seed=settings["seed"],
                counts=tuple(ClassCount(**count) for count in settings["counts"]),
                is_brought=settings.get("brought", False),
            )
            expected = settings["ids_sha256"]
        except (OSError, ValueError, KeyError, TypeError, HarnessError) as error:
            raise ArtifactError(f"{folder}: holds no readable split: {error}") from error
        if split.id_digests() != expected:
            raise ArtifactError(
                f"{folder / TABLE_FILE}: its ids are not those that {SETTINGS_FILE} names. "
                "Restore the folder, or draw the split again"
            )
        return split


def draw_split(
    records: pd.DataFrame,
    *,
    test_fraction: str | float | Fraction = "0.10",
    sampling_unit: str = "record",
    seed: int = 42,
    validation_fraction: str | float | Fraction = "0.10",
    test_ids: pd.Series[str] | None = None,
) -> Split:
    """Draw train, validation and test at random within each class.

    Parameters
    ----------
    records : DataFrame
        A record table.
    test_fraction : str, float or Fraction
        Share of each class to test on: ``round(fraction * n)`` rows, ties to even, exact up to
        rows that are drawn together.
    sampling_unit : {"record", "window", "genome", "lineage"}
        What is drawn as a whole into the test set.
    seed : int
        The same seed gives the same ids, however rows and files are ordered.
    validation_fraction : str, float or Fraction
        Share of each class of the training part to stop training by.
    test_ids : Series of str, optional
        The test set, where it is not to be drawn; its shares are what is aimed at then.

    Returns
    -------
    Split
        The parts are disjoint and cover all records. No sequence is in two of them, nor anything
        else that is drawn as a whole: validation is cut in the unit of the test set.

    Raises
    ------
    ValueError
        For a fraction outside (0, 1), or an unknown sampling unit.
    DataError
        If the table is not a valid record table, genomes are drawn and one is unknown, or the test
        ids are no records or leave a class without a part.

    Notes
    -----
    A sequence that carries both labels goes into one part with both; ``find_leaks`` reports it.
    """
    check_records(records)
    order, codes = order_by_id(records), sequence_codes(records)
    units = sampling_units(records, sampling_unit, codes=codes, order=order)
    test_seed, validation_seed = np.random.SeedSequence(seed).spawn(2)

    tester = Sampler(records, test_fraction, units=units)
    fraction = exact_fraction(test_fraction)
    if test_ids is None:
        test_units = tester.draw_units(np.random.default_rng(test_seed))
        is_test = test_units[units]
    else:
        is_test = _find_brought(records, test_ids)
        test_units = np.isin(np.arange(tester.unit_rows.shape[1]), units[is_test])
        tester.targets = np.bincount(records["label"][is_test], minlength=N_CLASSES)
        fraction = Fraction(int(is_test.sum()), len(records))

    remaining = records.loc[~is_test, ["label"]]
    validator = Sampler(remaining, validation_fraction, units=units[~is_test])
    is_validation = np.zeros_like(is_test)
    is_validation[~is_test] = validator.draw(np.random.default_rng(validation_seed))

    masks = RowMasks(train=~(is_test | is_validation), validation=is_validation, test=is_test)
    return Split(
        **{part: _ids_in_order(records, order, getattr(masks, part)) for part in PARTS},
        sampling_unit=sampling_unit,
        test_fraction=fraction,
        validation_fraction=exact_fraction(validation_fraction),
        seed=seed,
        is_brought=test_ids is not None,
        counts=_count(records["label"].to_numpy(), masks, tester, validator, test_units),
    )


def _find_brought(records: pd.DataFrame, test_ids: pd.Series[str]) -> Mask:
    """Return which rows are named; all ids have to be records, and both parts hold both classes."""
    unknown = test_ids[~is_in(test_ids, records["id"])]
    if len(unknown):
        raise DataError(
            f"{len(unknown):,} of {len(test_ids):,} ids of the test set that is brought are no "
            f"records, such as {', '.join(map(repr, unknown[:3]))}. Name their files in [data], or "
            "leave out those that stand in rejected.csv"
        )
    is_test = is_in(records["id"], test_ids)
    for is_part, name in ((is_test, "test set that is brought"), (~is_test, "rest")):
        if absent := {0, 1} - set(records["label"][is_part]):
            raise DataError(f"the {name} has no record of label {absent.pop()}. Bring both classes")
    return is_test


def _count(
    label: npt.NDArray[np.int8],
    masks: RowMasks,
    tester: Sampler,
    validator: Sampler,
    test_units: Mask,
) -> tuple[ClassCount, ...]:
    has_class = tester.unit_rows > 0  # (class, unit)
    return tuple(
        ClassCount(
            label=c,
            n_train=int((label[masks.train] == c).sum()),
            n_validation=int((label[masks.validation] == c).sum()),
            n_test=int((label[masks.test] == c).sum()),
            target_test=int(tester.targets[c]),
            target_validation=int(validator.targets[c]),
            n_units=int(has_class[c].sum()),
            n_test_units=int(has_class[c, test_units].sum()),
        )
        for c in range(len(has_class))
    )


def _ids_in_order(records: pd.DataFrame, order: Codes, is_member: Mask) -> pd.Series:
    return records["id"].iloc[order[is_member[order]]].reset_index(drop=True)


def _digest_ids(ids: pd.Series) -> str:
    return hashlib.sha256("".join(f"{name}\n" for name in ids.tolist()).encode()).hexdigest()
