"""``harness train``: stopped, killed, gone on with, and with several seeds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config import load_config
from harness.pipeline import Pipeline
from harness.progress import Progress
from tests.cli.test_commands import run, write_sequences
from tests.pipeline.test_heads import SETTINGS

ROOT = Path(__file__).parents[2]
DIES_AFTER_EPOCH_4 = """
import os, signal
from harness.cli import main
from harness.progress import Progress
Progress.line = lambda self, text: "epoch 4/" in text and os.kill(os.getpid(), signal.SIGKILL)
main()
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with gate.toml and a work directory in which the candidate is embedded."""
    folder = tmp_path_factory.mktemp("run")
    write_sequences(folder).write_text(SETTINGS)
    pipeline = Pipeline(load_config(folder / "gate.toml"), folder / "work")
    pipeline.samples.split()
    pipeline.vectors.feature_digests("candidate")
    return folder


@pytest.fixture
def options(embedded: Path, tmp_path: Path) -> list[str]:
    """Return the arguments of a training of the candidate, with a work directory of its own."""
    return arguments(embedded, tmp_path / "work")


def arguments(embedded: Path, work_dir: Path) -> list[str]:
    """Return the arguments of a training of the candidate."""
    shutil.copytree(embedded / "work", work_dir)
    return [
        "train", "candidate",
        "--gate-config", str(embedded / "gate.toml"), "--work-dir", str(work_dir),
    ]  # fmt: skip


def head_bytes(work_dir: Path) -> bytes:
    """Return the only head of a work directory."""
    (head,) = work_dir.glob("heads/*/head.safetensors")
    return head.read_bytes()


@pytest.mark.slow
def test_train_when_it_is_killed_then_goes_on_and_the_head_is_the_same(
    options: list[str],
    embedded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGKILL leaves no time for anything; the head is equal to the last bit."""
    killed = subprocess.run(
        [sys.executable, "-c", DIES_AFTER_EPOCH_4, *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL

    assert run(monkeypatch, *options) == 0
    assert capsys.readouterr().err.startswith("train candidate, seed 42: epoch 5/6")
    assert run(monkeypatch, *arguments(embedded, tmp_path / "whole")) == 0

    assert head_bytes(tmp_path / "work") == head_bytes(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_train_when_asked_to_stop_then_saves_and_says_how_to_go_on(
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    """The same command goes on with the next epoch."""
    with monkeypatch.context() as patched:
        patched.setattr(Progress, "line", lambda *_: signal.raise_signal(number))
        assert run(monkeypatch, *options) == 130
    shown = capsys.readouterr().err
    assert f"stopped by {number.name} in epoch 2 after 0 of" in shown
    assert "run the same again to go on from there" in shown

    assert run(monkeypatch, *options) == 0

    assert capsys.readouterr().err.startswith("train candidate, seed 42: epoch 2/6")


def test_train_with_several_seeds_then_their_validation_is_shown(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The declared seed and the ones that follow it."""
    assert run(monkeypatch, *options, "--seeds", "3") == 0

    shown = capsys.readouterr().out
    for seed in (42, 43, 44):
        assert f"candidate, seed {seed}: validation loss 0." in shown


def test_train_with_tensorboard_then_event_files_are_written(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One folder a side; of a head that is there already, too."""
    for name in ("trained", "reused"):
        assert run(monkeypatch, *options, "--tensorboard", str(tmp_path / name)) == 0

    for name in ("trained", "reused"):
        (events,) = (tmp_path / name / "candidate").glob("events.out.tfevents.*")
        assert b"validation_loss" in events.read_bytes()
