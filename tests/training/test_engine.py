"""Which engine takes the steps on which device."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from harness.errors import MissingInput
from harness.training.head import Head
from harness.training.steps import TrainingStep
from harness.training.trainer import LARGEST_FUSED_BATCH, choose_engine
from tests.training.conftest import QUICK


def test_cpu_then_steps_are_written_out() -> None:
    """Whether or not TF32 is allowed, which only GPUs know."""
    assert isinstance(choose_engine(Head(4), replace(QUICK, allows_tf32=True)), TrainingStep)


def test_gpu_without_triton_then_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slower steps in its place would be a silent fallback."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.delitem(sys.modules, "harness.training.fused", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)

    with pytest.raises(MissingInput, match="needs Triton") as caught:
        choose_engine(Head(4), QUICK)

    assert "CUDA build" in caught.value.remedy
    assert QUICK.batch_size <= LARGEST_FUSED_BATCH
