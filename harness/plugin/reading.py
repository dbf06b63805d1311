"""What pytest's items, reports and exceptions say, in the gate's own terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError, MissingInput

if TYPE_CHECKING:
    from harness.gate.proof.criterion_run import Phase

__all__ = ["criterion_of", "one_line", "phase_of"]


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
    from harness.gate.proof.criterion_run import Phase

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
