"""The pages for production name commands, options and files that exist."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from harness.cli import app
from harness.criteria.result import State

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "production.md", ROOT / "docs" / "scaling.md"]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined] # it is a group
PYTEST_OPTIONS = {"--gate-config", "--work-dir", "--report-dir"}


def blocks(language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def calls() -> Iterator[tuple[str, list[str]]]:
    """Yield each call of ``harness``: the command, and the long options that it is given."""
    scripts = "\n".join(blocks("sh") + blocks("yaml")).replace("\\\n", " ")
    for line in scripts.splitlines():
        for part in re.split(r"&&|\|\||;", line.partition("#")[0]):
            if found := re.search(r"(?:^|\s|/)harness ([a-z]+)(.*)", part):
                yield found[1], re.findall(r"--[a-z-]+", found[2])


def test_page_when_it_calls_harness_then_command_and_options_exist() -> None:
    """Nobody is sent to a command that was renamed."""
    found = list(calls())

    assert {"rehearse", "prepare", "split", "embed", "train", "verify"} <= {
        name for name, _ in found
    }
    for name, options in found:
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert set(options) <= known, f"harness {name} {options}"


@pytest.mark.parametrize("script", blocks("sh"))
def test_page_when_a_shell_reads_its_scripts_then_it_understands_them(script: str) -> None:
    """Syntax only: nothing is run."""
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)

    assert checked.returncode == 0, checked.stderr


def test_page_when_the_workflow_is_read_then_the_gate_and_verify_are_one_step() -> None:
    """Neither may be left out."""
    (workflow,) = (yaml.safe_load(block) for block in blocks("yaml"))

    scripts = [step.get("run", "") for step in workflow["jobs"]["gate"]["steps"]]
    assert any("pytest acceptance/ -m gpu" in s and "harness verify" in s for s in scripts)
    named = set(re.findall(r"--[a-z]+-[a-z]+", "\n".join(scripts)))
    assert named <= PYTEST_OPTIONS


def test_page_when_states_are_explained_then_none_is_left_out() -> None:
    """Every state that a criterion or a verdict can have has a row."""
    rows = set(re.findall(r"^\| `?([A-Z_]+)`? \|", TEXT, flags=re.MULTILINE))

    assert {state.value for state in State} | {"HALT", "INCOMPLETE"} <= rows


def test_page_when_it_names_modules_of_benchmarks_then_they_are_there() -> None:
    """What is to be run can be run."""
    named = set(re.findall(r"python -m (benchmarks\.[a-z_]+)", TEXT))

    assert named == {f"benchmarks.{n}" for n in ("device_refusals", "scaling", "several_gpus")}
    assert all((ROOT / name.replace(".", "/")).with_suffix(".py").is_file() for name in named)
