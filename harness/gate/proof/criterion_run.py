"""What became of one criterion's test, settled into one result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.errors import MissingInput
from harness.gate.result import CriterionResult, State

__all__ = ["CriterionRun", "Phase"]

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
            If it is another criterion's, or cannot be written as JSON.
        """
        if result.id != self.id:
            raise ValueError(f"expected a result for {self.id!r}, got one for {result.id!r}")
        json.dumps(result.to_dict(), allow_nan=False)
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
