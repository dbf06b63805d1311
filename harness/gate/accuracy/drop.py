"""What was found out about a drop in accuracy, and the rule that makes it PASS or FAIL.

The one place where the criterion accuracy-drop is decided, for paired and unpaired data alike.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from harness.gate.accuracy.design_effect import GenomeEffect
from harness.gate.accuracy.settling import SettlingSize
from harness.gate.proof.outcomes import Genomes
from harness.gate.result import CriterionResult, State

__all__ = [
    "LIMIT_POINTS",
    "MIN_EFFECTIVE_GENOMES",
    "DropFinding",
    "exact_points",
    "finite",
    "lacking_genomes",
    "nothing_judged",
]

# "Accuracy drop below 5%", read as percentage points, strictly.
LIMIT_POINTS = "5"
# With fewer the bound itself cannot be trusted. Both were chosen by simulation.
MIN_EFFECTIVE_GENOMES = 10
MIN_DEGREES_OF_FREEDOM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DropFinding:
    """A measured drop and how sure it is.

    Attributes
    ----------
    drop_points, limit_points : Fraction
        The observed drop and the one that is too much, exact, in percentage points.
    baseline_accuracy, candidate_accuracy : Fraction
        Exact shares; their difference is the drop.
    interval_points : (float, float)
        One-sided 95% bounds of the drop on genomes like these.
    effect : GenomeEffect
        What the genomes do to it.
    genomes : Genomes
        Which they are.
    lacks_groups : bool
        Whether genomes are required but were not given.
    settling : SettlingSize or None
        What would settle it, where the drop is below the limit, its bound is not, and a larger
        test set could help.
    """

    drop_points: Fraction
    limit_points: Fraction
    baseline_accuracy: Fraction
    candidate_accuracy: Fraction
    interval_points: tuple[float, float]
    effect: GenomeEffect
    genomes: Genomes
    lacks_groups: bool
    settling: SettlingSize | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether the upper bound is below the limit."""
        return self.interval_points[1] < self.limit_points

    @property
    def has_too_few_genomes(self) -> bool:
        """Whether too few genomes, or too unequal ones, make the bound itself doubtful."""
        return bool(lacking_genomes(self.effect))

    @property
    def missing(self) -> tuple[str, ...]:
        """What a PASS lacks, for reading; empty if nothing."""
        lacking = ["the genome of each row"] if self.lacks_groups else []
        lacking += lacking_genomes(self.effect)
        if not self.is_bounded:
            limit, upper = float(self.limit_points), self.interval_points[1]
            lacking.append(f"an upper bound below {limit:g} points (it is {upper:.2f})")
        return tuple(lacking)

    @property
    def state(self) -> State:
        """FAIL if the observed drop reaches the limit, PASS if nothing is missing."""
        if self.drop_points >= self.limit_points:
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
            "missing": list(self.missing),
            "settling": None if self.settling is None else asdict(self.settling),
        }


def lacking_genomes(effect: GenomeEffect) -> tuple[str, ...]:
    """Return what the genomes of a test set lack for a bound to be trusted; empty if nothing."""
    genomes, degrees = effect.effective_genomes, effect.degrees_of_freedom
    lacking = []
    if genomes < MIN_EFFECTIVE_GENOMES:
        lacking.append(f"{MIN_EFFECTIVE_GENOMES} effective genomes (there are {genomes:.1f})")
    if degrees < MIN_DEGREES_OF_FREEDOM:
        lacking.append(f"{MIN_DEGREES_OF_FREEDOM} degrees of freedom (there are {degrees:.1f})")
    return tuple(lacking)


def exact_points(points: str | int | Fraction) -> Fraction:
    """Return a limit as an exact number.

    Raises
    ------
    TypeError
        If it is a float: 5.1 is not 51/10 in binary.
    """
    if isinstance(points, float):
        raise TypeError(f'expected a limit as text, such as "{points}", so that it stays exact')
    return Fraction(points)


def finite(number: float) -> float | None:
    """Return the number, or None where JSON has no way to write it."""
    return number if math.isfinite(number) else None


def nothing_judged(criterion: str, limit: Fraction | None) -> CriterionResult:
    """Return the result for an empty test set: INCONCLUSIVE."""
    return CriterionResult(
        id=criterion,
        state=State.INCONCLUSIVE,
        limit=limit,
        detail="There are no test rows, so nothing was judged.",
        next_steps=("Check the split: its test set has no rows.",),
        evidence={"n": 0},
    )
