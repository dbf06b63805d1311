"""The criterion accuracy-drop: its states, its boundaries, its evidence and its advice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.criteria import calibration
from harness.criteria.accuracy import judge_accuracy, judge_accuracy_unpaired
from harness.criteria.result import CriterionResult, State


@pytest.fixture(autouse=True, scope="module")
def few_draws() -> Iterator[None]:
    """Calibrate coarsely: here the rule is tested, and not its error rate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "DRAWS", 500)
        patch.setattr(calibration, "_calibrate", lru_cache(calibration._calibrate.__wrapped__))
        yield


def judge(
    n: int,
    *,
    lost: int = 0,
    gained: int = 0,
    wrong: int = 0,
    groups: Sequence[str] | None = None,
    limit_points: str = "5",
    requires_groups: bool = False,
) -> CriterionResult:
    """Judge rows of which the first are lost, the next gained, the last wrong on both sides."""
    y = np.arange(n) % 2
    baseline, candidate = y.copy(), y.copy()
    candidate[:lost] ^= 1
    baseline[lost : lost + gained] ^= 1
    baseline[n - wrong :] ^= 1
    candidate[n - wrong :] ^= 1
    return judge_accuracy(
        y,
        baseline,
        candidate,
        groups=groups,
        limit_points=limit_points,
        requires_groups=requires_groups,
    )


def interleaved(n: int, n_genomes: int) -> list[str]:
    """Return genome names such that neighbouring rows belong to different ones."""
    return [f"genome {i % n_genomes}" for i in range(n)]


def in_blocks(n: int, size: int) -> list[str]:
    """Return genome names such that neighbouring rows share one."""
    return [f"genome {i // size}" for i in range(n)]


@pytest.mark.parametrize(
    ("n", "lost", "gained"), [(400, 20, 0), (20, 1, 0), (1000, 60, 10), (210_000, 10_500, 0)]
)
def test_judge_when_the_drop_is_exactly_five_points_then_fails(
    n: int, lost: int, gained: int
) -> None:
    """The limit is exclusive, in integers: 0.95 - 0.90 is no excuse."""
    result = judge(n, lost=lost, gained=gained, wrong=n // 10)

    assert result.state is State.FAIL
    assert result.value == result.limit == 5


def test_judge_when_one_row_short_of_five_points_then_it_is_no_fail() -> None:
    """4.9995 points are below the limit; whether it is shown is another matter."""
    result = judge(210_000, lost=10_499)

    assert result.state is State.INCONCLUSIVE
    assert result.value == Fraction(1_049_900, 210_000)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.data())
def test_judge_when_counts_are_any_then_fail_is_decided_in_integers(
    n: int, data: st.DataObject
) -> None:
    """FAIL if and only if 100 (b - c) >= 5 n; PASS only with the bound below the limit."""
    lost = data.draw(st.integers(0, n))
    gained = data.draw(st.integers(0, n - lost))

    result = judge(n, lost=lost, gained=gained)

    assert result.interval is not None
    assert (result.state is State.FAIL) == (100 * (lost - gained) >= 5 * n)
    if result.state is State.PASS:
        assert result.interval[1] < 5


def test_judge_when_there_are_no_rows_then_inconclusive() -> None:
    """Nothing judged is no pass."""
    result = judge_accuracy([], [], [])

    assert result.state is State.INCONCLUSIVE
    assert result.value is None
    assert result.next_steps


@pytest.mark.parametrize("wrong", [0, 400])
def test_judge_when_both_are_all_right_or_all_wrong_then_the_drop_is_zero(wrong: int) -> None:
    """A pass by this criterion alone; models at chance level are caught by baseline-sanity."""
    result = judge(400, wrong=wrong)

    assert (result.state, result.value) == (State.PASS, Fraction(0))
    assert result.evidence["mcnemar_p"] == 1


@pytest.mark.parametrize(("n", "state"), [(51, State.INCONCLUSIVE), (52, State.PASS)])
def test_judge_when_nothing_differs_then_52_rows_are_enough(n: int, state: State) -> None:
    """The smallest test set that can pass without genomes."""
    assert judge(n).state is state


