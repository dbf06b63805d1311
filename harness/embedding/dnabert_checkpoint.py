"""DNABERT-S's checkpoint: from a folder or a cached hub id to a checked model, read as data alone.

Owns what may stand in its configuration, weights and tokeniser; another architecture is refused by
name. What is computed with them is ``dnabert``'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from harness.embedding.esm.checkpoint import (
    find_checkpoint,
    read_config,
    require_epsilon,
    require_sizes,
)
from harness.embedding.transformers_encoder import find_weight_files, read_weights
from harness.errors import CheckpointError, MissingInput

__all__ = ["DnabertCheckpoint", "expected_shapes", "open_dnabert"]

# What ends every refusal: nobody has to bring this model.
WITHOUT = (
    'To do without it, set embeddings = "folder of *_DNABERT_S.pt" (as VirNucPro wrote them), or '
    'kind = "kmer"'
)

_SHAPE_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
# In checkpoints, but without a part in the hidden states.
_NOT_USED = re.compile(r"(cls|pooler|classifier)\..*|embeddings\.(position|token_type)_ids")


def expected_shapes(shape: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of each weight, by the names in a checkpoint without ``bert.``."""
    dim, wide = shape["hidden_size"], shape["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape["vocab_size"], dim),
        "embeddings.token_type_embeddings.weight": (shape["type_vocab_size"], dim),
        **_with_bias("embeddings.LayerNorm", dim),
    }
    for number in range(shape["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        shapes |= {
            **_with_bias(f"{layer}.attention.self.Wqkv", 3 * dim, dim),
            **_with_bias(f"{layer}.attention.output.dense", dim, dim),
            **_with_bias(f"{layer}.attention.output.LayerNorm", dim),
            f"{layer}.mlp.gated_layers.weight": (2 * wide, dim),
            **_with_bias(f"{layer}.mlp.wo", dim, wide),
            **_with_bias(f"{layer}.mlp.layernorm", dim),
        }
    return shapes


def _with_bias(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


@dataclass(frozen=True, slots=True, kw_only=True)
class DnabertCheckpoint:
    """A checkpoint of DNABERT-S on disk, with its configuration read and checked.

    Attributes
    ----------
    folder : Path
        Where it lies.
    shape : dict
        hidden_size, intermediate_size, num_attention_heads, num_hidden_layers, vocab_size,
        type_vocab_size, layer_norm_eps.
    weight_files : tuple of Path
        The files that hold the weights.
    """

    folder: Path
    shape: dict[str, Any]
    weight_files: tuple[Path, ...]

    @property
    def n_parameters(self) -> int:
        """Number of weights that the encoder uses."""
        return sum(math.prod(shape) for shape in expected_shapes(self.shape).values())

    def load_tokeniser(self) -> Tokenizer:
        """Return what turns text into token ids, with special tokens and without truncation.

        Raises
        ------
        MissingInput
            If there is no ``tokenizer.json``.
        CheckpointError
            If it cannot be read, or has another number of tokens than the configuration.
        """
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise MissingInput(
                f"{path} is not there", remedy=f"Download the whole checkpoint. {WITHOUT}"
            )
        try:
            tokeniser = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(
                f"{path}: not a readable tokeniser ({error}). Download the checkpoint again"
            ) from error
        tokeniser.no_truncation()
        tokeniser.no_padding()
        n_tokens = tokeniser.get_vocab_size()
        if n_tokens != self.shape["vocab_size"]:
            raise CheckpointError(
                f"{path}: has {n_tokens} tokens; config.json says {self.shape['vocab_size']}. "
                "Is it of another revision?"
            )
        marks = tokeniser.encode("A").tokens
        if (marks[0], marks[-1]) != ("[CLS]", "[SEP]"):
            raise CheckpointError(
                f"{path}: expected [CLS] and [SEP] around a sequence, got {' '.join(marks)}"
            )
        return tokeniser

    def read_weights(self) -> dict[str, torch.Tensor]:
        """Return the encoder's weights in float32 on the CPU, by name without ``bert.``.

        Raises
        ------
        CheckpointError
            If a weight is missing, unexpected or has another shape; all are named.
        """
        expected = expected_shapes(self.shape)
        named = {
            name.removeprefix("bert."): value
            for name, value in read_weights(self.weight_files).items()
        }
        found = {name: value for name, value in named.items() if not _NOT_USED.fullmatch(name)}
        problems = [f"missing {name}" for name in expected.keys() - found.keys()]
        problems += [f"unexpected {name}" for name in found.keys() - expected.keys()]
        problems += [
            f"{name} has shape {tuple(value.shape)}, expected {expected[name]}"
            for name, value in found.items()
            if name in expected and tuple(value.shape) != expected[name]
        ]
        if problems:
            raise CheckpointError(
                f"{self.folder}: {len(problems)} weights do not fit the configuration: "
                f"{'; '.join(sorted(problems)[:10])}. Download the checkpoint again"
            )
        return {name: found[name].float() for name in expected}


def open_dnabert(model: str | None, revision: str | None = None) -> DnabertCheckpoint:
    """Find a checkpoint and read its configuration; nothing large is read yet.

    Parameters
    ----------
    model : str or None
        Hub id of a download, such as ``zhihan1996/DNABERT-S``, or a checkpoint's folder.
    revision : str, optional
        Of the hub id.

    Raises
    ------
    MissingInput
        If no model is named, or its files are not there.
    CheckpointError
        If it is another architecture.
    """
    if model is None:
        raise MissingInput(
            "[nucleotide] names nothing that embeds the nucleotides",
            remedy='Set embeddings = "folder of *_DNABERT_S.pt", a model, or kind = "kmer"; or '
            "give both sides `features`",
        )
    folder = find_checkpoint(model, revision)
    path = folder / "config.json"
    config = read_config(path, remedy=f"Download the whole checkpoint. {WITHOUT}")
    architecture = {name: config.get(name) for name in ("model_type", "hidden_act")}
    has_alibi = isinstance(config.get("alibi_starting_size"), int)
    if architecture != {"model_type": "bert", "hidden_act": "gelu"} or not has_alibi:
        raise CheckpointError(
            f"{path}: is {', '.join(map(str, config.get('architectures') or ['unnamed']))} with "
            f"model_type {config.get('model_type')!r}, hidden_act {config.get('hidden_act')!r} and "
            f"alibi_starting_size {config.get('alibi_starting_size')!r}. Computed here is "
            "DNABERT-S's architecture alone (bert with gelu and an alibi_starting_size); for "
            f"another model, bring its vectors. {WITHOUT}"
        )
    require_sizes(path, config, _SHAPE_KEYS)
    if config["hidden_size"] % (2 * config["num_attention_heads"]):
        raise CheckpointError(
            f"{path}: a hidden_size of {config['hidden_size']} cannot be divided into "
            f"{config['num_attention_heads']} heads of pairs of channels"
        )
    shape = {key: config[key] for key in _SHAPE_KEYS} | {
        "type_vocab_size": config.get("type_vocab_size", 2),
        "layer_norm_eps": config.get("layer_norm_eps", 1e-12),
    }
    require_sizes(path, shape, ["type_vocab_size"])
    require_epsilon(path, shape["layer_norm_eps"])
    weight_files = tuple(find_weight_files(folder))
    return DnabertCheckpoint(folder=folder, shape=shape, weight_files=weight_files)
