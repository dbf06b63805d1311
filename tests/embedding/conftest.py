"""Tiny checkpoints in the formats of ESM2 and DNABERT-S, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.config import RandomWeights
from harness.embedding.random_weights import write_dnabert, write_random_checkpoint


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of two layers with seeded random weights; not to be changed.

    Its biases are not 0, its normalisations not 1, its rotary tables not the computed ones, and its
    queries and keys large enough for positions to count: whoever forgot one would be noticed.
    """
    folder = tmp_path_factory.mktemp("checkpoint")
    write_random_checkpoint(folder, layers=2, hidden_size=16, heads=2, intermediate_size=32, seed=1)
    path, rng = folder / "model.safetensors", np.random.default_rng(2)

    def changed(name: str, value: np.ndarray) -> np.ndarray:
        if name.endswith(("bias", "LayerNorm.weight", "norm_after.weight")):
            return value + 0.2 * rng.standard_normal(value.shape).astype(value.dtype)
        if name.endswith("inv_freq"):
            return 0.9 * value
        return 20 * value if name.endswith(("query.weight", "key.weight")) else value

    weights = {name: changed(name, value) for name, value in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def dnabert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of DNABERT-S's form, two layers of 12 heads; not to be changed.

    As above, no weight may be forgotten. Its tokeniser knows every word of two letters and some
    longer ones.
    """
    folder = tmp_path_factory.mktemp("dnabert")
    rng = np.random.default_rng(3)
    sequences = ["".join(rng.choice(list("ACGT"), 300)) for _ in range(20)]
    shape = RandomWeights(layers=2, hidden_size=48, heads=12, intermediate_size=24, seed=3)
    write_dnabert(folder, shape, sequences)
    path = folder / "model.safetensors"
    weights = {
        name: value + 0.3 * rng.standard_normal(value.shape).astype(value.dtype)
        for name, value in load_file(path).items()
    }
    weights["cls.predictions.bias"] = weights["pooler.dense.bias"] = np.ones(3, dtype=np.float32)
    save_file(weights, path, metadata={"format": "pt"})
    return folder
