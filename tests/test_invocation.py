"""What a command line asks of the gate, told apart from its words alone."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from harness.invocation import Invocation


def invocation(root: Path, *, directory: Path | None = None, **options: Any) -> Invocation:
    """Return a call with these options, made in the root directory unless told otherwise."""
    return Invocation(root=root, directory=directory or root, options=Namespace(**options))


@pytest.mark.parametrize(
    ("argument", "is_inside"),
    [
        ("acceptance", True),
        ("acceptance/", True),
        ("./acceptance/../acceptance", True),
        ("acceptance/test_criteria.py", True),
        ("acceptance/test_criteria.py::test_one[tiny]", True),
        ("acceptance/test_criteria.py::test_one[../tests]", True),
        ("acceptance/../tests", False),
        ("acceptance_of_cookies", False),
        (".", False),
        ("tests/acceptance", False),
        ("test_one.py::acceptance/", False),
    ],
)
def test_split_when_given_a_path_then_tells_whether_it_lies_in_acceptance(
    tmp_path: Path, argument: str, is_inside: bool
) -> None:
    """What counts is where a path leads, not how it is written."""
    inside, outside = invocation(tmp_path).split([argument])
    assert (inside, outside) == (([argument], []) if is_inside else ([], [argument]))


def test_split_when_acceptance_is_a_link_then_both_names_lie_in_it(tmp_path: Path) -> None:
    """A checkout may keep its acceptance tests elsewhere."""
    (tmp_path / "real").mkdir()
    (tmp_path / "acceptance").symlink_to(tmp_path / "real")
    names = ["acceptance/test_one.py", "real/test_one.py"]
    assert invocation(tmp_path).split(names) == (names, [])


@pytest.mark.parametrize(
    ("expression", "profile"),
    [("", "tiny"), ("not gpu and not slow", "tiny"), ("gpu", "production"), ("gpus", "tiny")],
)
def test_profile_when_asked_for_by_marker_then_is_known_before_collection(
    tmp_path: Path, expression: str, profile: str
) -> None:
    """The first verdict, INCOMPLETE, already says which gate it is."""
    assert invocation(tmp_path, markexpr=expression).profile == profile


@pytest.mark.parametrize(("marked", "expected"), [("a", "a"), ("a/b", "a/b"), (None, "a/b/c")])
def test_paths_when_not_given_then_lie_in_the_nearest_folder_with_a_pytest_ini(
    tmp_path: Path, marked: str | None, expected: str
) -> None:
    """From where pytest was called upwards; in that very folder if there is none."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    if marked:
        (tmp_path / marked / "pytest.ini").touch()

    call = invocation(tmp_path, directory=tmp_path / "a/b/c", report_dir=None)

    root = tmp_path / expected
    assert (call.report_dir, call.work_dir) == (root / "reports", root / "work")
    assert call.config_path == root / "gate.toml"


def test_paths_when_given_then_start_from_where_pytest_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative, absolute and home paths mean what they mean in a shell."""
    monkeypatch.setenv("HOME", "/home/someone")
    options = {"report_dir": "mine", "gate_config": "/etc/gate.toml", "work_dir": "~/work"}
    call = invocation(tmp_path, directory=tmp_path / "elsewhere", **options)
    assert call.report_dir == tmp_path / "elsewhere" / "mine"
    assert call.config_path == Path("/etc/gate.toml")
    assert call.work_dir == Path("/home/someone/work")


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"dist": "no", "reruns": None, "benchmark_disable": False}, ""),
        ({"reruns": 0}, "0"),
        ({"benchmark_disable": True, "benchmark_enable": True}, ""),
        ({}, ""),
    ],
)
def test_refusal_when_nothing_is_wrong_then_is_none(
    tmp_path: Path, options: dict[str, Any], setting: str
) -> None:
    """Options that are off, overruled or unknown (their plugin is missing) are no reason."""
    assert invocation(tmp_path, **options).find_refused(reruns_setting=setting) is None
