"""``harness doctor``: what this machine can run, and what a gate still lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.options import GATE_TOML, ConfigOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.pipeline.doctor import Check

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "note": "yellow", "missing": "bold red"}


def doctor(gate_config: ConfigOption = GATE_TOML) -> None:
    """Say what this machine can run; exit 0 only if the gate could start."""
    try:
        from harness.pipeline.doctor import State, examine
    except (ImportError, OSError) as error:  # OSError: a broken shared library
        typer.echo(f"The gate cannot start: a package does not load: {error}")
        typer.echo("Run `pip install -e .` in the project's folder")
        raise typer.Exit(1) from error

    console = Console(highlight=False)
    checks = examine(gate_config)
    if console.is_terminal:
        console.print(_tabulate(checks))
    else:
        typer.echo(_list(checks), nl=False)
    missing = [check.name for check in checks if check.state is State.MISSING]
    if missing:
        typer.echo(f"The gate cannot start: {', '.join(missing)}")
        raise typer.Exit(1)
    typer.echo("The gate could start")


def _tabulate(checks: Sequence[Check]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        text = Text(check.detail)
        if check.remedy:
            text.append(f"\n{check.remedy}", style="dim")
        table.add_row(Text(check.state, style=_COLOURS[check.state]), Text(check.name), text)
    return table


def _list(checks: Sequence[Check]) -> str:
    """Return one line a check, and one for each remedy, for logs and programs."""
    lines = []
    for check in checks:
        lines.append(f"{check.state:<8}{check.name}: {check.detail}")
        lines += [f"{'':<8}{check.remedy}"] if check.remedy else []
    return "".join(f"{line}\n" for line in lines)