def test_judge_when_the_candidate_is_never_right_then_fails() -> None:
    """The largest drop there is."""
    result = judge(60, lost=60)

    assert (result.state, result.value) == (State.FAIL, Fraction(100))


def test_judge_when_the_candidate_is_better_then_passes_with_a_negative_drop() -> None:
    """An improvement is a negative drop."""
    result = judge(1000, lost=5, gained=45)

    assert (result.state, result.value) == (State.PASS, Fraction(-4))
    assert "4.00 points above" in result.detail


def test_judge_when_a_tiny_run_is_honest_then_passes_with_margin() -> None:
    """450 rows, drop of 1 point, discordance 6%, 90 genomes."""
    result = judge(450, lost=15, gained=11, groups=interleaved(450, 90))

    assert result.state is State.PASS
    assert result.interval is not None
    assert result.interval[1] < 4


def test_judge_when_losses_share_genomes_then_the_bound_is_wider_than_tangos() -> None:
    """What passes on rows alone does not pass on genomes like these."""
    scattered = judge(450, lost=15, gained=5, groups=interleaved(450, 90))
    together = judge(450, lost=15, gained=5, groups=in_blocks(450, 5))

    assert scattered.state is State.PASS
    assert together.state is State.INCONCLUSIVE
    assert together.evidence["tango_upper_points"] < 5 < together.evidence["upper_bound_points"]


def test_judge_when_there_is_one_genome_then_inconclusive_and_it_is_named() -> None:
    """However many rows, one genome says nothing of others."""
    result = judge(10_000, lost=100, groups=["NC_1"] * 10_000)

    assert result.state is State.INCONCLUSIVE
    assert result.interval == (-100.0, 100.0)
    assert any("NC_1 alone holds 100%" in step for step in result.next_steps)
    assert result.evidence["settling"] is None


def test_judge_when_one_genome_holds_half_the_rows_then_inconclusive() -> None:
    """201 genomes of which one is as large as all others count as fewer than four."""
    groups = ["NC_1"] * 1000 + [f"genome {i % 200}" for i in range(1000)]

    result = judge(2000, lost=5, groups=groups)

    assert result.state is State.INCONCLUSIVE
    assert result.evidence["largest_genome"] == {"name": "NC_1", "share": 0.5}
    assert result.evidence["effective_genomes"] < 4


@pytest.mark.parametrize(("lost", "state"), [(10, State.PASS), (80, State.INCONCLUSIVE)])
def test_judge_when_genomes_are_nine_then_their_calibrated_bound_decides(
    lost: int, state: State
) -> None:
    """There is no least number of genomes: a wider quantile stands for it."""
    result = judge(1800, lost=lost, gained=10, groups=interleaved(1800, 9))

    assert result.state is state
    assert result.evidence["units"][0]["multiplier"] > 1.5


def test_judge_when_groups_are_required_but_missing_then_it_does_not_pass() -> None:
    """Production must not take rows for independent."""
    result = judge(1000, lost=1, requires_groups=True)

    assert result.state is State.INCONCLUSIVE
    assert result.evidence["missing"] == ["the genome of each row"]
    assert result.next_steps[0].startswith("Give the genome of each row")


def test_judge_when_groups_are_required_and_the_drop_too_large_then_it_still_fails() -> None:
    """What is missing for a pass is no shelter from a fail."""
    assert judge(1000, lost=80, requires_groups=True).state is State.FAIL


def test_judge_when_groups_name_every_row_then_as_without() -> None:
    """A genome of its own for each row is what no groups means."""
    named = judge(300, lost=9, gained=2, groups=[str(i) for i in range(300)])

    assert named.interval == judge(300, lost=9, gained=2).interval


def test_judge_when_the_limit_is_another_then_it_is_exact_too() -> None:
    """Tenths of points have no binary form and still compare exactly."""
    assert judge(1000, lost=1, limit_points="0.1").state is State.FAIL
    assert judge(1000, lost=1, limit_points="0.11").state is State.INCONCLUSIVE


def test_judge_when_the_limit_is_a_float_then_refused() -> None:
    """5.1 in binary is not 51/10."""
    with pytest.raises(TypeError, match=r'such as "5\.1"'):
        judge_accuracy([1], [1], [1], limit_points=5.1)  # type: ignore[arg-type]


