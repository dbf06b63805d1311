"""The reports of a run: where they lie, what they say, and what a failing one does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.cli.verdicts import report
from tests.plugin.conftest import Project

FACTS = {
    "rehearsal_reasons": [],
    "candidate": {"metrics": {"accuracy": 0.8}, "confusion_matrix": [[4, 1], [1, 4]]},
}
FACTS_FIXTURE = f"""
import pytest

@pytest.fixture(scope="session", autouse=True)
def facts(gate_session):
    gate_session.describe(lambda: {FACTS!r})
"""
REPORTS = ("verdict.json", "report.md", "report.html", "junit.xml")


@pytest.fixture
def rendered(bare_project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project whose reports are really rendered and whose figures are drawn."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(bare_project.root / "summary.md"))
    bare_project.write_passing()
    bare_project.write(FACTS_FIXTURE, "conftest.py")
    return bare_project


@pytest.mark.slow
def test_reports_when_rendered_then_all_tell_the_verdict_and_the_criteria(
    rendered: Project,
) -> None:
    """Markdown, HTML, terminal and summary are made of the one verdict."""
    (rendered.root / "summary.md").write_text("before\n")
    outcome = rendered.run()
    assert outcome.ret == pytest.ExitCode.OK, outcome.outlines
    reports = rendered.root / "reports"
    texts = {
        "markdown": (reports / "report.md").read_text(),
        "html": (reports / "report.html").read_text(),
        "terminal": outcome.stdout.str(),
        "summary": (rendered.root / "summary.md").read_text(),
    }
    for name, text in texts.items():
        assert "accuracy-drop" in text, name
        assert "rehearsal" in text.lower(), name
    assert texts["summary"].startswith("before\n")
    assert "data:image/png;base64," in texts["html"]
    assert list((reports / "figures").glob("*.svg"))
    assert outcome.outlines[-1] == "PASS (REHEARSAL): Rehearsal passed - reports/report.html"


@pytest.mark.slow
def test_reports_when_rendered_again_then_are_the_same_to_the_byte(
    rendered: Project, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`harness report` has only the verdict to go by, and that is enough."""
    rendered.run()
    reports = rendered.root / "reports"
    before = {path.name: path.read_bytes() for path in (reports / "figures").iterdir()}
    for path in (reports / "figures").iterdir():
        path.unlink()
    capfdbinary.readouterr()
    report(reports / "verdict.json", "markdown")
    assert capfdbinary.readouterr().out == (reports / "report.md").read_bytes()
    assert {path.name: path.read_bytes() for path in (reports / "figures").iterdir()} == before
    report(reports / "verdict.json", "html")
    panel = capfdbinary.readouterr().out.partition(b"<section")[2].partition(b"</section>")[0]
    assert panel in (reports / "report.html").read_bytes()
    assert len(panel) > len(before["confusion.png"])


def test_reports_when_run_passes_then_lie_in_the_report_directory(passing: Project) -> None:
    """No option is needed to have them all."""
    passing.run()
    for name in REPORTS:
        assert (passing.root / "reports" / name).is_file(), name
    assert (passing.root / "reports" / "report.md").read_text() == "It is a PASS."


def test_junit_when_criteria_are_judged_then_has_their_properties(passing: Project) -> None:
    """The state is the settled one: a PASS that its teardown breaks is an ERROR."""
    passing.write(
        """
        @pytest.fixture
        def fragile():
            yield
            raise OSError("gone")

        @pytest.mark.criterion("another")
        def test_another(record, fragile):
            record(result("another"))
        """
    )
    passing.run()
    suite = ElementTree.parse(passing.root / "reports" / "junit.xml").find("testsuite")
    assert suite is not None
    assert "hostname" not in suite.attrib
    found = {
        (one.attrib["name"], one.attrib["value"]) for one in suite.iterfind("testcase//property")
    }
    assert {("criterion", "accuracy-drop"), ("criterion", "another")} <= found
    assert {value for name, value in found if name == "state"} == {"PASS", "ERROR"}
    verdict = suite.find("properties/property[@name='verdict']")
    assert verdict is not None
    assert verdict.attrib["value"] == "HALT"


