"""The number formats that a store may hold, and float32 on both sides of them.

Vectors are float32 in memory. Halving the bytes on disk is a choice of whoever writes; numpy has
no bfloat16, so its bits travel as uint16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from harness.errors import DataError

__all__ = ["DTYPES", "narrow", "to_safetensors", "widen"]

# As numpy sees the values of a file; safetensors is little-endian.
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
}
_BFLOAT16_BITS = 16


def narrow(vectors: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """Return vectors as they are stored, rounded to the nearest value of the format.

    Raises
    ------
    DataError
        If a finite value is too large for the format; the row is given.
    """
    if dtype == "float32":
        return np.ascontiguousarray(vectors, dtype=DTYPES[dtype])
    with np.errstate(over="ignore"):
        stored = vectors.astype(DTYPES[dtype]) if dtype == "float16" else _to_bfloat16(vectors)
    is_lost = (np.isfinite(vectors) & ~np.isfinite(widen(stored, dtype))).any(axis=1)
    if is_lost.any():
        row = int(np.flatnonzero(is_lost)[0])
        raise DataError(
            f"row {row} of the shard (counted from 0) holds {np.abs(vectors[row]).max():g}, too "
            f"large for {dtype}. Store the embeddings as float32"
        )
    return stored


def widen(stored: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """Return stored values as float32, which holds each of them exactly."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << _BFLOAT16_BITS).view(np.float32)
    return np.asarray(stored, dtype=np.float32)


def to_safetensors(
    name: str, stored: npt.NDArray[Any], dtype: str, metadata: dict[str, str]
) -> bytes:
    """Return a safetensors file with one tensor."""
    if dtype != "bfloat16":
        return save({name: stored}, metadata)
    import torch
    from safetensors.torch import save as save_tensor

    return save_tensor({name: torch.from_numpy(stored).view(torch.bfloat16)}, metadata)


def _to_bfloat16(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    import torch

    rounded = torch.from_numpy(np.ascontiguousarray(vectors)).to(torch.bfloat16)
    bits: npt.NDArray[np.uint16] = rounded.view(torch.uint16).numpy()
    return bits
