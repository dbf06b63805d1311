"""How much memory features may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.pipeline import heads as feature_rows
from harness.pipeline.heads import memory_bytes


@pytest.mark.parametrize(
    ("limit", "expected"), [("4096\n", 4096), ("max\n", None), ("9223372036854771712\n", None)]
)
def test_memory_in_a_container_then_is_its_limit_where_it_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None
) -> None:
    """Otherwise it is the machine's."""
    monkeypatch.setattr(feature_rows, "_CONTAINER_LIMITS", (tmp_path / "none",))
    physical = memory_bytes()
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(feature_rows, "_CONTAINER_LIMITS", (tmp_path / "memory.max",))

    assert memory_bytes() == (expected or physical)
    assert physical > 2**20
