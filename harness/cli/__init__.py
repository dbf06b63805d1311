"""The command ``harness``: the stages one by one, and what is done with a finished verdict."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from harness.cli import stages, verdicts
from harness.errors import HarnessError, MissingInput

__all__ = ["app", "main"]

COMMANDS = (
    stages.taxonomy,
    stages.prepare,
    stages.split,
    stages.embed,
    stages.train,
    stages.export,
    verdicts.report,
    verdicts.verify,
    verdicts.history,
    verdicts.selftest,
    verdicts.rehearse,
    verdicts.doctor,
)

app = typer.Typer(
    help="The acceptance gate for a new protein embedder in VirNucPro.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; an expected error is one line and exit code 1."""
    try:
        app([_expand(argument) for argument in sys.argv[1:]])
    except MissingInput as error:
        _fail(f"{error.what}.\n{error.remedy}.")
    except HarnessError as error:
        _fail(str(error))


def _expand(argument: str) -> str:
    """Expand a ``~`` that the shell left, as in ``--work-dir=~/work``."""
    option, equals, value = argument.rpartition("=") if argument[:1] == "-" else ("", "", argument)
    return f"{option}{equals}{os.path.expanduser(value)}"  # noqa: PTH111 - never raises


def _fail(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(message, markup=False)
    raise SystemExit(1)
