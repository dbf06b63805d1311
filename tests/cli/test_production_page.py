"""The pages for production explain every state, and their workflow lets nothing ship unjudged."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from harness.criteria.result import State

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "production.md", ROOT / "docs" / "scaling.md"]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def blocks(language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_page_when_the_workflow_is_read_then_the_gate_and_verify_are_one_step() -> None:
    """Neither may be left out."""
    (workflow,) = (yaml.safe_load(block) for block in blocks("yaml"))

    scripts = [step.get("run", "") for step in workflow["jobs"]["gate"]["steps"]]
    assert any("pytest acceptance/ -m gpu" in s and "harness verify" in s for s in scripts)


def test_page_when_states_are_explained_then_none_is_left_out() -> None:
    """Every state that a criterion or a verdict can have has a row."""
    rows = set(re.findall(r"^\| `?([A-Z_]+)`? \|", TEXT, flags=re.MULTILINE))

    assert {state.value for state in State} | {"HALT", "INCOMPLETE"} <= rows
