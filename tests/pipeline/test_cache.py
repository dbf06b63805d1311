"""What a run makes once, finds in its work directory or makes anew; and the log of its stages."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import pytest

from harness.pipeline import cache
from harness.pipeline.cache import StageCache, StageLog, once, peak_memory_bytes, take_gpu_peak


class Kitchen:
    """Has one stage."""

    def __init__(self) -> None:
        self.baked: list[str] = []

    @once
    def cake(self, kind: str, *, quickly: bool = False) -> str:
        """Return a cake."""
        self.baked.append(kind)
        return f"{kind} cake, {quickly=}"


def test_stage_when_asked_for_again_then_answers_with_what_it_made() -> None:
    """Of the same arguments; how it was made is decided by the first call."""
    kitchen = Kitchen()

    asked = [kitchen.cake("plum", quickly=True), kitchen.cake("plum"), kitchen.cake("nut")]

    assert asked == ["plum cake, quickly=True"] * 2 + ["nut cake, quickly=False"]
    assert kitchen.baked == ["plum", "nut"]


def test_stage_when_asked_what_it_made_so_far_then_it_makes_nothing() -> None:
    """None, or what it made or was given; each object has its own."""
    kitchen, other = Kitchen(), Kitchen()
    kitchen.cake("plum")
    kitchen.cake.take("bought", "nut")

    found = [kitchen.cake.made("plum"), kitchen.cake.made("nut"), other.cake.made("plum")]

    assert found == ["plum cake, quickly=False", "bought", None]
    assert kitchen.cake("nut") == "bought"
    assert kitchen.baked == ["plum"]


def build(folder: Path) -> None:
    """Write a file."""
    (folder / "file").write_text("text")


@pytest.mark.parametrize(
    ("kind", "is_reused"), [("heads", False), ("records", False), ("embeddings", True)]
)
def test_obtain_when_the_version_is_another_then_only_embeddings_are_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_reused: bool
) -> None:
    """Another version may read, train or predict otherwise; embeddings carry one of their own."""
    StageCache(tmp_path).obtain("name", {"seed": 1}, build, kind=kind)
    assert StageCache(tmp_path).obtain("name", {"seed": 1}, build, kind=kind).is_reused

    monkeypatch.setattr(cache, "__version__", "99")

    assert StageCache(tmp_path).obtain("name", {"seed": 1}, build, kind=kind).is_reused == is_reused


def test_stage_when_it_ends_then_its_seconds_are_kept() -> None:
    """The clock is read at both ends."""
    ticks = count()
    log = StageLog(clock=lambda: float(next(ticks)))

    with log.stage("embed") as entry:
        entry.is_reused = True

    (row,) = log.to_list()
    assert row == {
        "name": "embed",
        "elapsed_seconds": 1.0,
        "is_reused": True,
        "gpu_memory_bytes": None,
    }


def test_stages_when_one_is_inside_another_then_its_peak_counts_for_both() -> None:
    """What was held before a stage began is not that stage's, and none hides another's peak."""
    peaks = iter([99, 7, 5, 3, 1, 8])
    log = StageLog(take_peak=lambda: next(peaks))

    with log.stage("train"), log.stage("embed"):
        pass
    with log.stage("judge"):
        pass

    found = {row["name"]: row["gpu_memory_bytes"] for row in log.to_list()}
    assert found == {"train": 7, "embed": 5, "judge": 8}


def test_gpu_peak_when_no_gpu_was_used_then_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is torch imported, or a GPU started, in order to ask."""
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    assert take_gpu_peak() is None
    monkeypatch.delitem(sys.modules, "torch")
    assert take_gpu_peak() is None
    assert "torch" not in sys.modules


def test_gpu_peak_when_there_are_several_then_the_largest_and_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fullest GPU decides how large one has to be."""
    held = {0: 5, 1: 8}
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(held))
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda number: held[number])
    monkeypatch.setattr(
        "torch.cuda.reset_peak_memory_stats", lambda number: held.update({number: 1})
    )

    assert (take_gpu_peak(), take_gpu_peak()) == (8, 1)


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
