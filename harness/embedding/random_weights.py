"""Checkpoints with seeded random weights, of ESM2's or DNABERT-S's shape, for rehearsals.

ESM2's are written file by file in the hub's form, so that no large model is ever whole in memory;
DNABERT-S's have a tokeniser of their own. That they are untrained is seen in the weights
themselves: every bias is 0, every normalisation 1. Reading a checkpoint is no matter of this file.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from harness.config import RandomWeights
from harness.embedding.dnabert_checkpoint import expected_shapes
from harness.embedding.esm.alphabet import TOKENS

__all__ = [
    "ESM2_SETTINGS",
    "dnabert_bytes",
    "weight_bytes",
    "write_dnabert",
    "write_random_checkpoint",
]


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


# What DNABERT-S's config.json says beside the sizes.
_SETTINGS: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "auto_map": {
        "AutoConfig": "configuration_bert.BertConfig",
        "AutoModel": "bert_layers.BertModel",
    },
    "alibi_starting_size": 512,
    "attention_probs_dropout_prob": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "torch_dtype": "float32",
    "type_vocab_size": 2,
}
# Its tokeniser's size, and its special tokens in their order.
N_TOKENS = 4096
TOKEN_RANK = 2
_SPECIAL_TOKENS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def write_dnabert(folder: Path, shape: RandomWeights, sequences: Sequence[str]) -> None:
    """Write a checkpoint of DNABERT-S's form with seeded random weights.

    Parameters
    ----------
    folder : Path
        An existing folder.
    shape : RandomWeights
        The encoder's shape, and the seed of its weights.
    sequences : sequence of str
        What its tokeniser learns from; it has fewer tokens than DNABERT-S's where that is little.

    Notes
    -----
    Matrices are normal with a standard deviation of 0.02, but that tokens differ in ``TOKEN_RANK``
    directions alone: a mean over tokens that differ in all of them decides the embedded test set
    by itself, so that no protein embedder could fail on it. Biases are 0 and normalisations 1, by
    which the gate knows that nobody trained it.
    """
    tokeniser = _train_tokeniser(sequences)
    tokeniser.save(str(folder / "tokenizer.json"))
    sizes = _sizes(shape) | {"vocab_size": tokeniser.get_vocab_size()}
    config = json.dumps(_SETTINGS | sizes, indent=2, sort_keys=True)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    rng = np.random.Generator(np.random.SFC64(shape.seed))
    weights = {}
    for name, size in expected_shapes(sizes).items():
        if len(size) == 1:
            values = np.full(size, name.endswith(".weight"), dtype=np.float32)
        else:
            values = rng.standard_normal(size, dtype=np.float32) * np.float32(0.02)
        if name.endswith("word_embeddings.weight"):
            places = rng.standard_normal((len(values), TOKEN_RANK), dtype=np.float32)
            values = places @ values[:TOKEN_RANK]
        weights[f"bert.{name}"] = values
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def dnabert_bytes(shape: RandomWeights) -> int:
    """Return how large the file of weights of a shape is, but for its header."""
    return 4 * sum(map(math.prod, expected_shapes(_sizes(shape)).values()))


def _sizes(shape: RandomWeights) -> dict[str, int]:
    return {
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "type_vocab_size": 2,
        "vocab_size": N_TOKENS,
    }


def _train_tokeniser(sequences: Sequence[str]) -> Tokenizer:
    tokeniser = Tokenizer(BPE(unk_token=_SPECIAL_TOKENS[0]))
    tokeniser.pre_tokenizer = Whitespace()
    trainer = BpeTrainer(vocab_size=N_TOKENS, special_tokens=_SPECIAL_TOKENS, show_progress=False)
    tokeniser.train_from_iterator(sequences, trainer)
    tokeniser.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(mark, tokeniser.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")],
    )
    return tokeniser
