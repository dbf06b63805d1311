"""Bytes at random: every reader, in a process of its own with little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # 20 s in all; by hand longer: python -m tests.attack.fuzz --seconds 600
def test_readers_when_bytes_are_mutated_then_value_or_error_of_the_project() -> None:
    """Neither a traceback nor a hang nor more than a gigabyte."""
    command = [sys.executable, "-m", "tests.attack.fuzz", "--seconds", "20", "--seed", "1"]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


def test_readers_when_a_small_file_asks_for_much_then_refused_within_bounds() -> None:
    """Memory, time and depth are bounded by the file's size, whatever it says of itself."""
    command = [sys.executable, "-m", "tests.attack.bombs"]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
