"""A tiny checkpoint in ESM2's format, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.embedding.esm.random_weights import write_random_checkpoint


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of two layers with seeded random weights; not to be changed.

    Its biases are not 0 and its normalisations not 1, or whoever forgot one would not be noticed.
    """
    folder = tmp_path_factory.mktemp("checkpoint")
    write_random_checkpoint(folder, layers=2, hidden_size=16, heads=2, intermediate_size=32, seed=1)
    path, rng = folder / "model.safetensors", np.random.default_rng(2)
    weights = {
        name: value + 0.2 * rng.standard_normal(value.shape).astype(value.dtype)
        if name.endswith(("bias", "LayerNorm.weight", "norm_after.weight"))
        else value
        for name, value in load_file(path).items()
    }
    save_file(weights, path, metadata={"format": "pt"})
    return folder
