"""ESM2-shaped checkpoints with seeded random weights, for rehearsals and tests.

They are written file by file in the hub's form, so that no large model is ever whole in memory.
That they are untrained is seen in the weights themselves: every bias is 0, every normalisation 1.
Reading a checkpoint belongs to ``harness.embedding.esm.checkpoint``.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.config import RandomWeights
from harness.embedding.esm.alphabet import TOKENS

__all__ = ["ESM2_SETTINGS", "weight_bytes", "write_random_checkpoint"]

INITIAL_STD = 0.02  # of ESM2's own initialisation (initializer_range)
MAX_POSITIONS = 1026

# What ESM2's config.json on the hub says beside the shape.
ESM2_SETTINGS = {
    "model_type": "esm",
    "architectures": ["EsmForMaskedLM"],
    "attention_probs_dropout_prob": 0.0,
    "emb_layer_norm_before": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "initializer_range": INITIAL_STD,
    "is_folding_model": False,
    "layer_norm_eps": 1e-05,
    "mask_token_id": TOKENS.index("<mask>"),
    "max_position_embeddings": MAX_POSITIONS,
    "pad_token_id": TOKENS.index("<pad>"),
    "position_embedding_type": "rotary",
    "token_dropout": True,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": len(TOKENS),
}

Tensor = npt.NDArray[np.float32] | npt.NDArray[np.int64]
Shapes = dict[str, tuple[int, ...]]


def write_random_checkpoint(
    folder: Path,
    *,
    layers: int,
    hidden_size: int,
    heads: int,
    intermediate_size: int,
    seed: int,
    n_shards: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write an ESM2 checkpoint with seeded random weights, for rehearsals.

    Parameters
    ----------
    folder : Path
        An existing folder.
    layers, hidden_size, heads, intermediate_size : int
        The encoder's shape.
    seed : int
        Decides the weights, each tensor's by its name.
    n_shards : int
        In how many ``pytorch_model-...bin`` with an index, as 3B is published; 1: in one
        ``model.safetensors``, as smaller ones are.
    settings : mapping of JSON values, optional
        What ``config.json`` says beside the sizes; default: what ESM2's says.

    Notes
    -----
    Matrices are normal with the standard deviation that ESM2 was initialised with, 0.02; biases are
    0 and layer norms 1. So embeddings are finite and differ between sequences, and know nothing.
    Rotary tables are rounded to half precision, as published ones are. The files also hold what the
    hub's hold and an encoder has no use for: heads, and positions.
    """
    shape = RandomWeights(
        layers=layers,
        hidden_size=hidden_size,
        heads=heads,
        intermediate_size=intermediate_size,
        seed=seed,
    )
    config = {
        "num_hidden_layers": layers,
        "hidden_size": hidden_size,
        "num_attention_heads": heads,
        "intermediate_size": intermediate_size,
    }
    _write_json(folder / "config.json", {**(settings or ESM2_SETTINGS), **config})
    (folder / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    if n_shards == 1:
        _write_safetensors(folder / "model.safetensors", _joined(_parts(shape)), seed)
    else:
        _write_shards(folder, _shards(_parts(shape), n_shards), seed)


def weight_bytes(shape: RandomWeights) -> int:
    """Return how large the files of weights of a shape are, but for their headers."""
    return _n_bytes(_joined(_parts(shape)))


def _write_shards(folder: Path, shards: list[Shapes], seed: int) -> None:
    names = [f"pytorch_model-{n:05d}-of-{len(shards):05d}.bin" for n in range(1, len(shards) + 1)]
    for name, sizes in zip(names, shards, strict=True):
        _write_pickle(folder / name, sizes, seed)
    index = {
        "metadata": {"total_size": sum(map(_n_bytes, shards))},
        "weight_map": {key: n for n, shard in zip(names, shards, strict=True) for key in shard},
    }
    _write_json(folder / "pytorch_model.bin.index.json", index)


def _write_safetensors(path: Path, sizes: Shapes, seed: int) -> None:
    from safetensors.numpy import save_file

    save_file(_draw(sizes, seed), path, metadata={"format": "pt"})


def _write_pickle(path: Path, sizes: Shapes, seed: int) -> None:
    import torch

    tensors = _draw(sizes, seed).items()
    torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors}, path)


