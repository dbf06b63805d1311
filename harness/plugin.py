"""The pytest plugin: it turns what pytest reports of acceptance/ into the verdict and its reports.

It owns the options, the fixtures ``record`` and ``gate_session``, and the exit code. How a
criterion is settled, what a verdict is and what the reports look like is decided elsewhere. Every
pytest run of the environment imports this module, so whatever is heavy is imported when armed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, MissingInput
from harness.invocation import GateSession, Invocation, Provider

if TYPE_CHECKING:
    import argparse

    from harness.gate.proof.ledger import CriterionRun, Phase
    from harness.gate.result import CriterionResult
    from harness.progress import Progress
    from harness.report.publish import Publication

__all__ = ["GateSession"]

STDERR = 2

# The verdict that a run began with, and the run itself, on pytest's config.
OPENING = pytest.StashKey[dict[str, Any]]()
GATE = pytest.StashKey["Gate"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the gate's three options."""
    group = parser.getgroup("harness", "acceptance gate")
    group.addoption(
        "--gate-config",
        metavar="PATH",
        help="Settings of the production profile. Default: gate.toml in the root directory.",
    )
    group.addoption(
        "--report-dir",
        metavar="DIR",
        help="Where verdict and reports go. Default: reports in the root directory.",
    )
    group.addoption(
        "--work-dir",
        metavar="DIR",
        help="Where cached artifacts live. Default: work in the root directory.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Withdraw an older verdict before a broken conftest or an unknown option ends the run."""
    invocation = _invocation(early_config, early_config.known_args_namespace)
    inside, _ = invocation.split(invocation.options.file_or_dir or [str(invocation.directory)])
    if inside and not invocation.is_inspection:
        _claim(early_config, invocation)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Arm the gate if acceptance/ is to be run, early enough to set the reports' paths."""
    config.addinivalue_line("markers", "criterion(id): the one test that judges this criterion")
    invocation = _invocation(config, config.option)
    inside, outside = invocation.split(config.args)
    if not inside or invocation.is_inspection:
        return
    _claim(config, invocation)
    if outside:
        raise pytest.UsageError(f"run acceptance/ on its own, without {', '.join(outside)}")
    if refused := invocation.find_refused(reruns_setting=_reruns_setting(config)):
        raise pytest.UsageError(f"acceptance/ cannot be run with {refused}")
    for name, value in invocation.default_reports().items():
        setattr(config.option, name, value)
    config.stash[GATE] = Gate(config, invocation, _open_progress(config))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Register the gate's hooks last, so that they enclose those of other plugins."""
    gate = session.config.stash.get(GATE, None)
    if gate is not None:
        session.config.pluginmanager.register(gate, "harness-gate")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse criteria in a run that would yield no verdict."""
    is_worker = hasattr(config, "workerinput")  # of pytest-xdist; its controller refuses
    if GATE not in config.stash and not is_worker:
        _refuse_strays(config, [item.nodeid for item in items if _criterion_of(item)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Refuse criteria that pytest-xdist has collected, of which only the names are known."""
    root = node.config.rootpath
    inside = [name for name in ids if (root / name).is_relative_to(root / "acceptance")]
    _refuse_strays(node.config, inside)


@pytest.hookimpl(optionalhook=True)
def pytest_metadata(metadata: dict[str, Any], config: pytest.Config) -> None:
    """Keep the CI's environment variables, which name hosts and paths, out of the HTML report."""
    inside, _ = _invocation(config, config.option).split(config.args)
    for name in [name for name in metadata if inside and name in os.environ]:
        del metadata[name]


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any] | None:
    """Describe the machine without its name; None leaves runs outside the gate alone."""
    if GATE not in config.stash:
        return None
    from harness.gate.proof.provenance import describe_machine

    return describe_machine()


@pytest.fixture(scope="session")
def gate_session(request: pytest.FixtureRequest) -> GateSession:
    """Tell what the run was asked for: profile, settings, directories, progress."""
    return _gate_of(request).open_session()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[CriterionResult], None]:
    """Record the result of the test's criterion; call it once, then assert that it passed."""
    run = _gate_of(request).runs.get(request.node.nodeid)
    if run is None:
        raise pytest.UsageError("record is for tests marked @pytest.mark.criterion")
    return run.record


