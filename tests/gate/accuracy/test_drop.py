"""The rule on a finding, where no data reach."""

from __future__ import annotations

from fractions import Fraction

import pytest

from harness.criteria.bounds import DropFinding
from harness.criteria.result import State
from harness.criteria.units import GenomeEffect, genomes_of


def finding(*, degrees_of_freedom: float = 30.0, upper_points: float = 2.0) -> DropFinding:
    """Return a drop of 1 point that passes unless told otherwise."""
    return DropFinding(
        drop_points=Fraction(1),
        limit_points=Fraction(5),
        baseline_accuracy=Fraction(91, 100),
        candidate_accuracy=Fraction(90, 100),
        interval_points=(0.0, upper_points),
        effect=GenomeEffect(
            n_rows=400,
            n_genomes=40,
            effective_genomes=20.0,
            design_effect=1.5,
            degrees_of_freedom=degrees_of_freedom,
        ),
        genomes=genomes_of(["a", "b"], 2),
        lacks_groups=False,
    )


@pytest.mark.parametrize(("degrees", "state"), [(3.9, State.INCONCLUSIVE), (4.0, State.PASS)])
def test_state_when_degrees_of_freedom_are_few_then_inconclusive(
    degrees: float, state: State
) -> None:
    """Four are enough, whatever the effective genomes."""
    found = finding(degrees_of_freedom=degrees)

    assert found.state is state
    assert found.has_too_few_genomes is (state is State.INCONCLUSIVE)


def test_missing_when_degrees_and_bound_lack_then_both_are_named() -> None:
    """Everything that is missing, not only the first."""
    assert finding(degrees_of_freedom=3.9, upper_points=5.0).missing == (
        "4 degrees of freedom (there are 3.9)",
        "an upper bound below 5 points (it is 5.00)",
    )
