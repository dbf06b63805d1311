"""What comparing train and test yields: values only, computed in ``representativeness``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

__all__ = ["Check", "Histogram", "LineageRow", "Outcome", "Representativeness", "SampledClass"]

SampledClass = int | Literal["both"]


class Outcome(StrEnum):
    """How one check came out."""

    PASS = "PASS"  # noqa: S105 - a state, not a password
    WARN = "WARN"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_RUN = "NOT_RUN"
    REPORTED = "REPORTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One trait of train and test, compared within one class.

    Attributes
    ----------
    label : int or "both"
        The class; both together are only reported.
    what : str
        The trait: ``class count``, ``lineage``, ``lineage share``, ``source kind``, ``frame``,
        ``length``, ``GC`` or ``classifier``.
    statistic : str
        Name of the statistic.
    value : float or None
        The statistic. For ``class count``, how many rows the test set is off its number; for
        ``lineage share``, test share over train share of the lineage with the smallest p,
        infinite if it is in the test set alone.
    warn_floor, fail_floor : float or None
        The effects from which on it may warn and fail.
    p : float or None
        How likely the honest sampler is to give an effect as large; None where the effect is
        below its floors.
    alpha : float or None
        The check fails only if ``p`` is at most this.
    smallest_caught : float or None
        The smallest effect that would have failed with this many units; None where none would.
    state : Outcome
        How it came out.
    detail : str
        What a reader needs beside the numbers: the lineage, or what is missing to judge.
    """

    label: SampledClass
    what: str
    statistic: str
    state: Outcome
    value: float | None = None
    warn_floor: float | None = None
    fail_floor: float | None = None
    p: float | None = None
    alpha: float | None = None
    smallest_caught: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageRow:
    """One lineage of one class in train and test, counted in sampling units.

    Attributes
    ----------
    label : int or "both"
        The class.
    lineage : str
        Its name; "" for the records without one.
    n_train, n_test : int
        Sampling units.
    expected_test : float
        Sampling units that the test set would hold in proportion.
    ratio : float
        Test share over train share; infinite for a lineage that is in the test set alone.
    p : float
        Two-sided hypergeometric.
    alpha : float
        The lineage fails only if ``p`` is at most this.
    smallest_caught : float or None
        The smallest ratio above 1 that would have failed; None where none would.
    state : Outcome
        PASS, FAIL or INCONCLUSIVE.
    """

    label: SampledClass
    lineage: str
    n_train: int
    n_test: int
    expected_test: float
    ratio: float
    p: float
    alpha: float
    smallest_caught: float | None
    state: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """One trait of one class in train and test, for a figure.

    Attributes
    ----------
    label : int or "both"
        The class.
    what : str
        ``length`` (residues) or ``GC`` (share, 0 to 1).
    edges : tuple of float, (n_bins + 1,)
        Ends of the bins.
    train, test : tuple of float, (n_bins,)
        Shares of the rows of each part, which sum to 1; all 0 for an empty part.
    """

    label: SampledClass
    what: str
    edges: tuple[float, ...]
    train: tuple[float, ...]
    test: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Representativeness:
    """Train against test.

    Attributes
    ----------
    sampling_unit : str
        What was drawn as a whole: ``record``, ``window`` or ``genome``.
    test_fraction : str
        The share of each class that was to be drawn.
    seed : int
        Of the redraws and of the classifier's halves.
    n_redraws : int
        The most redraws that a p-value rests on.
    n_checks : int
        Checks that share the family-wise error rate.
    checks : tuple of Check
        Class 1, class 0, then both.
    lineages : tuple of LineageRow
        Every lineage of class 1, then of class 0; by p, the least likely first.
    histograms : tuple of Histogram
        Length and GC of each class.
    """

    sampling_unit: str
    test_fraction: str
    seed: int
    n_redraws: int
    n_checks: int
    checks: tuple[Check, ...]
    lineages: tuple[LineageRow, ...]
    histograms: tuple[Histogram, ...]
