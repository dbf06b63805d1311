"""What importing costs: the plugin is imported in every pytest run of the environment."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "pandas", "matplotlib", "sklearn", "scipy")


@pytest.mark.parametrize("module", ["harness", "harness.plugin", "harness.verdict.verdict"])
def test_import_when_nothing_is_used_yet_then_no_heavy_library_is_loaded(module: str) -> None:
    """Neither the package nor the plugin imports them; ``harness verify`` answers at once."""
    code = f"import sys, {module}; print([n for n in {HEAVY} if n in sys.modules])"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
