"""What this machine can run, and what a gate still lacks: checks that change nothing."""

from pathlib import Path

from harness.pipeline.doctor.check import Check, State
from harness.pipeline.doctor.gate import check_gate
from harness.pipeline.doctor.machine import check_machine

__all__ = ["Check", "State", "examine"]


def examine(gate_config: Path) -> list[Check]:
    """Return what was found out about this machine, then about a gate's settings.

    Nothing is downloaded, and no code of a model runs. What cannot be found out is a check of its
    own, never an exception.
    """
    return [*check_machine(), *check_gate(gate_config)]
