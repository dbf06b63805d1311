"""From leaks to a judged criterion."""

from __future__ import annotations

from dataclasses import replace

from harness.criteria.result import State
from harness.criteria.split_integrity import judge_split_integrity
from harness.data.leakage import LeakCheck, LeakReport, NearbyRows

CLEAN = LeakReport(
    checks=(LeakCheck(what="the same protein in test and training", count=0),),
    nearby=(NearbyRows(what="the same genome", count=3, n_test=4),),
)
LEAKING = LeakReport(
    checks=(
        LeakCheck(
            what="the same protein in test and training", count=2, examples=(("a", "b"), ("c", "d"))
        ),
    ),
    nearby=(),
)


def test_judge_when_nothing_is_shared_then_passes_and_reports_what_is_near() -> None:
    """Soft findings are evidence, not failures."""
    result = judge_split_integrity(CLEAN)

    assert result.state is State.PASS
    assert result.evidence["soft"] == [{"what": "the same genome", "count": 3, "share": 0.75}]


def test_judge_when_something_leaks_then_fails_and_names_examples() -> None:
    """One leak is too many."""
    result = judge_split_integrity(LEAKING)

    assert result.state is State.FAIL
    assert result.value == 2
    assert (
        result.next_steps[0] == "Look at a and b, c and d: the same protein in test and training."
    )


def test_judge_when_several_things_leak_then_each_is_told_before_the_remedy() -> None:
    """The most frequent first; ids beyond the examples are counted."""
    ids = LeakCheck(what="the same id", count=7, examples=(("e",), ("f",)))

    steps = judge_split_integrity(replace(LEAKING, checks=(*LEAKING.checks, ids))).next_steps

    assert steps[0] == "Look at e, f and 5 more: the same id."
    assert steps[1].startswith("Look at a and b, c and d")
    assert "harness split --redraw" in steps[2]


def test_judge_when_a_sequence_has_two_labels_then_no_new_draw_is_advised() -> None:
    """The files contradict each other, however they are split."""
    check = LeakCheck(what="two labels", count=1, examples=(("a", "b"),), is_in_data=True)

    steps = judge_split_integrity(replace(LEAKING, checks=(check,))).next_steps

    assert "out of the viral or the nonviral files" in steps[1]
    assert not any("redraw" in step for step in steps)
