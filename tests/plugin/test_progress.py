"""What a person sees while stages run, pytest's capture notwithstanding, and at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from harness.criteria import REQUIRED_CRITERIA
from tests.plugin.conftest import Project

STAGE = """
def test_stage(gate_session):
    print("captured")
    with gate_session.progress.task("embed", total=2, unit="records") as task:
        task.advance(2)
"""


@contextlib.contextmanager
def terminal_as_stderr() -> Iterator[int]:
    """Put a terminal in stderr's place; yield the descriptor that reads what it shows."""
    reader, terminal = os.openpty()
    os.set_blocking(reader, False)
    stderr = os.dup(2)
    os.dup2(terminal, 2)
    try:
        yield reader
    finally:
        os.dup2(stderr, 2)
        for descriptor in (stderr, terminal, reader):
            os.close(descriptor)


def test_progress_when_stderr_is_a_log_then_one_line_a_stage(
    passing: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    """A log gets a line when a stage is done, past the capture of the tests' output."""
    passing.write(STAGE)
    passing.run()
    assert "embed: 2 records in" in capfd.readouterr().err


def test_progress_when_output_is_being_captured_at_the_start_then_is_shown(
    passing: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whether pytest already captures when the gate is armed depends on other plugins."""
    passing.write(STAGE)
    passing.write(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_configure(config):
            config.pluginmanager.getplugin("capturemanager").resume_global_capture()
        """,
        "conftest.py",
    )
    passing.run()
    assert "embed: 2 records in" in capfd.readouterr().err


def test_progress_when_quiet_then_a_log_gets_nothing(
    passing: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    """-q asks for little."""
    passing.write(STAGE)
    passing.run("-q")
    assert capfd.readouterr().err == ""


def test_progress_when_stderr_is_a_terminal_then_is_live_and_capture_goes_on(
    passing: Project,
) -> None:
    """A terminal gets a moving bar; what the tests print stays captured."""
    passing.write(STAGE)
    with terminal_as_stderr() as terminal:
        outcome = passing.run("-q")
        shown = os.read(terminal, 65536).decode()
    assert "embed" in shown
    assert "\x1b[" in shown
    assert "captured" not in outcome.stdout.str() + shown


def test_terminal_when_run_ends_then_last_line_is_the_verdict(passing: Project) -> None:
    """The verdict stands below everything that pytest prints."""
    passed = rf"=+ {len(REQUIRED_CRITERIA)} passed in .*"

    passing.run().stdout.re_match_lines([passed, "It is a PASS\\.$"])


def test_terminal_when_quiet_then_shows_the_last_line_alone(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-q drops the tables, not the verdict."""
    monkeypatch.setattr("harness.report.terminal.render_terminal", lambda *_, **__: "table\nPASS")
    assert passing.run("-q").outlines[-1] == "PASS"
    assert "table" not in passing.run("-q").outlines
    assert passing.run().outlines[-2:] == ["table", "PASS"]


def test_terminal_when_switched_off_then_the_verdict_is_written(passing: Project) -> None:
    """-p no:terminal leaves nowhere to print."""
    assert passing.run("-p", "no:terminal").ret == pytest.ExitCode.OK
    assert passing.verdict["verdict"] == "PASS"
