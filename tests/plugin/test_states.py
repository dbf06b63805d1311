"""The state of a criterion, whatever becomes of its test: one run with one test for each case."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.criteria import REQUIRED_CRITERIA
from harness.verdict.contents import CriterionRow, Verdict
from harness.verdict.verdict import read_verdict
from tests.plugin.conftest import LEAN, PRELUDE, ROOT

# Each function judges the criterion of its own name.
CASES = """
def missing():
    raise MissingInput("There is no weights/", remedy="Name them in gate.toml")

def criterion(function):
    return pytest.mark.criterion(function.__name__.removeprefix("test_"))(function)

@pytest.fixture(scope="session")
def weights():
    missing()

@pytest.fixture
def broken():
    raise OSError("disk on fire")

@pytest.fixture
def untidy():
    yield
    raise OSError("cannot clean up")

@pytest.fixture
def untidy_by_assertion():
    yield
    assert False

@pytest.fixture
def forgetful():
    yield
    missing()

@pytest.fixture
def early(record):
    record(result("fixture_fails_after_pass"))
    raise OSError("too late")

@criterion
def test_pass(record):
    record(result("pass"))

@criterion
def test_fail(record):
    outcome = result("fail", State.FAIL)
    record(outcome)
    assert outcome.state is State.PASS

@criterion
def test_fail_without_assert(record):
    record(result("fail_without_assert", State.FAIL))

@criterion
def test_fail_by_pytest_fail(record):
    record(result("fail_by_pytest_fail", State.FAIL))
    pytest.fail("no")

@criterion
def test_fail_then_error(record):
    record(result("fail_then_error", State.FAIL))
    raise OSError("after the record")

@criterion
def test_fail_then_skip(record):
    record(result("fail_then_skip", State.FAIL))
    pytest.skip("never mind")

@criterion
def test_inconclusive(record):
    record(result("inconclusive", State.INCONCLUSIVE))
    assert False

@criterion
def test_missing(weights, record):
    pass

@criterion
def test_missing_again(weights, record):
    pass

@criterion
def test_missing_in_call(request, record):
    request.getfixturevalue("weights")

@criterion
def test_missing_after_pass(record):
    record(result("missing_after_pass"))
    missing()

@criterion
def test_broken_fixture(broken, record):
    pass

@criterion
def test_fixture_fails_after_pass(early):
    pass

@criterion
def test_raises(record):
    raise ValueError("no number")

@criterion
def test_nothing_recorded(record):
    pass

@criterion
def test_recorded_twice(record):
    record(result("recorded_twice"))
    record(result("recorded_twice"))

@criterion
def test_raises_after_pass(record):
    record(result("raises_after_pass"))
    raise OSError("after the record")

@criterion
def test_asserts_after_pass(record):
    record(result("asserts_after_pass"))
    assert 1 == 2

@criterion
def test_skips_after_pass(record):
    record(result("skips_after_pass"))
    pytest.skip("never mind")

@criterion
def test_teardown_fails(untidy, record):
    record(result("teardown_fails"))

@criterion
def test_teardown_fails_after_fail(untidy, record):
    record(result("teardown_fails_after_fail", State.FAIL))
    assert False

@criterion
def test_teardown_asserts_after_fail(untidy_by_assertion, record):
    record(result("teardown_asserts_after_fail", State.FAIL))
    assert False

@criterion
def test_missing_in_teardown(forgetful, record):
    pass

@criterion
@pytest.mark.skip(reason="not today")
def test_skipped(record):
    pass

@criterion
def test_skipped_in_call(record):
    pytest.skip("not today")

@criterion
@pytest.mark.xfail
def test_xfail_and_fail(record):
    record(result("xfail_and_fail", State.FAIL))
    assert False

@criterion
@pytest.mark.xfail(strict=True)
def test_xfail_and_pass(record):
    record(result("xfail_and_pass"))

@criterion
@pytest.mark.xfail(strict=False)
def test_xfail_and_lenient_pass(record):
    record(result("xfail_and_lenient_pass"))

@criterion
@pytest.mark.xfail(run=False, reason="hangs")
def test_xfail_not_run(record):
    pass

@criterion
@pytest.mark.xfail
def test_xfail_nothing_recorded(record):
    raise ValueError("no number")

@criterion
def test_other_criterion(record):
    record(result("accuracy-drop"))

@criterion
def test_no_json(record):
    record(CriterionResult(id="no_json", state=State.PASS, detail="", evidence={"x": {1, 2}}))

@criterion
def test_subtest_fails(record, subtests):
    record(result("subtest_fails"))
    with subtests.test("part"):
        assert 1 == 2

def test_without_criterion(record):
    pass

def test_of_something_else():
    assert False
