"""One armed run: the command line read, tests watched, the verdict concluded, reports written.

Owns what pytest's items, reports and exceptions say in the gate's own terms. How a criterion is
settled, what a verdict is and what the reports look like is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Generator, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, MissingInput
from harness.invocation import GateSession, Invocation, Provider

if TYPE_CHECKING:
    import argparse

    from harness.progress import Progress
    from harness.report.publish import Publication
    from harness.verdict.ledger import CriterionRun, Phase

__all__ = [
    "Gate",
    "claim",
    "criterion_of",
    "find_reruns_setting",
    "open_progress",
    "read_invocation",
    "refuse_strays",
    "tolerate_warnings",
]


STDERR = 2

# The verdict that a run began with, on pytest's config.
OPENING = pytest.StashKey[dict[str, Any]]()


def read_invocation(config: pytest.Config, options: argparse.Namespace) -> Invocation:
    """Return what the command line asks of the gate."""
    return Invocation(root=config.rootpath, directory=config.invocation_params.dir, options=options)


def claim(config: pytest.Config, invocation: Invocation) -> None:
    """Take the report directory for this run, once, and withdraw what an older run left there."""
    from harness.verdict.verdict import open_verdict

    if OPENING in config.stash:
        return
    try:
        opening, lock = open_verdict(
            invocation.report_dir,
            profile=invocation.profile,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            command=_command(config.invocation_params.args),
        )
    except HarnessError as error:
        raise pytest.UsageError(f"{error}; choose another with --report-dir DIR") from error
    config.add_cleanup(lock.release)
    config.stash[OPENING] = opening
    if not __debug__:
        raise pytest.UsageError(
            "python -O and PYTHONOPTIMIZE remove the asserts that criteria are judged by; "
            "run acceptance/ without them"
        )


def _command(arguments: Sequence[str]) -> str:
    """Return the command line that reproduces the run, with what the environment adds to it."""
    added = os.environ.get("PYTEST_ADDOPTS")
    prefix = [f"PYTEST_ADDOPTS={shlex.quote(added)}"] if added else []
    return " ".join([*prefix, shlex.join(["pytest", *arguments])])


def refuse_strays(config: pytest.Config, strays: list[str]) -> None:
    """Refuse criteria in a run that would yield no verdict."""
    invocation = read_invocation(config, config.option)
    if strays and not invocation.is_inspection:
        claim(config, invocation)
        raise pytest.UsageError(f"run acceptance/ on its own: this run has {strays[0]}, too")


def tolerate_warnings(config: pytest.Config) -> None:
    """Let warnings be shown and no errors: no verdict hangs on what a library deprecates."""
    filters = config.getini("filterwarnings")
    filters[:] = [line for line in filters if line != "error"]


def find_reruns_setting(config: pytest.Config) -> str:
    """Return pytest-rerunfailures' setting; empty where the plugin is not installed."""
    try:
        return str(config.getini("reruns"))
    except ValueError:
        return ""


def open_progress(config: pytest.Config) -> Progress:
    """Show progress on a copy of stderr's descriptor, which pytest's capture leaves alone."""
    from harness.progress import Progress

    capture = config.pluginmanager.getplugin("capturemanager")
    uncaptured = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    with uncaptured:
        stream = os.fdopen(os.dup(STDERR), "w", encoding="utf-8", errors="replace")
    config.add_cleanup(stream.close)
    is_live = stream.isatty()
    is_quiet = config.get_verbosity() < 0 and not is_live
    return Progress(None if is_quiet else stream, is_live=is_live)


def criterion_of(item: pytest.Item) -> str | None:
    """Return the criterion that a test judges; None if it judges none."""
    marker = item.get_closest_marker("criterion")
    if marker is None:
        return None
    if len(marker.args) != 1 or not isinstance(marker.args[0], str):
        raise pytest.UsageError(f'{item.nodeid}: write @pytest.mark.criterion("the-criterion")')
    return marker.args[0]


def phase_of(report: pytest.TestReport, error: BaseException | None) -> Phase:
    """Return how one phase of a test ended, without pytest's own types."""
    from harness.verdict.ledger import Phase

    return Phase(
        outcome=report.outcome,
        reason=one_line(error) if error is not None else report.longreprtext,
        is_assertion=isinstance(error, (AssertionError, pytest.fail.Exception)),
        is_expected_failure=hasattr(report, "wasxfail"),
        missing=error if isinstance(error, MissingInput) else None,
        is_explained=isinstance(error, HarnessError),
    )


def one_line(error: BaseException) -> str:
    """Return an exception's name, the first line of its message, and the stage that it ended."""
    first_line = next(iter(str(error).splitlines()), "")
    parts = [type(error).__name__, first_line]
    return " ".join([": ".join(filter(None, parts)), *getattr(error, "__notes__", [])[:1]])


