"""DNABERT-S-shaped checkpoints with seeded random weights and a tokeniser of their own.

For rehearsals, tests and benchmarks. Reading a checkpoint belongs to ``dnabert_checkpoint``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from harness.config import RandomWeights
from harness.embedding.dnabert_checkpoint import expected_shapes

__all__ = ["dnabert_bytes", "write_dnabert"]

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
