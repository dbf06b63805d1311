"""The list of criteria: what follows from it, and how another package adds to it."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.criteria import CRITERIA, Criterion, CriterionResult, State
from harness.criteria.criterion import GROUP, Run, load_criteria
from harness.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:CRITERION", "cannot be loaded: ModuleNotFoundError"),
        ("harness.criteria.result:State", "expected a harness.criteria.Criterion"),
        ("tests.criteria.test_registry:TAKEN", "has the id 'split-integrity', which is taken"),
    ],
)
def test_criterion_when_the_entry_is_unusable_then_it_is_named(value: str, message: str) -> None:
    """A requirement that is passed over in silence is none."""
    entry = EntryPoint(name="mine", value=value, group=GROUP)

    with pytest.raises(ConfigError, match=f"the criterion 'mine' .*{message}.* or uninstall it"):
        load_criteria([entry], beside=CRITERIA)


TAKEN = next(criterion for criterion in CRITERIA if criterion.id == "split-integrity")


@pytest.mark.parametrize(("name", "unit"), [("other", "points"), ("mine", "percent")])
def test_judge_when_the_result_is_anothers_or_in_another_unit_then_it_raises(
    monkeypatch: pytest.MonkeyPatch, name: str, unit: str
) -> None:
    """What the list says of a criterion holds of its results."""
    result = CriterionResult(id=name, state=State.PASS, detail="", unit=unit)
    module = SimpleNamespace(judge=lambda run: result)
    monkeypatch.setitem(sys.modules, "my_criterion", cast("Any", module))
    mine = Criterion(
        id="mine",
        question="?",
        unit="points",
        comparison="below",
        module="my_criterion",
        section="Mine",
    )

    with pytest.raises(ValueError, match="expected a result of 'mine' in 'points', got one of"):
        mine.judge(cast("Run", None))


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: criterion.id)
def test_criterion_when_listed_then_a_fault_is_planted_for_it(criterion: Criterion) -> None:
    """A criterion that nothing tests could be broken unnoticed."""
    assert criterion.faults()
