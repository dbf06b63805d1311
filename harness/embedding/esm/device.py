"""What the engine needs to know of its device: is it there, how much fits, how fast is it."""

from __future__ import annotations

import time
from importlib.util import find_spec

import torch

from harness.embedding.esm.alphabet import MAX_TOKENS
from harness.errors import MissingInput

__all__ = ["fitting_budget", "gpu_memory_bytes", "measure_product_rate", "require_device"]

# Tokens in a batch. On a GPU more of them gain nothing once all its cores are busy; on a CPU the
# hidden states of a batch should stay in the caches.
GPU_TOKENS = 32_768
CPU_TOKENS = 2_048
SMALLEST_BUDGET = MAX_TOKENS

# Side of the square product that a device's rate is measured with, how often it is run without a
# pause, and how often that is repeated: clocks fall under load and rise again.
PRODUCT_SIDE = 8_192
PRODUCTS = 10
REPETITIONS = 5


def require_device(device: str, dtype: str = "float32") -> None:
    """Raise MissingInput unless torch can compute in a dtype there; nothing falls back silently."""
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise MissingInput(
            f"The device {device!r} is not there: torch {torch.__version__} finds no GPU",
            remedy='Run on a machine with a GPU, or set device = "cpu" if that is where the model '
            "will be deployed",
        )
    if place.type == "cuda" and dtype != "float32" and find_spec("triton") is None:
        raise MissingInput(
            f"{dtype} on a GPU needs Triton, which is not installed",
            remedy="Install PyTorch's CUDA build for Linux, which brings it, or set "
            'dtype = "float32"',
        )
    if dtype == "float8" and not _has_float8(place):
        raise MissingInput(
            f"The device {device!r} does not multiply float8",
            remedy='Use a Hopper GPU or a newer one, or set dtype = "bfloat16"',
        )


def fitting_budget(device: torch.device, bytes_per_token: int) -> int:
    """Return how many tokens a batch may hold: halved until a quarter of the memory suffices.

    The memory in all counts, not what is free now, so that equal GPUs get equal batches.

    Parameters
    ----------
    device : torch device
    bytes_per_token : int
        What the activations of one token take.
    """
    if device.type == "cpu":
        return CPU_TOKENS
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    budget = GPU_TOKENS
    while budget > SMALLEST_BUDGET and budget * bytes_per_token > total_bytes // 4:
        budget //= 2
    return budget


def measure_product_rate(device: str, dtype: str) -> float | None:
    """Return the floating-point operations per second of one large matrix product at its best.

    Parameters
    ----------
    device : str
        A torch device; None is returned if it is no GPU, or has no memory left for the product.
    dtype : str
        float32, bfloat16 or float16; for float8 it is bfloat16's rate.
    """
    place = torch.device(device)
    if place.type != "cuda":
        return None
    kind = torch.bfloat16 if dtype == "float8" else getattr(torch, dtype)
    with torch.cuda.device(place):
        try:
            return _time_products(place, kind)
        except torch.OutOfMemoryError:
            return None


def _time_products(place: torch.device, kind: torch.dtype) -> float:
    side = PRODUCT_SIDE
    left, right = (torch.randn(side, side, device=place, dtype=kind) for _ in range(2))
    seconds = []
    for _ in range(REPETITIONS):  # the first time, libraries are loaded
        torch.cuda.synchronize(place)
        started = time.perf_counter()
        for _ in range(PRODUCTS):
            torch.mm(left, right)
        torch.cuda.synchronize(place)
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 * PRODUCTS / min(seconds)


def gpu_memory_bytes(device: str) -> int | None:
    """Return the most that tensors took there since it was last reset; None if it is no GPU."""
    place = torch.device(device)
    return torch.cuda.max_memory_allocated(place) if place.type == "cuda" else None


def _has_float8(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
