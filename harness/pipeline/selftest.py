"""The self-test: whether the gate notices known faults, one by one.

The faults stand with the criteria; here they are run, counted and shown.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.criteria import CRITERIA, Criterion, CriterionResult, Fault, State
from harness.criteria.criterion import Bench
from harness.criteria.speed import read_clock
from harness.errors import MissingInput
from harness.pipeline.facts import FaultOutcome, SelfTestResult, keep_selftest
from harness.pipeline.faults import CopyBench
from harness.pipeline.stages import Pipeline
from harness.pipeline.stopwatch import compute_threads
from harness.progress import Progress

__all__ = ["Planting", "list_plantings", "run_selftest", "show_selftest"]

# A criterion, and a fault that it must notice.
Planting = tuple[Criterion, Fault]

COLUMNS = ("fault", "criterion", "expected", "found", "")


def list_plantings() -> tuple[Planting, ...]:
    """Return every fault of every criterion."""
    return tuple((criterion, fault) for criterion in CRITERIA for fault in criterion.faults())


def run_selftest(
    pipeline: Pipeline,
    work_dir: Path,
    *,
    plantings: Sequence[Planting] | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = read_clock,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SelfTestResult:
    """Plant each fault in a copy of a run and see how the gate takes it; keep the result.

    Parameters
    ----------
    pipeline : Pipeline
        The run; its stages are computed or reused, and never changed.
    work_dir : Path
        Where the result is kept: ``selftest/<digest of the configuration>.json``.
    plantings : sequence of (Criterion, Fault), optional
        What to plant; default: every fault of every criterion.
    progress : Progress, optional
        Shows one line a fault.
    clock : callable
        Returns seconds; times the baseline against itself.
    now : callable
        Returns the time at which the self-test ended.

    Raises
    ------
    HarnessError
        If the run that is to be copied cannot be completed.
    """
    progress = progress or Progress()
    with (
        compute_threads(pipeline.config.threads),
        tempfile.TemporaryDirectory(prefix="selftest-") as scratch,
    ):
        bench = CopyBench(pipeline, Path(scratch), clock)
        chosen = list_plantings() if plantings is None else plantings
        outcomes = tuple(_try(*planting, bench, progress) for planting in chosen)
    finished = now().isoformat(timespec="seconds")
    result = SelfTestResult(outcomes=outcomes, finished=finished)
    keep_selftest(result, work_dir, pipeline.config)
    return result


def show_selftest(result: SelfTestResult, console: Console) -> None:
    """Print a table of the outcomes, what went otherwise than expected, and a count.

    In a terminal the table is drawn; elsewhere it is plain text, one line a fault.
    """
    rows = [_row(outcome) for outcome in result.outcomes]
    if console.is_terminal:
        console.print(_drawn(rows))
    else:
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        for row in (COLUMNS, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            _print(console, "  ".join(cells).rstrip())
    for outcome in result.outcomes:
        if not outcome.is_caught:
            _print(console, f"{outcome.fault}: {outcome.found}. {outcome.detail}")
    total = len(result.outcomes)
    _print(console, f"{total - result.failed} of {total} as expected")


def _try(criterion: Criterion, fault: Fault, bench: Bench, progress: Progress) -> FaultOutcome:
    with progress.task(fault.name, 1, "fault") as task:
        result = _judge(criterion, fault, bench)
        task.advance(1, result.state.value)
    return FaultOutcome(
        fault=fault.name,
        criterion=criterion.id,
        expected=tuple(sorted(fault.expected)),
        found=result.state,
        detail=result.detail,
        is_caught=result.state in fault.expected and fault.confirm(bench, result),
    )


def _judge(criterion: Criterion, fault: Fault, bench: Bench) -> CriterionResult:
    """Judge a planted fault; an exception becomes the state that the gate would give it."""
    try:
        return criterion.judge(fault.plant(bench))
    except MissingInput as error:
        return CriterionResult(id=criterion.id, state=State.NOT_RUN, detail=str(error))
    except Exception as error:  # noqa: BLE001 - as in the gate, whatever it is: ERROR
        detail = f"{type(error).__name__}: {error}"
        return CriterionResult(id=criterion.id, state=State.ERROR, detail=detail)


def _row(outcome: FaultOutcome) -> tuple[str, ...]:
    mark = "as expected" if outcome.is_caught else "NOT AS EXPECTED"
    return (outcome.fault, outcome.criterion, " or ".join(outcome.expected), outcome.found, mark)


def _drawn(rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*COLUMNS, title="Self-test of the gate")
    for row, is_good in ((row, row[-1] == "as expected") for row in rows):
        table.add_row(*map(Text, row), style=None if is_good else "bold red")
    return table


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
