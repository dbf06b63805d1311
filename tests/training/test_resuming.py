"""Nothing is lost: a training that was stopped anywhere ends as one that never was."""

from __future__ import annotations

import errno
import io
import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.config import TrainingConfig
from harness.errors import ArtifactError, CheckpointError
from harness.progress import Progress
from harness.training import batches, steps
from harness.training.checkpoints import TrainedHead, read_metadata
from harness.training.history import digest_history
from harness.training.trainer import HeadTrainer, TrainingInterrupted
from tests.training.conftest import OVERFITS, QUICK, Fit, FitAll, Rows, draw_rows, same_weights

BEST = replace(QUICK, save_best=True)


READINGS = 4  # of the clock in an epoch of one call: around its steps, and its validation


def _power_until(epoch: int) -> Callable[[], float]:
    """Return a clock that fails when an epoch is over and saved, as the mains might."""
    readings = itertools.count()

    def clock() -> float:
        if next(readings) == READINGS * epoch:
            raise RuntimeError("power failure")
        return 0.0

    return clock


@pytest.fixture
def _short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a call take three steps, so that an epoch of seven has three of them."""
    for module in (batches, steps):
        monkeypatch.setattr(module, "STEPS_PER_CALL", 3)


@pytest.mark.parametrize("epoch", [1, 9])
def test_training_that_failed_after_an_epoch_then_goes_on_to_the_same_heads(
    fit_all: FitAll, tmp_path: Path, epoch: int
) -> None:
    """Final heads, best heads and histories are those of an uninterrupted training."""
    recipe = replace(OVERFITS, patience=4, save_best=True)
    expected = fit_all(recipe=recipe)
    with pytest.raises(RuntimeError, match="power failure"):
        fit_all(recipe=recipe, folder=tmp_path, clock=_power_until(epoch))
    lines = (tmp_path / "training.jsonl").read_text(encoding="utf-8").splitlines()

    found = fit_all(recipe=recipe, folder=tmp_path)

    assert len({trained.epochs_run for trained in found}) > 1
    assert len(lines) == sum(min(epoch, trained.epochs_run) for trained in found)
    for one, other in zip(found, expected, strict=True):
        assert same_weights(one.final, other.final)
        assert same_weights(one.head, other.head)
        assert digest_history(one.history) == digest_history(other.history)


def _clock_that_asks(number: signal.Signals, *, reading: int) -> Callable[[], float]:
    """Return a clock that raises a signal once, at one of its readings, counted from 0."""
    readings = itertools.count()

    def clock() -> float:
        if next(readings) == reading:
            signal.raise_signal(number)
        return 0.0

    return clock


@pytest.mark.usefixtures("_short_calls")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_within_an_epoch_then_saves_that_step_and_goes_on_to_the_same_weights(
    fit: Fit, tmp_path: Path, number: signal.Signals
) -> None:
    """The message says where it stopped and how to go on."""
    expected = fit()
    # An epoch reads the clock before its steps, after each call, before and after its validation.
    clock = _clock_that_asks(number, reading=6)
    with pytest.raises(
        TrainingInterrupted,
        match=rf"stopped by {number.name} in epoch 2 after 3 of 7 steps; saved in .*run the same",
    ):
        fit(folder=tmp_path, takes_signals=True, clock=clock)

    assert read_metadata(tmp_path / "state.safetensors")["steps_done"] == 3
    stream = io.StringIO()

    found = fit(folder=tmp_path, progress=Progress(stream))

    assert same_weights(found.final, expected.final)
    assert [r.train_loss for r in found.history] == [r.train_loss for r in expected.history]
    assert "28 steps" in stream.getvalue()


@pytest.mark.usefixtures("_short_calls")
def test_epoch_that_was_interrupted_then_its_time_is_the_sum_of_both_parts(
    fit: Fit, tmp_path: Path
) -> None:
    """Rows per second would be too many otherwise."""
    ask, seconds = _clock_that_asks(signal.SIGTERM, reading=0), itertools.count()
    with pytest.raises(TrainingInterrupted):
        fit(folder=tmp_path, takes_signals=True, clock=lambda: ask() + next(seconds))

    found = fit(folder=tmp_path, clock=lambda: float(next(seconds)))

    assert found.history[0].rows_per_second == 100 / 3
    assert found.history[1].rows_per_second == 100 / 3


def test_signal_at_the_end_of_an_epoch_then_the_epoch_is_finished_first(
    fit: Fit, tmp_path: Path
) -> None:
    """Its validation belongs to it."""
    clock = _clock_that_asks(signal.SIGTERM, reading=1)

    with pytest.raises(TrainingInterrupted, match="in epoch 2 after 0 of 7 steps"):
        fit(folder=tmp_path, takes_signals=True, clock=clock)


@pytest.mark.usefixtures("_short_calls")
def test_signal_without_a_folder_then_message_says_that_nothing_was_saved(fit: Fit) -> None:
    """It still stops at the end of the step."""
    clock = _clock_that_asks(signal.SIGTERM, reading=0)

    with pytest.raises(TrainingInterrupted, match="nothing was saved, since no folder was given"):
        fit(takes_signals=True, clock=clock)


def test_training_that_is_over_then_is_not_trained_again(fit_all: FitAll, tmp_path: Path) -> None:
    """The same call returns the same result."""
    first = fit_all(recipe=BEST, folder=tmp_path)

    second = fit_all(recipe=BEST, folder=tmp_path, clock=_power_until(0))

    for one, other in zip(first, second, strict=True):
        assert one.history == other.history
        assert same_weights(one.final, other.final)
        assert same_weights(one.head, other.head)


@pytest.mark.parametrize("change", ["seed", "recipe", "labels", "features"])
def test_folder_of_another_training_then_error(
    fit: Fit, tmp_path: Path, rows: Rows, change: str
) -> None:
    """Its state is neither used nor overwritten."""
    fit(folder=tmp_path)
    state = (tmp_path / "state.safetensors").read_bytes()
    other = {
        "seed": 43,
        "recipe": replace(QUICK, lr_step=3),
        "labels": 1 - rows.labels,
        "features": rows.features * 2,
    }

    with pytest.raises(ArtifactError, match="belongs to another training"):
        fit(folder=tmp_path, **{change: other[change]})

    assert (tmp_path / "state.safetensors").read_bytes() == state


def test_full_disk_then_error_and_the_last_good_state_stays(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is space, the same call goes on to the same weights."""
    expected = fit()
    readings = itertools.count()

    def clock() -> float:
        if next(readings) == READINGS + 1:
            monkeypatch.setattr(os, "fsync", full)
        return 0.0

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ArtifactError, match=r"No space left on device.*Free some space"):
        fit(folder=tmp_path, clock=clock)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "state.safetensors",
        "training.jsonl",
    ]
    assert len(read_metadata(tmp_path / "state.safetensors")["histories"]["42"]) == 1

    assert same_weights(fit(folder=tmp_path).final, expected.final)