"""
STATES = {
    "pass": "PASS",
    "fail": "FAIL",
    "fail_without_assert": "FAIL",
    "fail_by_pytest_fail": "FAIL",
    "fail_then_error": "ERROR",
    "fail_then_skip": "FAIL",
    "inconclusive": "INCONCLUSIVE",
    "missing": "NOT_RUN",
    "missing_again": "NOT_RUN",
    "missing_in_call": "NOT_RUN",
    "missing_after_pass": "ERROR",
    "broken_fixture": "ERROR",
    "fixture_fails_after_pass": "ERROR",
    "raises": "ERROR",
    "nothing_recorded": "ERROR",
    "recorded_twice": "ERROR",
    "raises_after_pass": "ERROR",
    "asserts_after_pass": "ERROR",
    "skips_after_pass": "ERROR",
    "teardown_fails": "ERROR",
    "teardown_fails_after_fail": "ERROR",
    "teardown_asserts_after_fail": "ERROR",
    "missing_in_teardown": "ERROR",
    "skipped": "NOT_RUN",
    "skipped_in_call": "NOT_RUN",
    "xfail_and_fail": "FAIL",
    "xfail_and_pass": "ERROR",
    "xfail_and_lenient_pass": "ERROR",
    "xfail_not_run": "NOT_RUN",
    "xfail_nothing_recorded": "ERROR",
    "other_criterion": "ERROR",
    "no_json": "ERROR",
}


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """Return the verdict of a run in which every case happens."""
    root = tmp_path_factory.mktemp("cases")
    (root / "acceptance").mkdir()
    (root / "acceptance" / "test_cases.py").write_text(PRELUDE + CASES, encoding="utf-8")
    (root / "pytest.ini").write_text((ROOT / "pytest.ini").read_text())
    command = [sys.executable, "-m", "pytest", *LEAN, "-p", "harness.plugin", "acceptance"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    return read_verdict(root / "reports" / "verdict.json")


def row_of(verdict: Verdict, criterion: str) -> CriterionRow:
    """Return a criterion's row."""
    return verdict.rows[criterion]


@pytest.mark.parametrize(("criterion", "state"), STATES.items())
def test_criterion_when_its_test_ends_so_then_state_follows(
    verdict: Verdict, criterion: str, state: str
) -> None:
    """The recorded state counts only if the test bears it out from beginning to end."""
    assert row_of(verdict, criterion).state == state


@pytest.mark.parametrize("criterion", REQUIRED_CRITERIA)
def test_required_criterion_when_never_collected_then_not_run(
    verdict: Verdict, criterion: str
) -> None:
    """A required criterion has a row even if nobody wrote a test for it."""
    row = row_of(verdict, criterion)
    assert (row.state, row.test) == ("NOT_RUN", None)
    assert row.next_steps


def test_verdict_when_plugin_is_named_as_well_then_has_each_row_once(
    verdict: Verdict,
) -> None:
    """`-p harness.plugin`, with which this run was called, loads no second copy."""
    names = [row.id for row in verdict.criteria]
    assert len(names) == len(set(names)) == len(STATES) + len(REQUIRED_CRITERIA) + 1


def test_missing_input_when_raised_by_fixture_then_row_tells_remedy(
    verdict: Verdict,
) -> None:
    """What is missing is the detail, and how to supply it the next step."""
    for criterion in ("missing", "missing_again", "missing_in_call"):
        row = row_of(verdict, criterion)
        assert row.detail == "There is no weights/."
        assert row.next_steps == ("Name them in gate.toml",)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        ("broken_fixture", "disk on fire"),
        ("raises_after_pass", "recorded PASS: OSError: after the record"),
        ("teardown_fails", "teardown"),
        ("skipped", "not today"),
        ("skipped_in_call", "not today"),
        ("xfail_and_lenient_pass", "xfail"),
        ("recorded_twice", "2 results"),
        ("other_criterion", "accuracy-drop"),
        ("no_json", "not JSON serializable"),
        ("fail", "As planned."),
    ],
)
def test_row_when_blocked_then_detail_says_why(
    verdict: Verdict, criterion: str, words: str
) -> None:
    """A reader of the row alone learns what happened."""
    assert words in row_of(verdict, criterion).detail


def test_row_when_judged_then_names_its_test(verdict: Verdict) -> None:
    """The row leads to the test that judged it."""
    assert row_of(verdict, "pass").test == "acceptance/test_cases.py::test_pass"


def test_verdict_when_other_test_fails_then_names_it(verdict: Verdict) -> None:
    """A failure outside the criteria blocks, too: in a plain test, a subtest, or for misuse."""
    problems = [reason for reason in verdict.halted_by if "failed in" in reason]
    assert [problem.partition(" ")[0].rpartition("::")[2] for problem in problems] == [
        "test_subtest_fails",
        "test_of_something_else",
    ]
    misuse = "the set-up of test_without_criterion failed: UsageError: record is for tests marked"
    assert sum(reason.startswith(misuse) for reason in verdict.halted_by) == 1


def test_verdict_when_criterion_blocks_then_halted_by_names_it_once(
    verdict: Verdict,
) -> None:
    """Each criterion that is no PASS is one reason."""
    blocked = [row.id for row in verdict.criteria if row.state != "PASS"]
    told = [reason.partition(":")[0] for reason in verdict.halted_by]
    assert [name for name in told if name in blocked] == blocked
