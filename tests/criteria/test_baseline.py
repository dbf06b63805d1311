"""The criterion baseline-sanity."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from harness.criteria import baseline as criterion
from harness.criteria.result import CriterionResult, State

judge_baseline = partial(criterion.judge_baseline, margin_points="5")
judge_baseline_unpaired = partial(criterion.judge_baseline_unpaired, margin_points="5")


def judge(n: int, *, wrong: int, viral: int | None = None, n_genomes: int = 0) -> CriterionResult:
    """Judge a baseline that errs on the first rows; half are viral unless said otherwise."""
    y = np.arange(n) % 2 if viral is None else (np.arange(n) < viral).astype(int)
    predicted = y.copy()
    predicted[:wrong] ^= 1
    groups = [f"genome {i * n_genomes // n}" for i in range(n)] if n_genomes else None
    return judge_baseline(y, predicted, groups=groups)


def test_baseline_when_it_is_good_then_passes() -> None:
    """90% against 50% and 5 points more."""
    result = judge(1000, wrong=100)

    assert (result.state, result.value, result.limit) == (State.PASS, Fraction(90), Fraction(55))
    assert result.next_steps == ()


@pytest.mark.parametrize(
    ("wrong", "state"),
    [(400, State.PASS), (440, State.INCONCLUSIVE), (450, State.FAIL), (500, State.FAIL)],
)
def test_baseline_when_near_chance_then_it_does_not_pass(wrong: int, state: State) -> None:
    """Exactly the limit fails; above it, the lower bound must be above as well."""
    result = judge(1000, wrong=wrong)

    assert result.state is state
    assert bool(result.next_steps) is (state is not State.PASS)


@pytest.mark.parametrize("viral", [400, 1600])
def test_baseline_when_classes_are_unequal_then_the_constant_answer_is_the_measure(
    viral: int,
) -> None:
    """85% right is nothing where 80% of the rows are of one class, whichever."""
    result = judge(2000, wrong=300, viral=viral)

    assert (result.state, result.limit) == (State.FAIL, Fraction(85))


def test_baseline_when_errors_share_genomes_then_the_lower_bound_falls() -> None:
    """The design effect counts here too."""
    independent, clustered = judge(1000, wrong=400), judge(1000, wrong=400, n_genomes=20)

    assert independent.state is State.PASS
    assert clustered.state is State.INCONCLUSIVE
    assert clustered.evidence["design_effect"] > 10


@pytest.mark.parametrize("mostly_right", [True, False])
def test_baseline_when_one_outcome_is_rare_then_a_correlation_is_assumed(
    *, mostly_right: bool
) -> None:
    """Nine rows, each in a genome of its own, do not show how much the genomes matter."""
    y = np.arange(900) % 2
    predicted = y.copy() if mostly_right else 1 - y
    predicted[::100] ^= 1

    result = judge_baseline(y, predicted, groups=[i // 10 for i in range(900)])

    assert result.evidence["design_effect"] == pytest.approx(1.9)


def test_baseline_when_there_is_one_genome_then_inconclusive() -> None:
    """One genome says nothing of others."""
    result = judge(1000, wrong=50, n_genomes=1)

    assert result.state is State.INCONCLUSIVE
    assert len(result.next_steps) == 1
    assert "from about 10 of them: genome 0 alone holds 100% of the rows" in result.next_steps[0]


@pytest.mark.parametrize(("n_genomes", "state"), [(9, State.INCONCLUSIVE), (10, State.PASS)])
def test_baseline_when_there_are_fewer_than_ten_genomes_then_inconclusive(
    n_genomes: int, state: State
) -> None:
    """As for the drop: nine tell too little of others, however clear the bound looks."""
    y = np.arange(900) % 2
    predicted = y.copy()
    predicted[::20] ^= 1

    result = judge_baseline(y, predicted, groups=np.arange(900) % n_genomes)

    assert result.interval is not None
    assert result.interval[0] > 55
    assert result.state is state
    assert ("10 effective genomes (there are 9.0)" in result.detail) is (n_genomes == 9)


def test_baseline_when_one_class_holds_nearly_all_then_inconclusive_whatever_it_does() -> None:
    """No accuracy lies 5 points above 95%."""
    result = judge(1000, wrong=0, viral=950)

    assert result.state is State.INCONCLUSIVE
    assert "balanced" in result.next_steps[0]


def test_baseline_when_rows_are_too_few_then_says_how_many() -> None:
    """56% is above 55%, but 1,000 rows do not show it."""
    assert judge(1000, wrong=440).next_steps[0].startswith("About 15,")


def test_baseline_when_there_are_no_rows_then_inconclusive() -> None:
    """Nothing judged is no pass."""
    assert judge_baseline([], []).state is State.INCONCLUSIVE


def test_baseline_when_written_then_it_is_json() -> None:
    """Infinite degrees of freedom become null."""
    written = json.dumps(judge(1000, wrong=100).to_dict(), allow_nan=False)

    assert json.loads(written)["evidence"]["degrees_of_freedom"] is None


def test_baseline_unpaired_when_only_metrics_are_known_then_they_are_judged() -> None:
    """The larger class's share is that of the test rows at hand."""
    y = (np.arange(1000) < 600).astype(int)

    good = judge_baseline_unpaired("0.9048", 210_000, y, y)
    weak = judge_baseline_unpaired("0.65", 210_000, y, y)

    assert (good.state, good.value) == (State.PASS, Fraction(9048, 100))
    assert weak.state is State.FAIL


def test_baseline_unpaired_when_it_was_measured_on_few_rows_then_inconclusive() -> None:
    """62% of 50 rows may be 51%."""
    y = np.arange(1000) % 2

    few = judge_baseline_unpaired("0.62", 50, y, y)

    assert (few.state, len(few.next_steps)) == (State.INCONCLUSIVE, 1)
    assert judge_baseline_unpaired("0.62", 50, [], []).state is State.INCONCLUSIVE
