"""Arming the gate: what the command line asks for, the report directory taken, progress shown."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError
from harness.invocation import Invocation

if TYPE_CHECKING:
    import argparse

    from harness.progress import Progress

__all__ = [
    "OPENING",
    "claim",
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
    from harness.gate.proof.verdict import open_verdict

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
