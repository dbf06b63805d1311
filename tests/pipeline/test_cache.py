"""What a run finds in its work directory, and what it makes anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.pipeline import cache
from harness.pipeline.cache import StageCache


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
