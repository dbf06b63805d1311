"""The rule that makes a drop PASS, FAIL or INCONCLUSIVE: ``DropFinding`` decides accuracy-drop.

Observed drops are compared exactly, bounds as floats. How the bounds come about is the work of
``bounds`` and ``calibration``; what is said of it, that of ``advice``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import stats

from harness.criteria.bounds import SettlingSize, finite
from harness.criteria.calibration import PairedBounds, UnitBounds, blind_spot_percent
from harness.criteria.metrics import precision_at
from harness.criteria.result import State
from harness.criteria.units import GenomeEffect, Genomes, PairedOutcomes

__all__ = ["DropFinding", "SeedDrop", "blind_spots", "paired_evidence"]

# The shares of viruses for which the precision is reported: what a user sees depends on them.
PREVALENCES = (0.01, 0.05, 0.5)
CLASSES = {"nonviral": 0, "viral": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedDrop:
    """The drop between the two heads that were trained with one seed.

    Attributes
    ----------
    seed : int or None
        None where it is not known, as for predictions that are brought.
    drop_points : Fraction
        Exact, in percentage points.
    interval_points : (float, float)
        One-sided 95% bounds of the drop on genomes like these.
    """

    seed: int | None
    drop_points: Fraction
    interval_points: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropFinding:
    """A measured drop and how sure it is.

    Attributes
    ----------
    limit_points : Fraction
        The drop that is too much, exact, in percentage points.
    class_limit_points : Fraction
        A class that drops by more fails by itself.
    baseline_accuracy, candidate_accuracy : Fraction
        Exact shares, of the heads that ship; their difference is the drop.
    class_drops : mapping of str to Fraction
        The drop in each class that has rows, exact, in percentage points.
    seeds : tuple of SeedDrop
        One a seed; the first is that of the heads that ship.
    effect : GenomeEffect
        What the genomes do to the drop.
    genomes : Genomes
        Which they are.
    bounds : PairedBounds or None
        How the bounds of the first seed came about; None where they are not paired.
    lacks_groups : bool
        Whether genomes are required but were not given.
    lacking : tuple of str
        What else a PASS lacks besides bounds below the limit.
    settling : SettlingSize or None
        What would settle it, where the drop is below the limit, its bound is not, and a larger
        test set could help.
    """

    limit_points: Fraction
    class_limit_points: Fraction
    baseline_accuracy: Fraction
    candidate_accuracy: Fraction
    class_drops: Mapping[str, Fraction]
    seeds: tuple[SeedDrop, ...]
    effect: GenomeEffect
    genomes: Genomes
    bounds: PairedBounds | None = None
    lacks_groups: bool = False
    lacking: tuple[str, ...] = ()
    settling: SettlingSize | None = None

    @property
    def drop_points(self) -> Fraction:
        """The drop of the heads that ship."""
        return self.seeds[0].drop_points

    @property
    def interval_points(self) -> tuple[float, float]:
        """Its bounds."""
        return self.seeds[0].interval_points

    @property
    def unbounded(self) -> tuple[SeedDrop, ...]:
        """The seeds whose upper bound is not below the limit."""
        return tuple(one for one in self.seeds if not one.interval_points[1] < self.limit_points)

    @property
    def seed_decides(self) -> bool:
        """Whether the heads that ship are within the limit, and others are not."""
        return bool(self.unbounded) and self.seeds[0] not in self.unbounded

    @property
    def failed_classes(self) -> dict[str, Fraction]:
        """The classes that drop by more than one may."""
        return {
            name: drop for name, drop in self.class_drops.items() if drop > self.class_limit_points
        }

    @property
    def missing(self) -> tuple[str, ...]:
        """What a PASS lacks, for reading; empty if nothing."""
        below = f"an upper bound below {float(self.limit_points):g} points"
        bounds = (
            f"{below}{f' for seed {one.seed}' if len(self.seeds) > 1 else ''} "
            f"(it is {one.interval_points[1]:.2f})"
            for one in self.unbounded
        )
        groups = ("the genome of each row",) if self.lacks_groups else ()
        return (*groups, *self.lacking, *bounds)

    @property
    def state(self) -> State:
        """FAIL if an observed drop is too much, PASS if nothing is missing."""
        if self.drop_points >= self.limit_points or self.failed_classes:
            return State.FAIL
        return State.INCONCLUSIVE if self.missing else State.PASS

    @property
    def relative_drop_percent(self) -> Fraction | None:
        """The drop in percent of the baseline's accuracy; None where that is 0."""
        return self.drop_points / self.baseline_accuracy if self.baseline_accuracy else None

    @property
    def error_ratio(self) -> Fraction | None:
        """The candidate's error rate over the baseline's; None where that is 0."""
        baseline_errors = 1 - self.baseline_accuracy
        return (1 - self.candidate_accuracy) / baseline_errors if baseline_errors else None

    def to_evidence(self) -> dict[str, Any]:
        """Return the numbers as JSON values; what is infinite or undefined is None."""
        relative, ratio = self.relative_drop_percent, self.error_ratio
        units = () if self.bounds is None else self.bounds.by_unit
        return {
            "drop_points": float(self.drop_points),
            "lower_bound_points": self.interval_points[0],
            "upper_bound_points": self.interval_points[1],
            "relative_drop_percent": None if relative is None else float(relative),
            "error_rates": {
                "baseline": float(1 - self.baseline_accuracy),
                "candidate": float(1 - self.candidate_accuracy),
            },
            "error_ratio": None if ratio is None else float(ratio),
            "design_effect": finite(self.effect.design_effect),
            "correlation_within_genomes": finite(self.effect.correlation),
            "degrees_of_freedom": finite(self.effect.degrees_of_freedom),
            "n_genomes": self.effect.n_genomes,
            "effective_genomes": self.effect.effective_genomes,
            "has_groups": self.genomes.names is not None,
            "largest_genome": self.genomes.largest(),
            "units": [_describe_units(found) for found in units],
            "seeds": [
                {
                    "seed": one.seed,
                    "drop_points": float(one.drop_points),
                    "lower_bound_points": one.interval_points[0],
                    "upper_bound_points": one.interval_points[1],
                }
                for one in self.seeds
            ],
            "missing": list(self.missing),
            "settling": None if self.settling is None else asdict(self.settling),
        }


