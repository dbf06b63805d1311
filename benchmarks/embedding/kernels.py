"""What a GPU's time goes into while it embeds: the kernels of one call, by what they compute."""

from __future__ import annotations

import re
import time

import torch
from torch.profiler import ProfilerActivity, profile

from harness.embedding.esm.engine import Engine

__all__ = ["measure_kernels"]

# Names of kernels, as their authors (harness.embedding.esm.kernels, cuBLAS) called them.
KINDS = {
    "matrix products": r"nvjet|gemm|cutlass|xmma|cublas",
    "attention": r"^attend",
    "rotary embedding": r"^turn_keys",
    "normalisation": r"^normalise",
    "GELU": r"^activate",
}
REST, IDLE = "the rest", "nothing: waiting for the host"


def measure_kernels(engine: Engine, proteins: list[str]) -> dict[str, float]:
    """Return the seconds that a GPU spends in each kind of kernel during one call, and idle."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        started = time.perf_counter()
        engine.embed(proteins)
        torch.cuda.synchronize()
        elapsed_seconds = time.perf_counter() - started
    seconds = dict.fromkeys([*KINDS, REST], 0.0)
    for kernel in profiler.key_averages():
        seconds[_kind(kernel.key)] += kernel.self_device_time_total * 1e-6
    seconds[IDLE] = elapsed_seconds - sum(seconds.values())
    return {kind: value for kind, value in seconds.items() if value > 0}


def _kind(name: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), REST)