class Gate:
    """One armed run: it watches the tests, concludes, and has the reports written."""

    def __init__(self, config: pytest.Config, invocation: Invocation, progress: Progress) -> None:
        from harness.gate.proof.ledger import Ledger

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
            if criterion_id := _criterion_of(item):
                self.runs[item.nodeid] = self._expect(criterion_id, item.nodeid)

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Note the criteria that the command line leaves out."""
        for item in items:
            if criterion_id := _criterion_of(item):
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
        if item.nodeid in self.runs and report.when is not None:
            self.runs[item.nodeid].phases[report.when] = _phase(report, error)
        elif isinstance(error, MissingInput):
            self._ledger.excuse(item.nodeid, f"missing: {error.what}")
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note every failure, and outcomes that a gate does not know, such as a rerun."""
        if report.failed:
            self._ledger.fail(report.nodeid, str(report.when))
        elif report.outcome not in ("passed", "skipped"):
            self._ledger.note(f"{report.nodeid} ended as {report.outcome}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that the run was stopped."""
        self._ledger.note(f"interrupted: {_one_line(excinfo.value)}")

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that pytest or a plugin broke."""
        self._ledger.note(f"internal error: {_one_line(excinfo.value)}")

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
            self._ledger.note(f"interrupted while it was ending: {_one_line(error)}")
            exitstatus = pytest.ExitCode.INTERRUPTED
        publication.heed(session.exitstatus)
        publication.publish(summary_path=os.environ.get("GITHUB_STEP_SUMMARY"))
        session.exitstatus = publication.exit_code(exitstatus)
        self._print(publication.terminal_text)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the HTML report."""
        report.title = "Acceptance of the candidate"

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


def _gate_of(request: pytest.FixtureRequest) -> Gate:
    gate = request.config.stash.get(GATE, None)
    if gate is None:
        raise pytest.UsageError("run acceptance/ on its own: pytest acceptance/")
    return gate


# Arming


def _invocation(config: pytest.Config, options: argparse.Namespace) -> Invocation:
    return Invocation(root=config.rootpath, directory=config.invocation_params.dir, options=options)


def _claim(config: pytest.Config, invocation: Invocation) -> None:
    """Take the report directory for this run, once, and withdraw what an older run left there."""
    from harness.gate.proof.verdict import open_verdict

    if OPENING in config.stash:
        return
    try:
        opening, lock = open_verdict(
            invocation.report_dir,
            profile=invocation.profile,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(["pytest", *config.invocation_params.args]),
        )
    except HarnessError as error:
        raise pytest.UsageError(f"{error}; choose another with --report-dir DIR") from error
    config.add_cleanup(lock.release)
    config.stash[OPENING] = opening


def _refuse_strays(config: pytest.Config, strays: list[str]) -> None:
    invocation = _invocation(config, config.option)
    if strays and not invocation.is_inspection:
        _claim(config, invocation)
        raise pytest.UsageError(f"run acceptance/ on its own: this run has {strays[0]}, too")


def _reruns_setting(config: pytest.Config) -> str:
    try:
        return str(config.getini("reruns"))
    except ValueError:  # the plugin that knows it is not installed
        return ""


def _open_progress(config: pytest.Config) -> Progress:
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


# Reading pytest's reports


def _criterion_of(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("criterion")
    if marker is None:
        return None
    if len(marker.args) != 1 or not isinstance(marker.args[0], str):
        raise pytest.UsageError(f'{item.nodeid}: write @pytest.mark.criterion("the-criterion")')
    return marker.args[0]


def _phase(report: pytest.TestReport, error: BaseException | None) -> Phase:
    from harness.gate.proof.ledger import Phase

    return Phase(
        outcome=report.outcome,
        reason=_one_line(error) if error is not None else report.longreprtext,
        is_assertion=isinstance(error, (AssertionError, pytest.fail.Exception)),
        is_expected_failure=hasattr(report, "wasxfail"),
        missing=error if isinstance(error, MissingInput) else None,
    )


def _one_line(error: BaseException) -> str:
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


# The end


def _silence_empty_benchmark(config: pytest.Config) -> None:
    """Have pytest-benchmark save nothing if nothing was timed, since it would raise."""
    benchmark = getattr(config, "_benchmarksession", None)
    if benchmark and not any(timed and not timed.has_error for timed in benchmark.benchmarks):
        benchmark.json = benchmark.save = benchmark.autosave = None
