"""The environment in the verdict: enough to reproduce a run, and no host name."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.verdict import provenance
from harness.verdict.provenance import describe_environment, describe_machine


def fake_torch(*, has_gpu: bool) -> Any:
    """Return what the module says of the machine, with two GPUs or none."""
    cuda = SimpleNamespace(
        is_available=lambda: has_gpu,
        device_count=lambda: 2 if has_gpu else 0,
        get_device_name=lambda index: f"GPU {index}",
    )
    version = SimpleNamespace(cuda="13.0")
    return SimpleNamespace(cuda=cuda, version=version, get_num_threads=lambda: 3)


def commit(folder: Path) -> str:
    """Make a repository with one commit; return its name."""
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for arguments in (["init", "-q"], [*identity, "commit", "-qm", "first", "--allow-empty"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_environment_when_described_then_names_versions_and_processor(tmp_path: Path) -> None:
    """Versions come from what is installed; numbers can be compared."""
    facts = describe_environment(tmp_path)
    assert facts["packages"]["torch"] == metadata.version("torch")
    assert facts["python"] == platform.python_version()
    assert facts["cpu_model"]
    assert 1 <= facts["cpu_available"] <= facts["cpu_count"]
    assert facts["memory_bytes"] > 2**28


def test_environment_when_described_then_is_json_without_the_host_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict is published; where it was obtained is nobody's business."""
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    monkeypatch.setenv("HOSTNAME", "secret-host")
    text = json.dumps([describe_environment(tmp_path), describe_machine()], allow_nan=False)
    assert "secret-host" not in text
    assert "node" not in describe_machine()


def test_commit_when_in_a_repository_then_is_named_with_its_changes(tmp_path: Path) -> None:
    """A changed working tree is not what the commit says."""
    name = commit(tmp_path)
    clean = describe_environment(tmp_path)
    (tmp_path / "new.txt").write_text("changed")
    changed = describe_environment(tmp_path)
    assert (clean["git_commit"], clean["git_is_dirty"]) == (name, False)
    assert (changed["git_commit"], changed["git_is_dirty"]) == (name, True)


@pytest.mark.parametrize("program", ["git", "no-such-program"])
def test_commit_when_there_is_no_repository_or_no_git_then_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """An unpacked archive has no commit, and that is no error."""
    if program != "git":
        monkeypatch.setenv("PATH", str(tmp_path))
    facts = describe_environment(tmp_path)
    assert (facts["git_commit"], facts["git_is_dirty"]) == (None, None)


def test_torch_when_not_imported_then_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Describing a run must not take the seconds that importing torch takes."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    facts = describe_environment(tmp_path)
    assert (facts["compute_threads"], facts["gpus"], facts["gpu_driver"]) == (None, [], None)
    assert "torch" not in sys.modules


@pytest.mark.parametrize(
    ("has_gpu", "expected"),
    [(True, (["GPU 0", "GPU 1"], "580.1", "13.0")), (False, ([], None, None))],
)
def test_gpu_when_torch_is_there_then_name_and_driver_follow_cuda(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_gpu: bool,
    expected: tuple[list[str], str | None, str | None],
) -> None:
    """GPU facts are those of the CUDA that computed, not of whatever is plugged in."""
    monkeypatch.setitem(sys.modules, "torch", fake_torch(has_gpu=has_gpu))
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '580.1\\n580.1\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    facts = describe_environment(tmp_path)
    assert facts["compute_threads"] == 3
    assert (facts["gpus"], facts["gpu_driver"], facts["cuda"]) == expected


def test_processor_when_the_system_does_not_tell_then_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every system has /proc."""
    monkeypatch.setattr(provenance, "CPU_INFO", tmp_path / "missing")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert describe_environment(tmp_path)["cpu_model"] == "arm"
