"""When the gate is armed, and what it leaves alone when it is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.plugin.conftest import Project


def test_plugin_when_imported_then_loads_nothing_heavy() -> None:
    """Every pytest run of the environment imports the plugin, so it must stay light."""
    code = (
        "import sys, harness.plugin; print(*{'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_run_when_given_node_ids_of_acceptance_then_verdict_is_written(passing: Project) -> None:
    """A part of the gate is run as the gate, and halts; -n 0 is no distribution."""
    passing.run_bare("-n", "0", "acceptance/test_criteria.py::test_accuracy_drop")
    assert passing.verdict["verdict"] == "HALT"
    assert passing.state("accuracy-drop") == "PASS"


def test_run_when_called_inside_acceptance_without_paths_then_reports_go_to_the_root(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reports' place is relative to the root directory, not to where pytest was called."""
    monkeypatch.chdir(passing.root / "acceptance")
    assert passing.run_bare().ret == pytest.ExitCode.OK
    assert passing.verdict["verdict"] == "PASS"


def test_run_when_options_name_paths_then_they_are_relative_to_where_pytest_was_called(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--report-dir and --gate-config mean what a shell would complete."""
    passing.write("def test_paths(gate_session): print(gate_session)")
    elsewhere = passing.root / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    options = ["--report-dir", "here", "--gate-config", "mine.toml", "--work-dir", "cache", "-rP"]
    outcome = passing.run_bare("../acceptance", *options)
    assert (elsewhere / "here" / "verdict.json").is_file()
    assert (elsewhere / "here" / "report.html").is_file()
    assert not passing.verdict_path.exists()
    for name in ("mine.toml", "cache", "here"):
        outcome.stdout.fnmatch_lines([f"*PosixPath('{elsewhere / name}')*"])


def test_run_of_other_tests_when_not_armed_then_touches_no_report(project: Project) -> None:
    """The suite in tests/ has nothing to do with verdicts."""
    (project.root / "tests").mkdir()
    (project.root / "tests" / "test_other.py").write_text("def test_other(): pass\n")
    assert project.run_bare("tests").ret == pytest.ExitCode.OK
    assert not (project.root / "reports").exists()


@pytest.mark.parametrize(
    "option",
    ["--co", "--fixtures", "--fixtures-per-test", "--help", "--markers", "--cache-show"],
)
def test_inspection_when_an_older_verdict_stands_then_it_is_left_alone(
    passing: Project, option: str
) -> None:
    """Looking at the tests is no run of the gate, wherever they lie."""
    passing.leave_older_pass()
    older = sorted((passing.root / "reports").iterdir())
    assert passing.run(option).ret == pytest.ExitCode.OK
    assert passing.verdict == {"verdict": "PASS"}
    assert sorted((passing.root / "reports").iterdir()) == older


def test_collect_only_when_run_on_everything_then_criteria_are_listed(passing: Project) -> None:
    """Listing all tests of the repository is no misuse."""
    outcome = passing.run_bare(".", "--co", "-q")
    assert outcome.ret == pytest.ExitCode.OK
    outcome.stdout.fnmatch_lines(["*test_accuracy_drop"])


@pytest.mark.parametrize(("options", "profile"), [([], "tiny"), (["-m", "gpu"], "production")])
def test_profile_when_chosen_by_marker_then_session_and_verdict_tell_it(
    project: Project, options: list[str], profile: str
) -> None:
    """The gpu marker alone decides; the default is the tiny profile."""
    project.write(
        """
        @pytest.fixture(params=["tiny", pytest.param("production", marks=pytest.mark.gpu)])
        def profile(request):
            return request.param

        @pytest.mark.criterion("accuracy-drop")
        def test_accuracy_drop(profile, gate_session, record):
            assert gate_session.profile == profile
            record(result("accuracy-drop"))
        """
    )
    project.run(*options)
    assert project.verdict["profile"] == profile
    assert project.state() == "PASS"


def test_profile_when_nothing_is_selected_then_is_what_was_asked_for(passing: Project) -> None:
    """A verdict without any test still says which gate it was."""
    passing.run("-m", "gpu")
    assert passing.verdict["profile"] == "production"
    assert passing.row("accuracy-drop")["detail"].startswith("Its test was deselected")
