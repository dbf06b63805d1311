"""A pytest plugin that lets torch use only part of a GPU, as if the GPU were a smaller one.

GPU_GIGABYTES=8 python -m pytest -p benchmarks.memory_limit acceptance/ -m gpu ...
"""

from __future__ import annotations

import os

import pytest

__all__ = ["pytest_sessionstart"]


def pytest_sessionstart() -> None:
    """Set the limit before anything is loaded."""
    import torch

    if not torch.cuda.is_available():
        raise pytest.UsageError("benchmarks.memory_limit needs a GPU")
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    share = float(os.environ["GPU_GIGABYTES"]) * 1e9 / total_bytes
    torch.cuda.set_per_process_memory_fraction(min(share, 1.0), 0)
