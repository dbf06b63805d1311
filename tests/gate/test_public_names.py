"""What ``harness.criteria`` exports."""

from __future__ import annotations

import pytest

import harness.criteria


@pytest.mark.parametrize("name", harness.criteria.__all__)
def test_public_name_then_is_there(name: str) -> None:
    """Names are looked up in a table; each stands in it, and in its module."""
    assert getattr(harness.criteria, name) is not None


def test_unknown_name_then_error_as_of_any_module() -> None:
    """A misspelt import fails at once."""
    with pytest.raises(AttributeError, match="has no attribute 'judge_everything'"):
        harness.criteria.judge_everything  # noqa: B018 - the look-up is what is tested