def test_judge_when_evidence_is_written_then_it_is_json_and_complete() -> None:
    """Plain values, null for what has no number."""
    result = judge(300, lost=9, gained=2)

    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))["evidence"]

    assert {k: written[k] for k in ("n", "b", "c", "both_right", "both_wrong", "paired")} == {
        "n": 300,
        "b": 9,
        "c": 2,
        "both_right": 289,
        "both_wrong": 0,
        "paired": True,
    }
    assert written["degrees_of_freedom"] is None
    assert written["mcnemar_p"] == pytest.approx(stats.binomtest(9, 11).pvalue)


def test_judge_when_errors_grow_then_the_ratio_of_error_rates_is_given() -> None:
    """Three points are little of the accuracy and much of the errors: 10% become 13%."""
    result = judge(1000, lost=30, wrong=100)
    evidence = result.evidence

    assert "That is 3.33% of its accuracy and makes 1.30 times its errors." in result.detail

    assert evidence["error_rates"] == {"baseline": 0.1, "candidate": 0.13}
    assert evidence["error_ratio"] == pytest.approx(1.3)
    assert evidence["relative_drop_percent"] == pytest.approx(100 * 0.03 / 0.9)


def test_judge_when_the_baseline_makes_no_errors_then_the_error_ratio_is_null() -> None:
    """There is nothing to divide by."""
    assert judge(1000, lost=30).evidence["error_ratio"] is None


@pytest.mark.parametrize(("lost", "warns"), [(44, False), (45, True), (49, True), (50, False)])
def test_judge_when_points_and_percent_disagree_then_warns(lost: int, *, warns: bool) -> None:
    """From .90, 4.5 points are a relative 5%; at 5 points both readings fail."""
    result = judge(1000, lost=lost, wrong=100)

    assert bool(result.warnings) is warns


def test_judge_when_rows_are_too_few_then_says_about_how_many() -> None:
    """Drop 2, discordance 10%, 300 rows: the 730 of the formula."""
    result = judge(300, lost=18, gained=12)

    assert result.evidence["settling"] == {"n_rows": 730, "n_genomes": None}
    assert result.next_steps[0] == (
        "About 730 test rows would settle it, if the true drop is the observed one; "
        "now there are 300."
    )


def test_judge_when_no_rows_would_settle_it_then_says_how_many_genomes() -> None:
    """Losses that fill whole genomes need more genomes."""
    result = judge(4000, lost=120, groups=in_blocks(4000, 40))

    step = next(step for step in result.next_steps if step.startswith("About"))
    assert "genomes with as many rows each would settle it" in step


def test_judge_when_the_drop_is_too_near_then_says_that_no_test_set_helps() -> None:
    """Ten million rows are not advice."""
    result = judge(210_000, lost=10_499)

    assert result.next_steps[0].startswith("The drop is too near the limit")


def test_judge_when_the_limit_is_lower_then_more_rows_are_needed() -> None:
    """The advice is about the limit that was judged."""
    n_rows = [
        judge(150, lost=2, gained=0, limit_points=limit).evidence["settling"]["n_rows"]
        for limit in ("2", "3")
    ]

    assert n_rows[0] > 3 * n_rows[1]


def test_judge_when_nothing_is_lost_on_balance_then_no_losses_are_pointed_at() -> None:
    """A better candidate that is not settled needs genomes, not advice on recall."""
    result = judge(450, lost=1, gained=15, groups=in_blocks(450, 45))

    assert result.state is State.INCONCLUSIVE
    assert [step.split()[0] for step in result.next_steps] == ["Draw", "About"]


def test_judge_when_it_fails_then_nothing_is_said_of_the_test_set() -> None:
    """More genomes do not help a drop that is too large; the detail says what it is."""
    result = judge(400, lost=40, groups=in_blocks(400, 100))

    assert result.detail.endswith(
        "(40 rows lost, 0 gained of 400). A drop of 5 points or more is too much."
    )
    assert not any("Draw the test rows" in step for step in result.next_steps)