def test_reports_when_one_cannot_be_completed_then_those_before_it_say_so(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were already written, as a PASS."""

    def broken(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("harness.report.publish.complete_junit", broken)
    passing.run()
    assert passing.verdict["halted_by"] == [
        "completing the JUnit report raised OSError: no space left"
    ]
    assert (passing.root / "reports" / "report.md").read_text() == "It is a HALT."
    assert "It is a HALT." in (passing.root / "reports" / "report.html").read_text()


def test_reports_when_run_halts_then_lie_in_the_report_directory(project: Project) -> None:
    """A run that halts is reported no less."""
    project.write("def test_plain(): assert False")
    project.run()
    for name in REPORTS:
        assert (project.root / "reports" / name).is_file(), name


def test_reports_when_user_chose_paths_then_they_are_kept(passing: Project) -> None:
    """The gate sets only what nobody has set, and corrects what it finds there."""
    passing.run("--html", "mine.html", "--junit-xml", "mine.xml")
    assert "It is a PASS." in (passing.root / "mine.html").read_text()
    assert (passing.root / "mine.xml").is_file()
    left = {path.name for path in (passing.root / "reports").iterdir()}
    assert left == {".lock", "verdict.json", "report.md"}


@pytest.mark.parametrize("plugin", ["junitxml", "benchmark", "metadata"])
def test_reports_when_a_plugin_is_switched_off_then_the_verdict_is_written(
    passing: Project, plugin: str
) -> None:
    """The gate needs none of the other reporters."""
    options = ["-p", "no:html"] if plugin == "metadata" else []
    assert passing.run("-p", f"no:{plugin}", *options).ret == pytest.ExitCode.OK
    assert passing.verdict["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("options", "named"), [([], "reports/report.html"), (["-p", "no:html"], "reports/report.md")]
)
def test_terminal_when_html_is_off_then_names_the_other_report(
    passing: Project, monkeypatch: pytest.MonkeyPatch, options: list[str], named: str
) -> None:
    """The path in the last line leads to a file that is there."""

    def show_path(verdict: dict[str, Any], *, report_path: str, **_: Any) -> str:
        return report_path

    monkeypatch.setattr("harness.report.terminal.render_terminal", show_path)
    assert passing.run(*options).outlines[-1] == named
    assert (passing.root / named).is_file()


def test_html_when_written_then_has_the_panel_and_needs_no_other_file(passing: Project) -> None:
    """The criteria are static HTML, at the head of a file that can be mailed."""
    passing.run()
    text = (passing.root / "reports" / "report.html").read_text()
    assert "It is a PASS." in text
    assert "<style" in text
    assert not (passing.root / "reports" / "assets").exists()


def test_html_when_ci_sets_variables_then_they_stay_out_of_it(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest-metadata copies variables that name hosts and paths."""
    monkeypatch.setenv("NODE_NAME", "secret-host")
    monkeypatch.setenv("WORKSPACE", "/home/secret")
    passing.run()
    assert "secret" not in (passing.root / "reports" / "report.html").read_text()


def test_summary_when_variable_is_set_then_is_appended(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other steps of a workflow write to the same file."""
    path = passing.root / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    passing.run()
    assert path.read_text() == "before\nIt is a PASS."


@pytest.mark.parametrize(
    ("renderer", "report"),
    [
        ("pages.criteria_panel", "panel"),
        ("terminal.render_terminal", "terminal"),
    ],
)
def test_run_when_a_renderer_raises_then_halts_and_every_other_report_says_so(
    passing: Project, monkeypatch: pytest.MonkeyPatch, renderer: str, report: str
) -> None:
    """Nobody may learn of a PASS whose evidence could not be shown."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(passing.root / "summary.md"))

    def broken(*_: Any, **__: Any) -> str:
        raise OSError("no template")

    monkeypatch.setattr(f"harness.report.{renderer}", broken)
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    reason = f"rendering the {report} raised OSError: no template"
    assert passing.verdict["halted_by"] == [reason]
    texts = {
        "panel": (passing.root / "reports" / "report.html").read_text(),
        "markdown": (passing.root / "reports" / "report.md").read_text(),
        "summary": (passing.root / "summary.md").read_text(),
        "terminal": outcome.stdout.str(),
    }
    for name, text in texts.items():
        assert (f"HALT: {reason}" if name == report else "It is a HALT.") in text, name


def test_run_when_no_renderer_can_be_loaded_then_reports_tell_that_much(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the template engine, say, each report is one line."""
    monkeypatch.setitem(sys.modules, "harness.report.pages", None)
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    assert outcome.outlines[-1].startswith("HALT: rendering the reports raised ModuleNotFound")
    assert (passing.root / "reports" / "report.md").read_text().startswith("HALT: rendering")


def test_run_when_a_figure_cannot_be_drawn_then_halts(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is evidence, too."""

    def broken(verdict: dict[str, Any], folder: Path) -> list[Any]:
        raise OSError("no ink")

    monkeypatch.setattr(sys.modules["harness.report.figures"], "draw_figures", broken)
    passing.write(FACTS_FIXTURE, "conftest.py")
    assert passing.run().ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == ["drawing the figures raised OSError: no ink"]


@pytest.mark.parametrize("has_facts", [True, False])
def test_figures_when_reports_are_rendered_again_then_are_drawn_once(
    passing: Project, monkeypatch: pytest.MonkeyPatch, has_facts: bool
) -> None:
    """Drawing takes seconds; without facts, the plotting library is not even loaded."""
    drawn = []

    def draw(verdict: dict[str, Any], folder: Path) -> list[str]:
        drawn.append(folder)
        return ["figure"]

    monkeypatch.setattr(sys.modules["harness.report.figures"], "draw_figures", draw)
    failing = "def pytest_terminal_summary(): raise OSError('no space left')\n"
    passing.write(failing + FACTS_FIXTURE * has_facts, "conftest.py")
    passing.run()
    assert drawn == [passing.root / "reports" / "figures"] * has_facts


@pytest.mark.parametrize("unwritable", ["report.md", "summary.md"])
def test_run_when_a_report_cannot_be_written_then_halts(
    passing: Project, monkeypatch: pytest.MonkeyPatch, unwritable: str
) -> None:
    """The verdict is written last, so that it can tell."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(passing.root / "reports" / "summary.md"))
    passing.write(
        f"""
        def test_plain(gate_session):
            (gate_session.report_dir / "{unwritable}").mkdir()
        """
    )
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    assert len(passing.verdict["halted_by"]) == 1
    assert unwritable.partition(".")[0] in passing.verdict["halted_by"][0]
    outcome.stdout.fnmatch_lines(["It is a HALT."])


@pytest.mark.parametrize("hook", ["pytest_sessionfinish", "pytest_terminal_summary"])
def test_run_when_another_reporter_raises_then_halts(passing: Project, hook: str) -> None:
    """The tests had passed; what another plugin could not report is named."""
    passing.write(f"def {hook}(): raise OSError('no space left')", "conftest.py")
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == ["internal error: OSError: no space left"]
    outcome.stdout.fnmatch_lines(["It is a HALT."])


def test_html_when_a_later_reporter_raises_then_is_corrected(passing: Project) -> None:
    """pytest-html had already written a PASS."""
    passing.write("def pytest_terminal_summary(): raise OSError('no space left')", "conftest.py")
    passing.run()
    text = (passing.root / "reports" / "report.html").read_text()
    assert "It is a HALT." in text
    assert "It is a PASS." not in text


def test_html_when_it_was_never_written_then_an_older_file_is_left_alone(passing: Project) -> None:
    """The user's own path may hold a report of another day."""
    (passing.root / "mine.html").write_text("older")
    passing.write("def pytest_sessionfinish(): raise OSError('no space left')", "conftest.py")
    passing.run("--html", "mine.html")
    assert (passing.root / "mine.html").read_text() == "older"


def test_run_when_the_verdict_cannot_be_written_then_fails_and_incomplete_stays(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk leaves INCOMPLETE behind, and no exit code of 0."""

    def broken(path: Path, verdict: dict[str, Any]) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("harness.report.publish.write_verdict", broken)
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["verdict"] == "INCOMPLETE"
    outcome.stdout.fnmatch_lines(["It is a HALT."])


def test_verdict_when_a_run_is_under_way_then_is_incomplete(passing: Project) -> None:
    """From its first moment, a run's verdict replaces the older one."""
    passing.leave_older_pass()
    passing.write(
        """
        import json

        def test_plain(gate_session):
            verdict = json.loads((gate_session.report_dir / "verdict.json").read_text())
            assert verdict["verdict"] == "INCOMPLETE"
        """
    )
    assert passing.run().ret == pytest.ExitCode.OK