class Gate:
    """One armed run: it watches the tests, concludes, and has the reports written."""

    def __init__(self, config: pytest.Config, invocation: Invocation, progress: Progress) -> None:
        from harness.verdict.ledger import Ledger

        self.runs: dict[str, CriterionRun] = {}  # by node id
        self._config = config
        self._invocation = invocation
        self._progress = progress
        self._profile = invocation.profile
        self._providers: list[Provider] = []
        self._ledger = Ledger()
        self._publication: Publication | None = None

    def open_session(self) -> GateSession:
        """Tell the fixtures what the run was asked for."""
        return GateSession(
            profile=self._profile,
            config_path=self._invocation.config_path,
            work_dir=self._invocation.work_dir,
            report_dir=self._invocation.report_dir,
            progress=self._progress,
            providers=self._providers,
        )

    # Collection

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Restore the source order, which timing relies on, whatever other plugins did to it."""
        position = {item: index for index, item in enumerate(items)}
        yield
        items.sort(key=lambda item: position.get(item, len(position)))
        self._choose_profile(items)
        for item in items:
            if criterion_id := criterion_of(item):
                self.runs[item.nodeid] = self._expect(criterion_id, item.nodeid)

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Note the criteria that the command line leaves out."""
        for item in items:
            if criterion_id := criterion_of(item):
                self._ledger.deselect(criterion_id, item.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.failed:
            self._ledger.note(f"{report.nodeid or 'acceptance/'} could not be collected")

    def _choose_profile(self, items: list[pytest.Item]) -> None:
        profiles = {"production" if item.get_closest_marker("gpu") else "tiny" for item in items}
        if len(profiles) > 1:
            raise pytest.UsageError(
                "one profile a run, but both are selected: leave -m out for the tiny one, "
                "or give -m gpu for the production one"
            )
        self._profile = profiles.pop() if profiles else self._profile

    def _expect(self, criterion_id: str, test: str) -> CriterionRun:
        try:
            return self._ledger.expect(criterion_id, test)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error

    # Tests

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note how each phase of a criterion's test ended."""
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        run = self.runs.get(item.nodeid)
        if run is not None and report.when is not None:
            run.phases[report.when] = phase_of(report, error)
            if report.when == "teardown":
                report.user_properties += self._publish_properties(run)
        elif isinstance(error, MissingInput):
            self._ledger.excuse(item.nodeid, f"missing: {error.what}")
        elif error is not None and report.failed and report.when == "setup":
            self._ledger.fail_set_up(item.nodeid, one_line(error))
        return report

    def _publish_properties(self, run: CriterionRun) -> list[tuple[str, object]]:
        """Return what JUnit is to tell of a criterion whose test is over."""
        from harness.report.publish import criterion_properties

        return [*criterion_properties(run.settle())]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note every failure, and outcomes that a gate does not know, such as a rerun."""
        if report.failed:
            self._ledger.fail(report.nodeid, str(report.when))
        elif report.outcome not in ("passed", "skipped"):
            self._ledger.note(f"{report.nodeid} ended as {report.outcome}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that the run was stopped."""
        self._ledger.note(f"interrupted: {one_line(excinfo.value)}")

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that pytest or a plugin broke."""
        self._ledger.note(f"internal error: {one_line(excinfo.value)}")

    # The end

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Keep every attempt and the causes of the speed-up beside the rounds."""
        results = [r for run in self.runs.values() for r in run.results]
        found = {r.id: r.evidence for r in results if r.id == "embedding-time"}
        output_json["acceptance"] = found

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None]:
        """Decide before the other reporters write; write after them, since they may fail."""
        _silence_empty_benchmark(self._config)
        publication = self._publication = self._open_publication()
        publication.gather(self._providers, self._config.rootpath)
        publication.heed(exitstatus)
        session.exitstatus = publication.exit_code(exitstatus)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - any reporter's failure must become a HALT
            self._config.notify_exception(pytest.ExceptionInfo.from_exception(error))
        except BaseException as error:  # noqa: BLE001 - a second Ctrl-C must not lose the verdict
            self._ledger.note(f"interrupted while it was ending: {one_line(error)}")
            exitstatus = pytest.ExitCode.INTERRUPTED
        publication.heed(session.exitstatus)
        publication.publish(summary_path=os.environ.get("GITHUB_STEP_SUMMARY"))
        session.exitstatus = publication.exit_code(exitstatus)
        self._print(publication.terminal_text)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the HTML report."""
        from harness.report.document import TITLE

        report.title = TITLE

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """Put the criteria at the top of the HTML report."""
        if self._publication is not None:
            prefix.append(self._publication.show_panel())

    def _open_publication(self) -> Publication:
        from harness.report.publish import Publication

        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        return Publication(
            self._ledger,
            self._config.stash[OPENING] | {"profile": self._profile},
            self._invocation.report_dir,
            html_path=self._config.getoption("htmlpath", None),
            xml_path=self._config.getoption("xmlpath", None),
            width=self._config.get_terminal_writer().fullwidth if terminal else 80,
            is_terminal=bool(terminal and terminal.isatty),
            use_colour=bool(terminal and terminal.hasmarkup),
        )

    def _print(self, text: str) -> None:
        """Print below pytest's own last line; in a quiet run, the verdict alone."""
        if self._config.pluginmanager.hasplugin("terminalreporter"):
            lines = text.rstrip().splitlines()
            is_quiet = self._config.get_verbosity() < 0
            self._config.get_terminal_writer().line("\n".join(lines[-1:] if is_quiet else lines))


def _silence_empty_benchmark(config: pytest.Config) -> None:
    """Have pytest-benchmark save nothing if nothing was timed, since it would raise."""
    benchmark = getattr(config, "_benchmarksession", None)
    if benchmark and not any(timed and not timed.has_error for timed in benchmark.benchmarks):
        benchmark.json = benchmark.save = benchmark.autosave = None
