"""What README.md and docs/ show can be done: examples run, and what is named is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

from harness.cli import app
from harness.config import GateConfig
from harness.criteria.result import State
from harness.pipeline.rehearsal import SCALES, write_kit

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS, COMMANDS_PAGE, EXAMPLE = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("settings", "commands", "python")
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined] # it is a group


def block(page: str, language: str) -> str:
    """Return a page's only code block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.M | re.S)
    return str(found)


def test_example_when_it_is_run_then_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As printed, from a folder that looks like a checkout with a kit."""
    (tmp_path / "acceptance").symlink_to(ROOT / "acceptance")
    write_kit(tmp_path / "kit", SCALES["tiny"], data=ROOT / "acceptance" / "data")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}

    exec(compile(block(EXAMPLE, "python"), "python.md", "exec"), names)

    assert names["vectors"].shape == (4520, 160)  # type: ignore[attr-defined]
    assert names["y_pred"].shape == (452,)  # type: ignore[attr-defined]


def test_settings_when_they_are_read_then_they_are_a_deployments() -> None:
    """Whoever starts from them is not looser than a deployment allows."""
    config = GateConfig.from_dict(tomllib.loads(block(SETTINGS, "toml")))

    assert config.looser_than_deployment() == ()
    assert config.nucleotide.kind == "embeddings"


def test_commands_when_they_are_listed_then_all_of_them_and_their_options_are() -> None:
    """The table has a row for each command, and no row or option that is not there."""
    (table,) = re.findall(
        r"^\| `harness \.\.\.` [^\n]*\n(.*?)\n\n", COMMANDS_PAGE, flags=re.M | re.S
    )
    rows = re.findall(r"^\| `([a-z]+)(.*)", table, flags=re.M)

    assert {name for name, _ in rows} == {*COMMANDS}
    for name, rest in rows:
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, name


def test_readme_when_states_are_explained_then_none_is_left_out() -> None:
    """A reader of a report finds every state there is."""
    assert all(re.search(rf"\b{state.value}\b", README) for state in State)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_when_it_links_to_files_then_they_are_there(page: Path) -> None:
    """Links and pictures of all pages; those to the network are left alone."""
    links = re.findall(r"\]\(<?([^)#>]+)[^)]*\)", page.read_text(encoding="utf-8"))

    missing = [to for to in links if "://" not in to and not (page.parent / to).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_when_it_names_files_then_they_are_there(page: Path) -> None:
    """What stands in code spans."""
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:harness|acceptance|tests|benchmarks|docs)/[\w./-]*)`", text)

    assert [path for path in paths if not (ROOT / path).exists()] == []
