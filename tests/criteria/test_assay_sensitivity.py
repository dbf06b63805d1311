"""assay-sensitivity: what the proteins contribute must exceed what may be lost."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from harness.criteria import CriterionResult, State
from harness.criteria.assay_sensitivity import judge_assay, share_kept_interval

N = 400


def judged(placebo_wrong: int, *, candidate_wrong: int = 0) -> CriterionResult:
    """Return the result of a baseline that is always right, every row its own genome."""
    right = np.ones(N, dtype=int)
    placebo, candidate = (
        np.where(np.arange(N) < wrong, 0, 1) for wrong in (placebo_wrong, candidate_wrong)
    )
    return judge_assay(right, right, candidate, placebo, limit_points="5")


@pytest.mark.parametrize(
    ("placebo_wrong", "state"),
    [(40, State.PASS), (24, State.INCONCLUSIVE), (0, State.INCONCLUSIVE)],
)
def test_judge_when_the_lower_bound_is_not_over_the_limit_then_inconclusive(
    placebo_wrong: int, state: State
) -> None:
    """A contribution of 10 points of 400 rows is enough; one of 6 is over 5, but not surely so."""
    result = judged(placebo_wrong)

    assert (result.state, result.value) == (state, Fraction(placebo_wrong, 4))


def test_judge_when_inconclusive_then_the_largest_limit_is_half_the_lower_bound() -> None:
    """Rounded down to a tenth, so that the next run has room."""
    result = judged(24)

    assert "could not have shown the loss of the whole protein embedder" in result.detail
    assert result.interval is not None
    assert 4.2 < result.interval[0] < 4.4
    assert "to at most 2.1:" in result.next_steps[0]


def test_judge_when_nothing_is_contributed_then_only_a_harder_test_set_helps() -> None:
    """No limit is low enough for a test that cannot fail."""
    (step,) = judged(0).next_steps
    assert step.startswith("Bring a harder test set")


def test_judge_when_the_candidate_loses_half_then_half_of_the_contribution_is_kept() -> None:
    """With an interval around it."""
    evidence = judged(80, candidate_wrong=40).evidence

    low, high = evidence["contribution_kept_interval_percent"]
    assert evidence["contribution_kept_percent"] == 50
    assert low < 50 < high


def test_share_when_the_contribution_is_often_nothing_then_no_interval() -> None:
    """A ratio to nothing is none."""
    assert share_kept_interval(np.array([1, 0]), np.array([1, -1])) is None