def test_judge_when_both_classes_lose_then_neither_is_blamed() -> None:
    """Half a point apart is alike."""
    steps = judge(400, lost=40).next_steps

    assert steps[1] == (
        "Both classes lose about alike: 10.0 points lost among viral rows, "
        "10.0 points lost among the others; recall 100.0% to 90.0%, precision 100.0% to 90.0%."
    )


def test_judge_when_there_is_one_class_then_no_class_is_blamed() -> None:
    """There is no other to compare it with."""
    steps = judge_accuracy([1] * 100, [1] * 100, [0] * 50 + [1] * 50).next_steps

    assert len(steps) == 1


def test_judge_when_viral_rows_are_lost_then_points_at_recall_and_the_genome() -> None:
    """Where the losses are, first of all how many must be won back."""
    y = np.array([1] * 200 + [0] * 200)
    candidate = y.copy()
    candidate[:40] = 0

    steps = judge_accuracy(y, y, candidate, groups=in_blocks(400, 20)).next_steps

    assert steps[0].startswith("The candidate must win back at least 21 of the 40 rows")
    assert steps[1].startswith("Look at recall first")
    assert "recall 100.0% to 80.0%, precision 100.0% to 100.0%" in steps[1]
    assert "genome 0 (20 of 20), genome 1 (20 of 20)" in steps[2]
    assert "genome 2" not in steps[2]


def test_judge_when_nonviral_rows_are_lost_then_points_at_precision() -> None:
    """False alarms, not missed viruses."""
    y = np.array([1] * 200 + [0] * 200)
    candidate = y.copy()
    candidate[-40:] = 1

    steps = judge_accuracy(y, y, candidate).next_steps

    precision_first = next(s for s in steps if s.startswith("Look at precision first"))
    assert precision_first.endswith("recall 100.0% to 100.0%, precision 100.0% to 83.3%.")


def test_judge_when_the_rows_to_win_back_are_won_back_then_it_no_longer_fails() -> None:
    """The number in the first step is the smallest that helps."""
    failed = judge(450, lost=40)
    needed = int(failed.next_steps[0].split()[7])

    assert judge(450, lost=40 - needed + 1).state is State.FAIL
    assert judge(450, lost=40 - needed).state is not State.FAIL


def test_judge_when_it_passes_then_there_is_nothing_to_do() -> None:
    """Next steps belong to the other states."""
    assert judge(1000, lost=5).next_steps == ()


def test_judge_when_rows_are_shuffled_then_nothing_changes() -> None:
    """The order of rows is no evidence."""
    rng = np.random.default_rng(0)
    y, baseline, candidate = rng.integers(0, 2, (3, 500))
    groups, order = np.array(in_blocks(500, 10)), rng.permutation(500)

    one = judge_accuracy(y, baseline, candidate, groups=groups)
    other = judge_accuracy(y[order], baseline[order], candidate[order], groups=groups[order])

    assert (one.state, one.value) == (other.state, other.value)
    assert one.interval == pytest.approx(other.interval)


def unpaired(accuracy: str, n_baseline: int, *, n: int = 1000, wrong: int) -> CriterionResult:
    """Judge a candidate with so many wrong rows against a reported accuracy."""
    y = np.arange(n) % 2
    candidate = y.copy()
    candidate[:wrong] ^= 1
    return judge_accuracy_unpaired(accuracy, n_baseline, y, candidate, limit_points="5")


def test_unpaired_when_the_drop_is_small_and_rows_many_then_passes_and_is_marked() -> None:
    """Bare metrics can pass, and the report says what they were."""
    result = unpaired("0.9048", 210_000, wrong=105)

    assert (result.state, result.value) == (State.PASS, Fraction(98, 100))
    assert result.evidence["paired"] is False
    assert "unpaired" in result.detail


def test_unpaired_when_the_drop_is_exactly_five_points_then_fails() -> None:
    """The same exact rule as for pairs."""
    result = unpaired("0.9048", 210_000, n=10_000, wrong=1452)

    assert (result.state, result.value) == (State.FAIL, Fraction(5))


def test_unpaired_when_compared_with_the_pairs_then_its_bound_is_wider() -> None:
    """Rows that are hard for both sides do not cancel."""
    paired = judge(1000, lost=20, wrong=100)
    bare = unpaired("0.90", 1000, wrong=120)

    assert paired.value == bare.value == 2
    assert bare.interval is not None
    assert paired.interval is not None
    assert bare.interval[1] > paired.interval[1]


