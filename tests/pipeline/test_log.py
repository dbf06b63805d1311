"""The log of stages."""

from __future__ import annotations

from itertools import count

import pytest

from harness.pipeline.log import StageLog, peak_memory_bytes


def test_stage_when_it_ends_then_its_seconds_are_kept() -> None:
    """The clock is read at both ends."""
    ticks = count()
    log = StageLog(clock=lambda: float(next(ticks)))

    with log.stage("embed") as entry:
        entry.is_reused = True

    assert log.to_list() == [{"name": "embed", "elapsed_seconds": 1.0, "is_reused": True}]


def test_stage_when_it_fails_then_it_is_in_the_log_all_the_same() -> None:
    """A report of a halted run shows how far it came."""
    log = StageLog()

    with pytest.raises(OSError, match="full"), log.stage("train"):
        raise OSError("full")

    assert [entry["name"] for entry in log.to_list()] == ["train"]


def test_stage_when_one_inside_it_fails_then_the_exception_names_that_one_alone() -> None:
    """Whoever reads of the failure learns what was being done."""
    log = StageLog()

    with pytest.raises(OSError, match="full") as caught, log.stage("train"), log.stage("embed"):
        raise OSError("full")

    assert caught.value.__notes__ == ["(stage: embed)"]


def test_peak_memory_when_asked_then_it_is_in_bytes() -> None:
    """A Python process holds megabytes, not kilobytes and not terabytes."""
    assert 10_000_000 < peak_memory_bytes() < 10**12