def paired_evidence(outcomes: PairedOutcomes) -> dict[str, Any]:
    """Return what was counted, class by class, and what follows from it, as JSON values."""
    b, c, drops = outcomes.lost, outcomes.gained, outcomes.class_drops
    return {
        "paired": True,
        "n": outcomes.n_rows,
        "b": b,
        "c": c,
        "both_right": outcomes.both_right,
        "both_wrong": outcomes.both_wrong,
        "mcnemar_p": float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0,
        "by_class": {
            name: {**counts, "drop_points": float(drops[name]) if name in drops else None}
            for name, counts in outcomes.by_class.items()
        },
        "precision_at_prevalence": _precisions(outcomes) if len(drops) == len(CLASSES) else [],
    }


def _precisions(outcomes: PairedOutcomes) -> list[dict[str, Any]]:
    """Return both sides' precision where viruses are as rare as users may meet them."""
    shares = {}
    for name, x in outcomes.by_class.items():
        right = x["baseline_right"], x["baseline_right"] - x["lost"] + x["gained"]
        shares[name] = [count / x["n"] for count in right]
    sides = zip(("baseline", "candidate"), shares["viral"], shares["nonviral"], strict=True)
    found = {side: {"recall": recall, "specificity": spec} for side, recall, spec in sides}
    return [
        {"prevalence": p} | {side: precision_at(p, **both) for side, both in found.items()}
        for p in PREVALENCES
    ]


def blind_spots(found: UnitBounds) -> dict[str, float]:
    """Return for each class how large a kind of unit may be and not be met at all, in per cent."""
    sizes = found.paired.class_sizes
    return {
        name: blind_spot_percent(sizes[:, label])
        for name, label in CLASSES.items()
        if sizes[:, label].any()
    }


def _describe_units(found: UnitBounds) -> dict[str, Any]:
    """Return one kind of unit as JSON values: sizes, multiplier and what set it, blind spots."""
    sizes, effect, calibration = found.paired.units.sizes, found.effect, found.calibration
    spots = blind_spots(found)
    return {
        "unit": found.unit,
        "n_units": effect.n_genomes,
        "effective_units": effect.effective_genomes,
        "rows_smallest": int(sizes.min()),
        "rows_median": float(np.median(sizes)),
        "rows_largest": int(sizes.max()),
        "largest": found.paired.units.largest()["name"],
        "design_effect": finite(effect.design_effect),
        "degrees_of_freedom": finite(effect.degrees_of_freedom),
        "multiplier": finite(calibration.upper),
        "set_by_losses": calibration.cell.place,
        "set_by_correlation": calibration.cell.correlation,
        "upper_bound_points": 100 * found.interval[1],
        "blind_spot_percent": {name: spots.get(name) for name in reversed(CLASSES)},
    }
