"""Every command that a page shows can be typed: it exists, with its options, modules and files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from docs.conf import TABLES
from harness.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined] # it is a group
PROGRAMS = {"harness", "make", "pytest", "python"}
ROOMS = ("acceptance/", "benchmarks/", "docs/", "harness/", "tests/", "tools/")


def blocks(page: Path, languages: str) -> list[str]:
    """Return the code blocks of a page; those within lists lose their margin."""
    found = re.findall(
        rf"^( *)```(?:{languages})\n(.*?)^\1```$",
        page.read_text(encoding="utf-8"),
        flags=re.M | re.S,
    )
    return [re.sub(rf"^{margin}", "", text, flags=re.MULTILINE) for margin, text in found]


def words(line: str) -> list[str]:
    """Return the words and operators of a line as a shell splits it, without its comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def calls(page: Path) -> Iterator[list[str]]:
    """Yield each call of a program of ours: its name, then its arguments."""
    lines = [
        line
        for text in blocks(page, "sh|sh run|yaml")
        for line in text.replace("\\\n", " ").splitlines()
    ]
    spans = re.findall(r"`((?:harness|make|pytest|python) [^`\n]+)`", page.read_text("utf-8"))
    for line in [*lines, *(re.sub(r"[\[\]]|\.\.\.", "", span) for span in spans)]:
        for part in re.split(r"\n[&|;()<>]+\n", "\n".join(words(line))):
            call = part.splitlines()
            names = [Path(word).name for word in call]
            if start := next((n for n, name in enumerate(names, 1) if name in PROGRAMS), 0):
                yield [names[start - 1], *call[start:]]


def is_offered(option: str, source: str) -> bool:
    """Whether a module names an option for argparse, or a parameter for typer."""
    parameter = option.strip("-").replace("-", "_")
    return f'"{option}"' in source or re.search(rf"\b{parameter}: ", source) is not None


CALLS = {shlex.join(call): (page, call) for page in PAGES for call in calls(page) if len(call) > 1}


@pytest.mark.parametrize("typed", CALLS)
def test_page_when_it_shows_a_command_then_it_can_be_typed(
    typed: str, pytestconfig: pytest.Config
) -> None:
    """Nobody is sent to a command, an option, a module or a file that was renamed."""
    page, (program, *arguments) = CALLS[typed]
    options = {word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
    shown = f"{page.relative_to(ROOT)}: {typed}"

    paths = [word for word in arguments if word.startswith(ROOMS)]
    assert [path for path in paths if not (ROOT / path).exists()] == [], shown
    if program == "harness" and arguments[0].islower():
        known = {option for item in COMMANDS[arguments[0]].params for option in item.opts}
        assert options <= {*known, "--help"}, shown
    elif program == "make":
        dry = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True)
        assert dry.returncode == 0, shown
    elif program == "pytest":
        for option in options:
            pytestconfig.getoption(option)  # raises for one that pytest does not have
    elif arguments[1:] and arguments[1].startswith("benchmarks."):
        module = (ROOT / arguments[1].replace(".", "/")).with_suffix(".py")
        source = module.read_text(encoding="utf-8")
        assert [o for o in options - {"-m"} if not is_offered(o, source)] == [], shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_when_a_shell_reads_its_scripts_then_it_understands_them(page: Path) -> None:
    """Syntax only: nothing is run."""
    for script in blocks(page, "sh|sh run"):
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh run")], ids=str)
def test_page_when_its_scripts_are_to_be_run_then_they_end_well(page: Path, tmp_path: Path) -> None:
    """One after the other, in an empty folder."""
    script = "\n".join(["set -euo pipefail", *blocks(page, "sh run")])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
    )

    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("settings", '| `dropout` | number in quotes | `"0.5"` | share of the hidden layer |'),
        (
            "settings",
            "| `sampling_unit` | `record`, `window`, `genome`, `lineage` "
            '| `"record"` | what a part of the split gets whole |',
        ),
        ("commands", "| `CHECKPOINT` |  | needed | The head that is to be deployed. |"),
        (
            "commands",
            "| `--scale` | `full`, `tiny` | `full` | The real shapes on a GPU, or a laptop's. |",
        ),
        (
            "pytest options",
            "| `--work-dir` | DIR "
            "| Where cached artifacts live. Default: work in the root directory. |",
        ),
        ("schema", "| `differences.*.value` \\* | `known_number` |  |"),
        ("schema", "| `criteria` \\* | array of `criterion` |  |"),
    ],
)
def test_reference_when_it_is_made_from_the_code_then_it_says_what_stands_there(
    name: str, row: str
) -> None:
    """A key's values, default and comment; an option's help; a field and who must have it."""
    assert row in [*TABLES[name]()]