def test_unpaired_when_inconclusive_then_pairing_comes_first() -> None:
    """The cheapest way to settle it is the baseline's own predictions."""
    result = unpaired("0.92", 200_000, n=300, wrong=30)

    assert result.state is State.INCONCLUSIVE
    assert result.next_steps[0].startswith("Give the baseline's predictions")
    assert "test rows would settle it" in result.next_steps[1]


def test_unpaired_when_groups_are_required_but_missing_then_it_does_not_pass() -> None:
    """As for pairs."""
    y = np.arange(1000) % 2

    result = judge_accuracy_unpaired("0.9", 1000, y, y, limit_points="5", requires_groups=True)

    assert result.state is State.INCONCLUSIVE


def test_unpaired_when_there_are_no_rows_then_inconclusive() -> None:
    """Nothing judged is no pass."""
    assert (
        judge_accuracy_unpaired("0.9", 1000, [], [], limit_points="5").state is State.INCONCLUSIVE
    )


def test_judge_when_viruses_are_few_and_halved_then_their_class_fails() -> None:
    """At 10% viral, recall .99 to .55 is a drop of 3.95 points of all rows."""
    y = np.array([1] * 1000 + [0] * 9000)
    baseline, candidate = y.copy(), y.copy()
    baseline[:10] = 0
    candidate[:450] = 0
    baseline[-90:] = 1
    candidate[-45:] = 1

    result = judge_accuracy(y, baseline, candidate, groups=in_blocks(10_000, 10))

    assert (result.state, result.value) == (State.FAIL, Fraction("3.95"))
    assert "Among viral rows the drop is 44.00 points, over the 10" in result.detail
    assert result.evidence["by_class"]["nonviral"]["drop_points"] == -0.5


def test_judge_when_another_seed_is_worse_then_the_seed_decides() -> None:
    """One pair of heads within the limit may be luck."""
    y = np.arange(1000) % 2
    worse = np.where(np.arange(1000) < 45, 1 - y, y)

    result = judge_accuracy(y, y, y, seed=42, other_seeds={43: (y, y), 44: (y, worse)})

    assert result.state is State.INCONCLUSIVE
    assert "The seed decides" in result.detail
    assert "for seed 44 (it is 5.7" in result.detail
    assert [(x["seed"], x["drop_points"]) for x in result.evidence["seeds"]] == [
        (42, 0.0),
        (43, 0.0),
        (44, 4.5),
    ]


def test_judge_when_a_lineage_is_lost_then_it_stands_with_the_verdict() -> None:
    """Its rows are few enough for the whole to pass, and many enough to be sure."""
    y = np.arange(4000) % 2
    candidate = np.where(np.arange(4000) < 30, 1 - y, y)
    lineages = ["Lost"] * 40 + [f"family {i // 8}" for i in range(3960)]

    result = judge_accuracy(y, y, candidate, groups=in_blocks(4000, 4), lineages=lineages)

    assert result.state is State.PASS
    assert [text.split(",")[0] for text in result.reservations] == [
        "Lost lost 75.0 points (30 of 40 rows"
    ]


def test_judge_when_units_are_few_then_what_they_cannot_show_stands_with_the_verdict() -> None:
    """Class by class, in the kind of unit that shows less."""
    groups = [f"genome {i % 20 if i % 2 else i}" for i in range(4000)]

    result = judge(4000, lost=4, gained=4, groups=groups)

    (sentence,) = result.reservations
    assert sentence.startswith("A kind of viral genome that makes up less than 25.9% of them")


def test_judge_when_viruses_are_rare_then_the_precision_follows() -> None:
    """The same recall and specificity, met at other shares."""
    result = judge(1000, lost=100, wrong=100)

    assert result.evidence["precision_at_prevalence"][0] == {
        "prevalence": 0.01,
        "baseline": pytest.approx(0.01 * 0.9 / (0.01 * 0.9 + 0.99 * 0.1)),
        "candidate": pytest.approx(0.01 * 0.8 / (0.01 * 0.8 + 0.99 * 0.2)),
    }
