"""Which fast computations a GPU can do: each is tried, on a few numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["describe_kernels"]

Attempt = Callable[["torch.device"], object]

_WIDTH = 64


def describe_kernels(
    device: torch.device, attempts: Mapping[str, Attempt] | None = None
) -> list[str]:
    """Return one phrase for each kind of computation: its name, or why it does not run.

    Parameters
    ----------
    device : torch device
        A GPU.
    attempts : mapping of str to callable, optional
        What to try, by its name; default: what the embedding engine uses.
    """
    return [_try(name, attempt, device) for name, attempt in (attempts or _ATTEMPTS).items()]


def _try(name: str, attempt: Attempt, device: torch.device) -> str:
    try:
        attempt(device)
    except Exception as error:  # noqa: BLE001 - the answer is that it does not run
        reason = str(error).partition("\n")[0][:80]
        return f"no {name} ({type(error).__name__}: {reason})"
    return name


def _multiply_bfloat16(device: torch.device) -> object:
    import torch

    ones = torch.ones(_WIDTH, _WIDTH, device=device, dtype=torch.bfloat16)
    return (ones @ ones).sum().item()


def _multiply_float8(device: torch.device) -> object:
    import torch

    from harness.embedding.esm.products import Linear, apply_linear, to_float8

    ones = torch.ones(_WIDTH, _WIDTH, device=device, dtype=torch.bfloat16)
    return apply_linear(ones, to_float8(Linear(ones, ones[0]))).sum().item()


def _attend(device: torch.device) -> object:
    import numpy as np
    import torch

    from harness.embedding.esm.layouts import Packed

    states = torch.ones(_WIDTH, 1, _WIDTH, device=device, dtype=torch.bfloat16)
    lengths = np.array([_WIDTH // 4, 3 * _WIDTH // 4], dtype=np.int64)
    return Packed(lengths, device).attend(states, states, states).sum().item()


def _find_triton(device: torch.device) -> None:
    import torch

    if importlib.util.find_spec("triton") is None:
        raise RuntimeError("Triton is not installed")
    if torch.cuda.get_device_capability(device) < (7, 0):
        raise RuntimeError("Triton needs compute capability 7.0")


_ATTEMPTS: Mapping[str, Attempt] = {
    "bfloat16": _multiply_bfloat16,
    "float8": _multiply_float8,
    "variable-length attention": _attend,
    "compilation (Triton)": _find_triton,
}
