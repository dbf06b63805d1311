"""Everything that happened in one gate run: a row per criterion, and what else blocks.

Fed by the pytest plugin with plain facts; nothing here knows pytest. Putting the results together
to a verdict is :mod:`harness.gate.proof.verdict`'s work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from harness.gate.proof.criterion_run import CriterionRun
from harness.gate.result import REQUIRED_CRITERIA, CriterionResult, State

__all__ = ["Ledger"]

T = TypeVar("T")


class Ledger:
    """Everything that happened in one gate run; the required criteria are there from the start."""

    def __init__(self) -> None:
        self._runs: dict[str, CriterionRun] = {}
        self._failed_phases: dict[str, str] = {}  # by test
        self._failed_set_ups: dict[str, list[str]] = {}  # tests by reason
        self._excused: set[str] = set()
        self._problems: dict[str, None] = {}  # in order, each once

    def expect(self, criterion_id: str, test: str) -> CriterionRun:
        """Open the account of a criterion whose test is about to run.

        Raises
        ------
        ValueError
            If another test already stands for this criterion.
        """
        known = self._runs.get(criterion_id)
        if known is not None and not known.is_deselected:
            raise ValueError(f"criterion {criterion_id!r} has two tests: {known.test} and {test}")
        run = CriterionRun(id=criterion_id, test=test)
        self._runs[criterion_id] = run
        return run

    def deselect(self, criterion_id: str, test: str) -> None:
        """Note that a criterion's test was left out, unless another one stands for it."""
        run = CriterionRun(id=criterion_id, test=test, is_deselected=True)
        self._runs.setdefault(criterion_id, run)

    def fail(self, test: str, when: str) -> None:
        """Note that some test failed, whether it judges a criterion or not."""
        if test not in self._excused:
            self._failed_phases.setdefault(test, when)

    def fail_set_up(self, test: str, reason: str) -> None:
        """Note why a test that judges no criterion did not begin; told once for all it hits."""
        self._excused.add(test)
        self._failed_set_ups.setdefault(reason, []).append(test)

    def excuse(self, test: str, problem: str) -> None:
        """Have a problem, told once for all tests that it hits, stand for a test's failure."""
        self._excused.add(test)
        self.note(problem)

    def note(self, problem: str) -> None:
        """Note something else that blocks, such as an interruption."""
        self._problems[problem] = None

    def guard(self, what: str, call: Callable[[], T], otherwise: T) -> T:
        """Call something whose failure must block without keeping the verdict from being written.

        Returns
        -------
        object
            What ``call`` returned, or ``otherwise`` if it raised.
        """
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it blocks and is named
            self.note(f"{what} raised {type(error).__name__}: {error}")
            return otherwise

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per criterion as ``verdict.json`` holds it, the required ones first."""
        others = [name for name in self._runs if name not in REQUIRED_CRITERIA]
        return [self._row(name) for name in (*REQUIRED_CRITERIA, *others)]

    def problems(self) -> list[str]:
        """Return what blocks besides the criteria, failures that no criterion's state tells too."""
        blocking = [row for row in self.rows() if row["state"] != State.PASS]
        tests = {row["test"] for row in blocking}
        told = "\n".join(row["detail"] for row in blocking)
        failed = {test: when for test, when in self._failed_phases.items() if test not in tests}
        return [
            *(f"{test} failed in {when}" for test, when in failed.items()),
            *(
                _set_up_problem(reason, hit)
                for reason, hit in self._failed_set_ups.items()
                if reason not in told
            ),
            *self._problems,
        ]

    def _row(self, criterion_id: str) -> dict[str, Any]:
        run = self._runs.get(criterion_id)
        if run is not None:
            return run.settle().to_dict() | {"test": run.test}
        absent = CriterionResult(
            id=criterion_id,
            state=State.NOT_RUN,
            detail="Its test was never collected.",
            next_steps=("Run all of acceptance/ at once, and mend what could not be collected.",),
        )
        return absent.to_dict() | {"test": None}


def _set_up_problem(reason: str, tests: Sequence[str]) -> str:
    hit = f"{len(tests)} tests" if len(tests) > 1 else tests[0].rpartition("::")[2]
    return f"the set-up of {hit} failed: {reason}"
