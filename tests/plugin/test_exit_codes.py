"""The exit code: 0 only with PASS, and pytest's own where pytest stopped the run."""

from __future__ import annotations

import pytest

from harness.criteria import REQUIRED_CRITERIA
from tests.plugin.conftest import Project


def test_run_when_every_criterion_passes_then_exit_code_is_zero(passing: Project) -> None:
    """PASS, and nothing but PASS, lets a deployment go on."""
    assert passing.run().ret == pytest.ExitCode.OK
    assert passing.verdict["verdict"] == "PASS"
    assert passing.verdict["halted_by"] == []


@pytest.mark.parametrize("criterion", REQUIRED_CRITERIA[:2])
def test_run_when_a_required_criterion_has_no_test_then_halts(
    project: Project, criterion: str
) -> None:
    """What was not evaluated blocks, although every test passed."""
    project.write_passing(without=[criterion])
    assert project.run().ret == pytest.ExitCode.TESTS_FAILED
    assert project.verdict["verdict"] == "HALT"
    assert project.verdict["halted_by"] == [f"{criterion}: NOT_RUN"]


@pytest.mark.parametrize("state", ["FAIL", "INCONCLUSIVE"])
def test_run_when_a_test_records_a_blocking_state_without_asserting_then_halts(
    project: Project, state: str
) -> None:
    """The recorded state decides, even if the test forgot to assert it."""
    project.write_passing(without=["accuracy-drop"])
    project.write(
        f"""
        @pytest.mark.criterion("accuracy-drop")
        def test_accuracy(record):
            record(result("accuracy-drop", State.{state}))
        """
    )
    outcome = project.run()
    outcome.assert_outcomes(passed=len(REQUIRED_CRITERIA))
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    assert project.verdict["halted_by"] == [f"accuracy-drop: {state}"]


def test_run_when_a_library_warns_then_it_passes(passing: Project) -> None:
    """The suite takes warnings for errors; a deployment must not hang on what is deprecated."""
    passing.write(
        """
        import warnings

        def test_of_a_library():
            warnings.warn("use something else", DeprecationWarning)
        """
    )
    assert "\n    error\n" in (passing.root / "pytest.ini").read_text()
    passing.write(
        'import warnings\nwarnings.warn("use something else", DeprecationWarning)\n', "conftest.py"
    )
    outcome = passing.run()
    outcome.assert_outcomes(passed=len(REQUIRED_CRITERIA) + 1, warnings=2)
    assert passing.verdict["verdict"] == "PASS"


def test_run_when_an_additional_criterion_fails_then_halts(passing: Project) -> None:
    """Criteria beyond the required six block as well."""
    passing.write(
        """
        @pytest.mark.criterion("calibration")
        def test_calibration(record):
            record(result("calibration", State.FAIL))
        """
    )
    assert passing.run().ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == ["calibration: FAIL"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def test_plain(): assert False", "acceptance/test_more.py::test_plain failed in call"),
        (
            """
            @pytest.fixture
            def untidy():
                yield
                raise OSError
            def test_plain(untidy): pass
            """,
            "acceptance/test_more.py::test_plain failed in teardown",
        ),
    ],
)
def test_run_when_a_plain_test_fails_then_halts(passing: Project, source: str, reason: str) -> None:
    """A failure beside the criteria is no pass."""
    passing.write(source)
    assert passing.run().ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == [reason]


def test_run_when_plain_tests_miss_the_same_input_then_it_is_told_once(passing: Project) -> None:
    """Three timing tests without a GPU are one reason, not three."""
    passing.write(
        """
        @pytest.fixture(scope="session")
        def device():
            raise MissingInput("There is no GPU", remedy="Plug one in")

        def test_one(device): pass
        def test_two(device): pass
        """
    )
    assert passing.run().ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == ["missing: There is no GPU"]


BROKEN_SET_UP = """
    @pytest.fixture(scope="session")
    def store():
        error = OSError("no space left")
        error.add_note("(stage: embed baseline)")  # as the log of stages does
        raise error

    def test_one(store): pass
    def test_two(store): pass
"""


