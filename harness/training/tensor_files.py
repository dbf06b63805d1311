"""Tensors with JSON metadata in one safetensors file, written atomically.

The same content gives the same bytes: safetensors writes several metadata keys in any order, so
there is one key, and its JSON is canonical.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness.artifacts import write_atomically
from harness.errors import CheckpointError

__all__ = ["read_metadata", "read_tensors", "write_tensors"]

_KEY = "harness"


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors, from any device, and JSON values."""
    text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"), allow_nan=False)
    # Views of a common vector would be refused, so each tensor becomes one of its own.
    copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(copies, {_KEY: text}))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read back what ``write_tensors`` wrote, on the CPU.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is a safetensors file of another kind.
    """
    with _opened(path) as file:
        metadata = _metadata(path, file)
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - no dict


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the JSON values alone.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is a safetensors file of another kind.
    """
    with _opened(path) as file:
        return _metadata(path, file)


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def _metadata(path: Path, file: safe_open) -> dict[str, Any]:
    text = (file.metadata() or {}).get(_KEY)  # type: ignore[no-untyped-call] # has no stub
    if text is None:
        raise CheckpointError(
            f"{path}: was not written by this harness: it has no metadata key {_KEY!r}"
        )
    metadata: dict[str, Any] = json.loads(text)
    return metadata
