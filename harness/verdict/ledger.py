"""Everything that happened in one gate run: a row per criterion, and what else blocks.

Fed by the pytest plugin with plain facts; nothing here knows pytest. Putting the results together
to a verdict is :mod:`harness.verdict.verdict`'s work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.criteria import REQUIRED_CRITERIA, CriterionResult, State
from harness.errors import MissingInput
from harness.verdict.contents import find_fault

__all__ = ["CriterionRun", "Ledger", "Phase"]


MEND = "Mend what the message names, then run acceptance/ again: finished stages are reused."


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """How one phase of a criterion's test ended.

    Attributes
    ----------
    outcome : str
        ``passed``, ``failed`` or ``skipped``.
    reason : str
        The last line of the exception, or the reason for skipping.
    is_assertion : bool
        Whether it failed by an assertion rather than by another exception.
    is_expected_failure : bool
        Whether the test is marked as expected to fail.
    missing : MissingInput or None
        The exception, if something was missing.
    is_explained : bool
        Whether the exception is one that says what to do.
    """

    outcome: str
    reason: str = ""
    is_assertion: bool = False
    is_expected_failure: bool = False
    missing: MissingInput | None = None
    is_explained: bool = False


@dataclass(slots=True, kw_only=True)
class CriterionRun:
    """The run of one criterion's test, filled in as it goes on.

    Attributes
    ----------
    id : str
        The criterion.
    test : str
        Node id of its test.
    is_deselected : bool
        Whether the command line left the test out.
    results : list of CriterionResult
        What the test recorded.
    phases : dict of str to Phase
        ``setup``, ``call`` and ``teardown``, as far as they were completed.
    """

    id: str
    test: str
    is_deselected: bool = False
    results: list[CriterionResult] = field(default_factory=list)
    phases: dict[str, Phase] = field(default_factory=dict)

    def record(self, result: CriterionResult) -> None:
        """Take the result that the test computed; a second one makes the criterion an ERROR.

        Raises
        ------
        TypeError, ValueError
            If it is another criterion's, or nothing that a verdict can hold.
        """
        if result.id != self.id:
            raise ValueError(f"expected a result for {self.id!r}, got one for {result.id!r}")
        row = json.loads(json.dumps(result.to_dict() | {"test": self.test}, allow_nan=False))
        if fault := find_fault(row, "criterion"):
            raise ValueError(f"{self.id}: what a verdict cannot hold: {fault}")
        self.results.append(result)

    def settle(self) -> CriterionResult:
        """Return the criterion's result: the recorded one only if the test bears it out."""
        if self.is_deselected:
            return self._not_run(
                "Its test was deselected on the command line.", "Run all of acceptance/ at once."
            )
        if len(self.results) > 1:
            return self._error(f"Its test recorded {len(self.results)} results; one is allowed.")
        recorded = self.results[0] if self.results else None
        failures = list(self._unexcused_failures(recorded))
        if failures:
            return self._failed(recorded, *failures[0])
        if recorded is None:
            return self._unrecorded()
        return self._passed(recorded) if recorded.state is State.PASS else recorded

    def _unexcused_failures(self, recorded: CriterionResult | None) -> Iterator[tuple[str, Phase]]:
        """Yield the failed phases; asserting a result that is no PASS is what tests do."""
        blocks = recorded is not None and recorded.state is not State.PASS
        for when, phase in self.phases.items():
            is_excused = blocks and when == "call" and phase.is_assertion
            if phase.outcome == "failed" and not is_excused:
                yield when, phase

    def _failed(self, recorded: CriterionResult | None, when: str, phase: Phase) -> CriterionResult:
        if phase.missing is not None and when != "teardown" and recorded is None:
            return self._not_run(f"{phase.missing.what}.", phase.missing.remedy)
        after = f" after it had recorded {recorded.state}" if recorded is not None else ""
        detail = f"Its test failed in {when}{after}: {phase.reason}"
        return self._error(detail, *([MEND] if phase.is_explained else []))

    def _unrecorded(self) -> CriterionResult:
        for phase in self.phases.values():
            if phase.outcome == "skipped" and not phase.is_expected_failure:
                return self._not_run(
                    f"Its test was skipped: {phase.reason}",
                    f"Have {self.test} run: remove the skip, or supply what it asks for.",
                )
        if "call" not in self.phases:
            return self._stopped()
        return self._error("Its test ended without recording a result.")

    def _passed(self, recorded: CriterionResult) -> CriterionResult:
        if any(phase.is_expected_failure for phase in self.phases.values()):
            return self._error("Its test is marked xfail, so the PASS that it recorded is void.")
        if not {"call", "teardown"} <= set(self.phases):
            return self._stopped()
        for when, phase in self.phases.items():
            if phase.outcome != "passed":
                return self._error(f"Its test recorded PASS, but {when} {phase.outcome}.")
        return recorded

    def _stopped(self) -> CriterionResult:
        return self._not_run(
            f"The run stopped before its test was done, after {len(self.phases)} of 3 phases.",
            "Run all of acceptance/ again, to its end: finished stages are reused.",
        )

    def _not_run(self, detail: str, *next_steps: str) -> CriterionResult:
        return CriterionResult(
            id=self.id, state=State.NOT_RUN, detail=detail, next_steps=next_steps
        )

    def _error(self, detail: str, *next_steps: str) -> CriterionResult:
        traceback = f"Read the traceback of {self.test} in the report or the terminal."
        return CriterionResult(
            id=self.id, state=State.ERROR, detail=detail, next_steps=next_steps or (traceback,)
        )


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
