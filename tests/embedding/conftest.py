"""A tiny checkpoint in ESM2's format, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.embedding.esm.random_weights import write_random_checkpoint


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of two layers with seeded random weights; not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_random_checkpoint(folder, layers=2, hidden_size=16, heads=2, intermediate_size=32, seed=1)
    return folder
