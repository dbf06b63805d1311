"""Runs that end before their time: no verdict of theirs can look like a pass."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project

STOPS = {
    "raise KeyboardInterrupt": "interrupted: KeyboardInterrupt",
    "pytest.exit('enough')": "interrupted: Exit: enough",
    "raise SystemExit(0)": "zz_last.py::test_stop failed in call",
}


def stop_with(project: Project, statement: str) -> None:
    """Let the run stop in its last test, after every criterion has passed."""
    project.write(f"def test_stop():\n    {statement}\n", "test_zz_last.py")


@pytest.mark.parametrize(("statement", "reason"), STOPS.items())
def test_run_when_stopped_in_a_test_then_halts_and_says_so(
    passing: Project, statement: str, reason: str
) -> None:
    """Every criterion had passed; a run that was stopped is no pass all the same."""
    stop_with(passing, statement)
    code = pytest.ExitCode.TESTS_FAILED if "System" in statement else pytest.ExitCode.INTERRUPTED
    assert passing.run().ret == code
    assert passing.verdict["verdict"] == "HALT"
    assert len(passing.verdict["halted_by"]) == 1
    assert reason in passing.verdict["halted_by"][0]


@pytest.mark.parametrize(("given", "expected"), [(0, 1), (7, 1)])
def test_run_when_stopped_with_an_exit_code_then_zero_is_not_believed(
    passing: Project, given: int, expected: int
) -> None:
    """pytest.exit(returncode=0) stops the run and claims success."""
    stop_with(passing, f"pytest.exit('enough', returncode={given})")
    assert passing.run().ret == expected
    assert passing.verdict["verdict"] == "HALT"


def test_criteria_when_run_is_interrupted_then_the_rest_is_not_run(project: Project) -> None:
    """What was under way or still to come has not been evaluated."""
    project.write(
        """
        @pytest.mark.criterion("accuracy-drop")
        def test_first(record):
            record(result("accuracy-drop"))

        @pytest.mark.criterion("embedding-time")
        def test_second(record):
            record(result("embedding-time"))
            raise KeyboardInterrupt

        @pytest.mark.criterion("split-integrity")
        def test_third(record):
            record(result("split-integrity"))
        """
    )
    project.run()
    names = ("accuracy-drop", "embedding-time", "split-integrity")
    assert [project.state(name) for name in names] == ["PASS", "NOT_RUN", "NOT_RUN"]


def test_run_when_interrupted_again_while_ending_then_verdict_is_written(
    passing: Project,
) -> None:
    """An impatient second Ctrl-C hits the fixtures that are being closed."""
    passing.write(
        """
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def slow_to_close():
            yield
            raise KeyboardInterrupt
        """,
        "conftest.py",
    )
    stop_with(passing, "raise KeyboardInterrupt")
    assert passing.run().ret == pytest.ExitCode.INTERRUPTED
    assert passing.verdict["verdict"] == "HALT"
    assert passing.verdict["halted_by"] == [
        "interrupted: KeyboardInterrupt",
        "interrupted while it was ending: KeyboardInterrupt",
    ]


def test_run_when_interrupted_while_reporting_then_exit_code_is_pytests(passing: Project) -> None:
    """A first Ctrl-C that comes late is an interruption like any other."""
    passing.write("def pytest_sessionfinish(): raise KeyboardInterrupt", "conftest.py")
    assert passing.run().ret == pytest.ExitCode.INTERRUPTED
    assert passing.verdict["verdict"] == "HALT"


def test_run_when_first_failure_ends_it_then_the_rest_is_not_run(project: Project) -> None:
    """-x leaves the later criteria unevaluated."""
    project.write("def test_plain(): assert False", "test_a.py")
    project.write_passing()
    assert project.run("-x").ret == pytest.ExitCode.TESTS_FAILED
    assert project.state() == "NOT_RUN"


@pytest.mark.parametrize(("options", "code"), [([], 2), (["--continue-on-collection-errors"], 1)])
def test_run_when_a_file_cannot_be_collected_then_halts(
    passing: Project, options: list[str], code: int
) -> None:
    """A criterion may be hidden in what could not be read."""
    passing.write("import no_such_module")
    assert passing.run(*options).ret == code
    assert "acceptance/test_more.py could not be collected" in passing.verdict["halted_by"]


def test_run_when_a_plugin_breaks_then_halts_with_internal_error(passing: Project) -> None:
    """Pytest's own code for it is 3; the verdict is written although pytest has broken off."""
    passing.write("def pytest_runtest_logstart(): raise OSError('broken plugin')", "conftest.py")
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.INTERNAL_ERROR
    assert "internal error: OSError: broken plugin" in passing.verdict["halted_by"]
    outcome.stdout.fnmatch_lines(["It is a HALT."])


@pytest.mark.parametrize(
    "statement",
    [
        "os._exit(0)",
        pytest.param("os.kill(os.getpid(), 15)", marks=pytest.mark.slow),  # SIGTERM
    ],
)
def test_run_when_killed_then_verdict_stays_incomplete(passing: Project, statement: str) -> None:
    """A process that kills itself can exit 0; what it leaves behind is no pass."""
    stop_with(passing, statement)
    passing.leave_older_pass()
    passing.run_apart()
    assert passing.verdict["verdict"] == "INCOMPLETE"
    assert passing.verdict["criteria"] == []
