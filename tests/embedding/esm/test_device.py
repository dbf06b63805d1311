"""What a device is asked for: float8, and how many tokens its memory holds."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from harness.embedding.devices import (
    CPU_TOKENS,
    GPU_TOKENS,
    SMALLEST_BUDGET,
    fitting_budget,
    require_device,
)
from harness.errors import MissingInput


def test_require_device_when_it_has_no_float8_then_another_dtype_is_named() -> None:
    """A CPU is asked for no float8; nothing else is computed in its place."""
    with pytest.raises(MissingInput, match="does not multiply float8") as failed:
        require_device("cpu", "float8")

    assert 'dtype = "bfloat16"' in failed.value.remedy


@pytest.mark.parametrize(("dtype", "is_refused"), [("bfloat16", True), ("float32", False)])
def test_require_device_when_there_is_no_triton_then_half_precision_is_refused(
    dtype: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower operations in its place would be a silent fallback."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "triton", None)

    with pytest.raises(MissingInput, match="needs Triton") if is_refused else nullcontext():
        require_device("cuda", dtype)


@pytest.mark.parametrize(
    ("total_bytes", "expected"),
    [
        (4 * 1_000 * GPU_TOKENS, GPU_TOKENS),
        (4 * 1_000 * GPU_TOKENS - 1, GPU_TOKENS // 2),
        (1, SMALLEST_BUDGET),
    ],
)
def test_fitting_budget_when_it_is_a_gpu_then_a_quarter_of_its_memory_suffices(
    total_bytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halved until it fits, and never below the longest protein."""
    properties = SimpleNamespace(total_memory=total_bytes)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    assert fitting_budget(torch.device("cuda"), 1_000) == expected


def test_fitting_budget_when_it_is_a_cpu_then_what_its_caches_hold() -> None:
    """A CPU's memory is not asked."""
    assert fitting_budget(torch.device("cpu"), 1 << 40) == CPU_TOKENS
