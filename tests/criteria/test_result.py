"""The criterion result and its text.

What ``harness.criteria`` exports.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness.criteria
from harness.criteria.result import CriterionResult, State, decimal_text


@pytest.mark.parametrize(
    ("number", "text"),
    [(Fraction(5, 4), "1.25"), (5, "5"), (100, "100"), (-0.00001, "0"), (1 / 3, "0.3333")],
)
def test_decimal_text_when_rounded_then_reads_naturally(number: float, text: str) -> None:
    """At most four places, no trailing zeros, no negative zero."""
    assert decimal_text(number) == text


@given(st.fractions(-100, 100))
def test_to_dict_when_there_is_a_value_then_the_exact_one_stands_beside_it(value: Fraction) -> None:
    """The rounded text is for reading; numerator and denominator are what was compared."""
    entry = CriterionResult(id="x", state=State.PASS, detail="", value=value).to_dict()

    assert Fraction(entry["numerator"], entry["denominator"]) == value
    assert abs(Fraction(entry["value"]) - value) <= Fraction(1, 10_000)


def test_to_dict_when_there_is_no_value_then_nulls_stand_for_it() -> None:
    """Nothing measured is not zero."""
    entry = CriterionResult(id="x", state=State.NOT_RUN, detail="").to_dict()

    assert [entry[k] for k in ("value", "numerator", "denominator", "interval")] == [None] * 4


@pytest.mark.parametrize("name", harness.criteria.__all__)
def test_public_name_then_is_there(name: str) -> None:
    """Names are looked up in a table; each stands in it, and in its module."""
    assert getattr(harness.criteria, name) is not None


def test_unknown_name_then_error_as_of_any_module() -> None:
    """A misspelt import fails at once."""
    with pytest.raises(AttributeError, match="has no attribute 'judge_everything'"):
        harness.criteria.judge_everything  # noqa: B018 - the look-up is what is tested