def _draw(sizes: Shapes, seed: int) -> dict[str, Tensor]:
    """Draw tensors side by side, which their own seeds make safe."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tensors = pool.map(partial(_tensor, seed=seed), sizes, sizes.values())
        return dict(zip(sizes, tensors, strict=True))


def _shards(parts: list[Shapes], n_shards: int) -> list[Shapes]:
    """Return what stands in each file: embeddings and heads are added to the last layers."""
    outside, *layers = parts
    bounds = [len(layers) * n // n_shards for n in range(n_shards + 1)]
    groups = [layers[start:stop] for start, stop in pairwise(bounds)]
    groups[-1] = [*groups[-1], outside]
    return [_joined(group) for group in groups]


def _joined(parts: Iterable[Shapes]) -> Shapes:
    return {name: size for part in parts for name, size in part.items()}


def _parts(shape: RandomWeights) -> list[Shapes]:
    """Return the sizes of all tensors by name: those outside the layers, then layer by layer."""
    return [dict(_outside(shape)), *(dict(_layer(shape, n)) for n in range(shape.layers))]


def _outside(shape: RandomWeights) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, n_tokens = shape.hidden_size, len(TOKENS)
    yield "esm.embeddings.word_embeddings.weight", (n_tokens, width)
    yield "esm.embeddings.position_embeddings.weight", (MAX_POSITIONS, width)
    yield "esm.embeddings.position_ids", (1, MAX_POSITIONS)
    yield from _norm("esm.encoder.emb_layer_norm_after", width)
    yield from _linear("esm.contact_head.regression", 1, shape.layers * shape.heads)
    yield from _linear("lm_head.dense", width, width)
    yield from _norm("lm_head.layer_norm", width)
    yield "lm_head.bias", (n_tokens,)


def _layer(shape: RandomWeights, number: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, wide, layer = shape.hidden_size, shape.intermediate_size, f"esm.encoder.layer.{number}"
    for name in ("query", "key", "value"):
        yield from _linear(f"{layer}.attention.self.{name}", width, width)
    frequencies = f"{layer}.attention.self.rotary_embeddings.inv_freq"
    yield frequencies, (width // shape.heads // 2,)
    yield from _linear(f"{layer}.attention.output.dense", width, width)
    yield from _norm(f"{layer}.attention.LayerNorm", width)
    yield from _linear(f"{layer}.intermediate.dense", wide, width)
    yield from _linear(f"{layer}.output.dense", width, wide)
    yield from _norm(f"{layer}.LayerNorm", width)


def _linear(name: str, n_out: int, n_in: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (n_out, n_in)
    yield f"{name}.bias", (n_out,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _n_bytes(sizes: Shapes) -> int:
    widths = {name: 8 if name.endswith("position_ids") else 4 for name in sizes}
    return sum(widths[name] * math.prod(size) for name, size in sizes.items())


def _tensor(name: str, size: tuple[int, ...], *, seed: int) -> Tensor:
    if name.endswith("position_ids"):
        return np.arange(size[-1], dtype=np.int64)[None]
    if name.endswith("inv_freq"):
        exponents = np.arange(0, 2 * size[0], 2, dtype=np.float32) / (2 * size[0])
        return np.asarray(10_000.0**-exponents, dtype=np.float16).astype(np.float32)
    if name.endswith(".bias"):
        return np.zeros(size, dtype=np.float32)
    if "norm" in name.lower():
        return np.ones(size, dtype=np.float32)
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
    values = rng.standard_normal(size, dtype=np.float32)
    values *= INITIAL_STD
    return values


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