def test_damaged_state_then_error_names_the_file(fit: Fit, tmp_path: Path) -> None:
    """Training anew over it would be a silent loss."""
    (tmp_path / "state.safetensors").write_bytes(b"damaged")

    with pytest.raises(CheckpointError, match=r"state\.safetensors: cannot be read"):
        fit(folder=tmp_path)


class _Long:
    """A training of some epochs, here or in a process that waits for leave after each of them."""

    recipe = TrainingConfig(epochs=12, patience=12, save_best=True)
    program = """
        import sys
        from pathlib import Path
        from tests.training.test_resuming import READINGS, _Long
        readings = 0
        def tell_and_wait():
            global readings
            if readings and readings % READINGS == 0:
                print("an epoch is over", flush=True)
                sys.stdin.readline()
            readings += 1
            return 0.0
        _Long.fit(Path(sys.argv[1]), tell_and_wait)
        """

    @classmethod
    def fit(cls, folder: Path, clock: Callable[[], float] = lambda: 0.0) -> tuple[TrainedHead, ...]:
        """Train two heads to the end."""
        torch.set_num_threads(1)
        train, validation = draw_rows(1000, 64), draw_rows(100, 64, seed=1)
        trainer = HeadTrainer(
            train.features,
            train.labels,
            validation_features=validation.features,
            validation_labels=validation.labels,
            recipe=cls.recipe,
            clock=clock,
        )
        return trainer.fit(seeds=(1, 2), folder=folder)

    @classmethod
    def kill(cls, folder: Path, *, n_epochs: int) -> None:
        """Train in a process and kill it after so many epochs: somewhere in the next one."""
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(cls.program), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for _ in range(n_epochs):
                assert process.stdout.readline()
                process.stdin.write(b"go on\n")
                process.stdin.flush()
            process.kill()
        assert process.returncode == -signal.SIGKILL


@pytest.mark.slow  # torch is loaded several times
def test_process_that_is_killed_again_and_again_then_ends_with_the_same_heads(
    tmp_path: Path,
) -> None:
    """SIGKILL leaves no time for anything; each time it goes on from where it was killed."""
    for n_epochs in (1, 4, 2):
        _Long.kill(tmp_path / "killed", n_epochs=n_epochs)
    before = read_metadata(tmp_path / "killed" / "state.safetensors")["histories"]

    found = _Long.fit(tmp_path / "killed")

    assert len(before["1"]) >= 7
    for one, other in zip(found, _Long.fit(tmp_path / "whole"), strict=True):
        assert same_weights(one.final, other.final)
        assert same_weights(one.head, other.head)
        assert one.history == other.history