def test_run_when_the_set_up_of_plain_tests_fails_then_the_stage_is_told_once(
    passing: Project,
) -> None:
    """What broke, and in which stage, says more than which tests it hit."""
    passing.write(BROKEN_SET_UP)
    assert passing.run().ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == [
        "the set-up of 2 tests failed: OSError: no space left (stage: embed baseline)"
    ]


def test_run_when_the_set_up_of_a_criterion_fails_alike_then_its_row_tells_it(
    project: Project,
) -> None:
    """The same exception is not a second problem."""
    project.write_passing(without=["embedding-time"])
    criterion = '@pytest.mark.criterion("embedding-time")\n    def test_time(store, record): pass\n'
    project.write(f"{BROKEN_SET_UP}\n    {criterion}")
    project.run()
    assert project.verdict["halted_by"] == ["embedding-time: ERROR"]
    assert project.row("embedding-time")["detail"].endswith("no space left (stage: embed baseline)")


def test_run_when_a_plain_test_is_skipped_then_may_pass(passing: Project) -> None:
    """Only criteria have to be evaluated."""
    passing.write("def test_plain(): pytest.skip('no MMseqs2')")
    assert passing.run().ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    "options",
    [
        ["-k", "accuracy"],
        ["-m", "gpu"],
        ["--deselect", "acceptance/test_criteria.py::test_split_integrity"],
        ["--benchmark-only"],
    ],
)
def test_run_when_criteria_are_left_out_then_halts(passing: Project, options: list[str]) -> None:
    """Leaving out what fails is no way to pass."""
    assert passing.run(*options).ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["verdict"] == "HALT"
    assert passing.state("split-integrity") == "NOT_RUN"


def test_run_when_no_test_is_found_then_halts(project: Project) -> None:
    """Pytest's own code for 'no tests' (5) is the gate's 1."""
    assert project.run().ret == pytest.ExitCode.TESTS_FAILED
    assert "no test was selected" in project.verdict["halted_by"]


def test_run_when_too_many_warnings_then_halts(passing: Project) -> None:
    """Pytest decides on --max-warnings after every other reporter, with a code of its own (6)."""
    passing.write("import warnings\ndef test_plain(): warnings.warn('odd')")
    options = ["-W", "default", "--max-warnings", "0"]
    assert passing.run(*options).ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == ["pytest ended with exit code 6"]


def test_run_when_another_plugin_counts_a_failure_then_halts(passing: Project) -> None:
    """A coverage limit, say, fails the session and no test."""
    source = "def pytest_collection_finish(session): session.testsfailed += 1"
    passing.write(source, "conftest.py")
    assert passing.run("--continue-on-collection-errors").ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == ["pytest ended with exit code 1"]


def test_exit_code_when_other_reporters_ask_then_is_decided(project: Project) -> None:
    """A reporter that reads the session's exit code learns the gate's."""
    project.write(
        "def pytest_sessionfinish(session): print('code', session.exitstatus)", "conftest.py"
    )
    project.write("def test_plain(): pass")
    project.run("-s").stdout.fnmatch_lines(["*code 1"])


def test_run_when_another_plugin_claims_success_then_halts(project: Project) -> None:
    """A plugin that overrides the exit code does not override the verdict."""
    project.write(
        "def pytest_sessionfinish(session): session.exitstatus = 0",
        "conftest.py",
    )
    project.write("def test_plain(): assert False")
    assert project.run().ret == pytest.ExitCode.TESTS_FAILED


def test_run_when_reruns_are_hidden_in_a_marker_then_halts(passing: Project) -> None:
    """A test that is repeated until it passes has not passed."""
    passing.write(
        """
        seen = []
        @pytest.mark.flaky(reruns=1)
        def test_plain():
            seen.append(1)
            assert len(seen) > 1
        """
    )
    assert passing.run().ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == ["acceptance/test_more.py::test_plain ended as rerun"]
