"""The exit code: 0 only with PASS, and pytest's own where pytest stopped the run."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project


def test_run_when_every_criterion_passes_then_exit_code_is_zero(passing: Project) -> None:
    """PASS, and nothing but PASS, lets a deployment go on."""
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.OK
    assert passing.verdict["verdict"] == "PASS"
