"""Which fast computations a GPU can do: each is tried, on a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
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
    import torch

    try:
        # Triton launches on the current GPU, whatever its tensors' is.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
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

    from harness.embedding.esm.fused import FUSED
    from harness.embedding.esm.products import Linear, to_float8

    ones = torch.ones(_WIDTH, _WIDTH, device=device, dtype=torch.bfloat16)
    return FUSED.multiply(ones, to_float8(Linear(ones, ones[0]))).sum().item()


def _attend(device: torch.device) -> object:
    import numpy as np
    import torch

    from harness.embedding.esm.encoder import Rotation
    from harness.embedding.esm.layouts import Packed

    states = torch.ones(_WIDTH, 3, 1, _WIDTH, device=device, dtype=torch.bfloat16)
    angles = torch.zeros(_WIDTH, _WIDTH // 2, device=device)
    lengths = np.array([_WIDTH // 4, 3 * _WIDTH // 4], dtype=np.int64)
    return Packed(lengths, device).attend(states, Rotation(angles, angles)).sum().item()


_ATTEMPTS: Mapping[str, Attempt] = {
    "bfloat16": _multiply_bfloat16,
    "float8": _multiply_float8,
    "variable-length attention (Triton)": _attend,
}
