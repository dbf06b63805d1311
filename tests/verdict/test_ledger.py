"""What a criterion's test left behind, settled without pytest; tests/plugin has the rest."""

from __future__ import annotations

import dataclasses

import pytest

from harness.criteria.result import CriterionResult, State
from harness.verdict.ledger import CriterionRun, Phase

PASSED, SKIPPED = Phase(outcome="passed"), Phase(outcome="skipped", reason="not today")
PASS = CriterionResult(id="x", state=State.PASS, detail="fine")


@pytest.mark.parametrize(
    ("is_explained", "step"), [(True, "Mend what the message names"), (False, "Read the traceback")]
)
def test_settle_when_a_test_broke_then_the_step_follows_from_the_exception(
    is_explained: bool, step: str
) -> None:
    """An exception of ours says what to do; any other has to be read first."""
    broken = Phase(outcome="failed", reason="DataError: a.csv: no ids", is_explained=is_explained)

    settled = CriterionRun(id="x", test="acceptance/test_x.py", phases={"call": broken}).settle()

    assert settled.state is State.ERROR
    assert settled.next_steps[0].startswith(step)


@pytest.mark.parametrize(
    ("phases", "results", "step"),
    [
        ({"setup": SKIPPED}, [], "Have acceptance/test_x.py run: remove the skip"),
        ({"setup": PASSED}, [], "to its end"),
        ({"setup": PASSED, "call": PASSED}, [PASS], "to its end"),
    ],
)
def test_settle_when_a_test_did_not_end_then_it_is_not_run_and_says_what_to_do(
    phases: dict[str, Phase], results: list[CriterionResult], step: str
) -> None:
    """Even a PASS that was recorded before the run stopped is none."""
    run = CriterionRun(id="x", test="acceptance/test_x.py", phases=phases, results=results)

    settled = run.settle()

    assert settled.state is State.NOT_RUN
    assert step in settled.next_steps[0]


def test_record_when_a_verdict_cannot_hold_the_result_then_the_place_is_named() -> None:
    """The test that recorded it breaks, and not the report."""
    result = dataclasses.replace(PASS, id="embedding-time", evidence={"speed_up": {"model": "x"}})
    run = CriterionRun(id="embedding-time", test="acceptance/test_x.py")

    with pytest.raises(ValueError, match=r"a verdict cannot hold: \$\.evidence\.speed_up"):
        run.record(result)
