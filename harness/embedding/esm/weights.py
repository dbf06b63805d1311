"""The weights of a checkpoint: their names and shapes, and reading them onto a device.

Names are those of transformers' ``EsmModel``, which ESM2's checkpoints carry as they are and
FastESM2's behind ``esm.``. What does not fit the configuration is named before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open

from harness.data.formats.unpickle import load_restricted
from harness.errors import CheckpointError

__all__ = ["check_weights", "expected_shapes", "read_weights"]

Shape: TypeAlias = tuple[int, ...]

NAMED_PROBLEMS = 10

# In checkpoints, not part of the encoder: heads, pooler, tables that follow from the config.
# Where such a table stands has changed with transformers' versions, so none is asked for.
_KNOWN_EXTRAS = re.compile(
    r"(lm_head|pooler|contact_head)\..*"
    r"|embeddings\.(position_ids|position_embeddings\.weight)"
    r"|(encoder\.layer\.\d+\.attention\.self\.)?rotary_embeddings\.inv_freq"
)


def expected_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Return name and shape of each weight of an encoder.

    Parameters
    ----------
    config : mapping
        With hidden_size, intermediate_size, num_hidden_layers and vocab_size.
    """
    dim, wide = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, Shape] = {"embeddings.word_embeddings.weight": (config["vocab_size"], dim)}
    linear = {
        "attention.self.query": (dim, dim),
        "attention.self.key": (dim, dim),
        "attention.self.value": (dim, dim),
        "attention.output.dense": (dim, dim),
        "intermediate.dense": (wide, dim),
        "output.dense": (dim, wide),
    }
    for number in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{number}"
        for name, shape in linear.items():
            shapes[f"{prefix}.{name}.weight"] = shape
            shapes[f"{prefix}.{name}.bias"] = shape[:1]
        shapes |= _norm(f"{prefix}.attention.LayerNorm", dim) | _norm(f"{prefix}.LayerNorm", dim)
    return shapes | _norm("encoder.emb_layer_norm_after", dim)


def check_weights(files: Sequence[Path], config: Mapping[str, Any], folder: Path) -> None:
    """Raise CheckpointError unless the files hold the encoder's weights; all problems are named.

    Only the files' tables of contents are read.
    """
    found: dict[str, Shape] = {}
    for path in files:
        with _opened(path) as tensors:
            found |= {_encoder_name(name): tensors.shape(name) for name in tensors.names}
    expected = expected_shapes(config)
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [
        f"{name} has shape {shape}, expected {expected[name]}"
        for name, shape in found.items()
        if name in expected and shape != expected[name]
    ]
    extras = [name for name in found if name not in expected]
    problems += [f"unexpected {name}" for name in extras if not _KNOWN_EXTRAS.fullmatch(name)]
    if problems:
        listed = "; ".join(sorted(problems)[:NAMED_PROBLEMS])
        raise CheckpointError(
            f"{folder}: {len(problems)} weights do not fit the configuration: {listed}. "
            "Download the checkpoint again, or name the revision it belongs to"
        )


def read_weights(
    files: Sequence[Path],
    config: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, torch.Tensor]:
    """Return the encoder's weights by name, one after the other put on the device.

    Parameters
    ----------
    files : sequence of Path
        As checked by :func:`check_weights`.
    config : mapping
        As for :func:`expected_shapes`.
    """
    expected = expected_shapes(config)
    weights: dict[str, torch.Tensor] = {}
    for path in files:
        with _opened(path) as tensors:
            for name in tensors.names:
                if _encoder_name(name) in expected:
                    weights[_encoder_name(name)] = tensors.read(name).to(device).to(dtype)
    return weights


class _Safetensors:
    def __init__(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")
        self.names: list[str] = list(file.keys())
        self._file = file

    def shape(self, name: str) -> Shape:
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor


class _Pickled:
    def __init__(self, path: Path) -> None:
        loaded = load_restricted(path, is_mapped=True)
        if not isinstance(loaded, dict):
            found = type(loaded).__name__
            raise CheckpointError(f"{path}: expected a dict of weights, got {found}")
        self._tensors: dict[str, torch.Tensor] = {
            name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)
        }
        self.names = list(self._tensors)

    def shape(self, name: str) -> Shape:
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> torch.Tensor:
        return self._tensors[name]


@contextmanager
def _opened(path: Path) -> Iterator[_Safetensors | _Pickled]:
    try:
        yield _Safetensors(path) if path.suffix == ".safetensors" else _Pickled(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error


def _norm(name: str, dim: int) -> dict[str, Shape]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _encoder_name(name: str) -> str:
    return name.removeprefix("esm.")
