"""The pytest plugin: it turns what pytest reports of acceptance/ into the verdict and its reports.

Here are the hooks and fixtures that pytest finds: they offer the options, arm the gate and register
it. What an armed run does is in ``gate``. Every pytest run of the environment imports this package,
so whatever is heavy is imported when armed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

from harness.gate import (
    Gate,
    claim,
    criterion_of,
    find_reruns_setting,
    open_progress,
    read_invocation,
    refuse_strays,
    tolerate_warnings,
)
from harness.invocation import GateSession

if TYPE_CHECKING:
    from harness.criteria.result import CriterionResult

__all__ = [
    "GateSession",
]


# The run itself, on pytest's config.
GATE = pytest.StashKey[Gate]()


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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Withdraw an older verdict before a broken conftest or an unknown option ends the run.

    A wrapper, since pytest's own one begins to take warnings for errors here.
    """
    invocation = read_invocation(early_config, early_config.known_args_namespace)
    inside, _ = invocation.split(invocation.options.file_or_dir or [str(invocation.directory)])
    if inside and not invocation.is_inspection:
        claim(early_config, invocation)
        tolerate_warnings(early_config)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Arm the gate if acceptance/ is to be run, early enough to set the reports' paths."""
    config.addinivalue_line("markers", "criterion(id): the one test that judges this criterion")
    invocation = read_invocation(config, config.option)
    inside, outside = invocation.split(config.args)
    if not inside or invocation.is_inspection:
        return
    claim(config, invocation)
    if outside:
        raise pytest.UsageError(f"run acceptance/ on its own, without {', '.join(outside)}")
    if refused := invocation.find_refused(reruns_setting=find_reruns_setting(config)):
        raise pytest.UsageError(f"acceptance/ cannot be run with {refused}")
    for name, value in invocation.default_reports().items():
        setattr(config.option, name, value)
    config.stash[GATE] = Gate(config, invocation, open_progress(config))


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
        refuse_strays(config, [item.nodeid for item in items if criterion_of(item)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Refuse criteria that pytest-xdist has collected, of which only the names are known."""
    root = node.config.rootpath
    inside = [name for name in ids if (root / name).is_relative_to(root / "acceptance")]
    refuse_strays(node.config, inside)


@pytest.hookimpl(optionalhook=True)
def pytest_metadata(metadata: dict[str, Any], config: pytest.Config) -> None:
    """Keep the CI's environment variables, which name hosts and paths, out of the HTML report."""
    inside, _ = read_invocation(config, config.option).split(config.args)
    for name in [name for name in metadata if inside and name in os.environ]:
        del metadata[name]


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any] | None:
    """Describe the machine without its name; None leaves runs outside the gate alone."""
    if GATE not in config.stash:
        return None
    from harness.verdict.provenance import describe_machine

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


def _gate_of(request: pytest.FixtureRequest) -> Gate:
    gate = request.config.stash.get(GATE, None)
    if gate is None:
        raise pytest.UsageError("run acceptance/ on its own: pytest acceptance/")
    return gate
