"""What the gate refuses: exit code 4, the reason in words, and no older PASS left in place."""

from __future__ import annotations

import pytest
from filelock import FileLock

from tests.plugin.conftest import Project


@pytest.fixture
def passed(passing: Project) -> Project:
    """Return a project whose last run passed."""
    passing.leave_older_pass()
    return passing


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-n", "2"], "cannot be run with -n"),
        (["--tx", "2*popen", "--dist", "load"], "cannot be run with -n"),
        (["--reruns", "1"], "cannot be run with --reruns"),
        (["--force-reruns", "1"], "cannot be run with --reruns"),
        (["-o", "reruns=1"], "cannot be run with --reruns"),
        (["--benchmark-disable"], "cannot be run with --benchmark-disable"),
        (["--benchmark-timer=time.thread_time"], "cannot be run with --benchmark-timer"),
        (["--no-such-option"], "unrecognized arguments"),
        (["tests"], "run acceptance/ on its own"),
        (["acceptance/no_such_file.py"], "not found"),
    ],
)
def test_run_when_called_in_a_wrong_way_then_refuses_and_withdraws_the_older_verdict(
    passed: Project, arguments: list[str], words: str
) -> None:
    """A usage error leaves nothing behind that a deployment could take for a pass."""
    (passed.root / "tests").mkdir()
    outcome = passed.run(*arguments)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([f"*{words}*"])
    assert passed.verdict["verdict"] != "PASS"
    assert passed.verdict["halted_by"]


def test_run_when_python_removes_asserts_then_refuses(
    passed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without asserts no criterion would be judged."""
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    outcome = passed.run_apart()
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: python -O and PYTHONOPTIMIZE remove the asserts*"])
    assert passed.verdict["verdict"] == "INCOMPLETE"


def test_run_when_everything_is_collected_then_refuses(passed: Project) -> None:
    """`pytest .` would run the criteria without concluding on them."""
    outcome = passed.run_bare(".")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*run acceptance/ on its own*"])
    assert passed.verdict["verdict"] == "INCOMPLETE"


@pytest.mark.slow
def test_run_when_everything_is_distributed_then_refuses(passing: Project) -> None:
    """The controller of pytest-xdist collects nothing itself, and refuses all the same."""
    outcome = passing.run_bare(".", "-n", "1")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*run acceptance/ on its own*"])


def test_run_when_both_profiles_are_selected_then_refuses(project: Project) -> None:
    """One verdict judges one profile."""
    project.write(
        """
        @pytest.mark.parametrize("profile", ["tiny", pytest.param("p", marks=pytest.mark.gpu)])
        def test_anything(profile):
            pass
        """
    )
    outcome = project.run("-m", "")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*one profile a run*"])
    assert project.verdict["verdict"] == "HALT"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            """
            @pytest.mark.criterion("accuracy-drop")
            @pytest.mark.parametrize("seed", [1, 2])
            def test_twice(seed, record):
                record(result("accuracy-drop"))
            """,
            "'accuracy-drop' has two tests: *test_twice*1* and *test_twice*2*",
        ),
        (
            """
            @pytest.mark.criterion
            def test_nameless(record):
                pass
            """,
            "*test_nameless: write @pytest.mark.criterion(*",
        ),
    ],
)
def test_run_when_criterion_is_marked_in_a_wrong_way_then_refuses(
    project: Project, source: str, words: str
) -> None:
    """One criterion has one test, and the marker names it."""
    project.write(source)
    outcome = project.run()
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([f"*{words}"])
    assert project.verdict["verdict"] == "HALT"


def test_run_when_conftest_is_broken_then_withdraws_the_older_verdict(passed: Project) -> None:
    """Pytest gives up on a broken conftest before any plugin is configured."""
    passed.write("import no_such_module", "conftest.py")
    outcome = passed.run()
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    assert passed.verdict["verdict"] == "INCOMPLETE"


def test_run_when_report_directory_is_taken_then_refuses_and_leaves_it_alone(
    passed: Project,
) -> None:
    """A second run must not write into the first one's reports."""
    with FileLock(passed.root / "reports" / ".lock"):
        outcome = passed.run()
        elsewhere = passed.run("--report-dir", "other")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*belongs to another run*--report-dir DIR*"])
    assert passed.verdict["verdict"] == "PASS"
    assert elsewhere.ret == pytest.ExitCode.OK


def test_run_when_report_directory_cannot_be_written_then_refuses(passing: Project) -> None:
    """No verdict can be written there, so nothing is judged."""
    (passing.root / "reports").write_text("a file")
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*cannot be written*--report-dir DIR*"])


def test_older_reports_when_a_run_is_refused_then_are_gone(passed: Project) -> None:
    """A report that says PASS must not stand beside a verdict that does not."""
    passed.run("-n", "2")
    left = sorted(path.name for path in (passed.root / "reports").iterdir())
    assert left == [".lock", "verdict.json"]


def test_fixtures_when_gate_is_not_armed_then_say_so(project: Project) -> None:
    """The fixtures belong to a run of acceptance/."""
    (project.root / "test_stray.py").write_text("def test_stray(gate_session): pass\n")
    outcome = project.run_bare("test_stray.py")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["*run acceptance/ on its own*"])
