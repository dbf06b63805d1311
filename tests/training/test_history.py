"""What is logged of each epoch."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.errors import MissingInput
from harness.training.history import (
    EpochRecord,
    digest_history,
    tensorboard_events,
    write_history,
)
from tests.training.conftest import Fit

RECORD = EpochRecord(
    epoch=1,
    train_loss=0.5,
    validation_loss=0.25,
    validation_accuracy=0.75,
    validation_precision=0.5,
    validation_recall=0.625,
    learning_rate=0.0002,
    elapsed_seconds=2.0,
    rows_per_second=50.0,
    n_dropped_rows=0,
)


def test_history_then_one_json_object_a_line(tmp_path: Path) -> None:
    """Every field of every epoch."""
    write_history(tmp_path / "training.jsonl", [RECORD, replace(RECORD, epoch=2)])

    lines = (tmp_path / "training.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        asdict(RECORD),
        asdict(replace(RECORD, epoch=2)),
    ]


def test_digest_then_depends_on_what_was_computed_and_not_on_times() -> None:
    """A slower machine computes the same history."""
    digest = digest_history([RECORD])

    assert digest == digest_history([replace(RECORD, elapsed_seconds=9.0, rows_per_second=1.0)])
    assert digest != digest_history([replace(RECORD, validation_loss=0.26)])


def test_training_with_tensorboard_then_event_files_hold_the_losses(
    fit: Fit, tmp_path: Path
) -> None:
    """One scalar per field and epoch."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    with tensorboard_events(tmp_path) as on_epoch:
        trained = fit(on_epoch=on_epoch)

    events = events.EventAccumulator(str(tmp_path))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("validation_loss")}
    assert found == pytest.approx({r.epoch: r.validation_loss for r in trained.history})


def test_tensorboard_that_is_not_installed_then_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an optional extra."""
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)

    with (
        pytest.raises(MissingInput, match=r"pip install 'virnucpro-harness\[tensorboard\]'"),
        tensorboard_events(tmp_path),
    ):
        pass
