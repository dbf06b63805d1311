"""Checkpoints with random weights: in the hub's form, marked, and the same for the same seed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import EsmConfig
from transformers.models.esm.modeling_esm import EsmRotaryEmbedding

from harness.config import RandomWeights
from harness.embedding.esm.checkpoint import open_checkpoint
from harness.embedding.random_weights import weight_bytes, write_random_checkpoint

SHAPE = RandomWeights(layers=5, hidden_size=16, heads=2, intermediate_size=32, seed=7)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Return a checkpoint of five layers in two files."""
    write_random_checkpoint(tmp_path, **asdict(SHAPE), n_shards=2)
    return tmp_path


def read_all(folder: Path) -> dict[str, np.ndarray]:
    """Return all tensors of a checkpoint."""
    parts = [load_file(path) for path in folder.glob("*.safetensors")]
    parts += [read_shard(path) for path in folder.glob("*.bin")]
    return {name: tensor for part in parts for name, tensor in part.items()}


def read_shard(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of one pickled file."""
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


def test_write_when_sharded_then_it_loads_and_is_seen_to_be_untrained(sharded: Path) -> None:
    """Two files and their index, as 3B is published; no mark is needed."""
    checkpoint = open_checkpoint(sharded)

    assert [path.name for path in checkpoint.weight_files] == [
        f"pytorch_model-{number:05d}-of-00002.bin" for number in (1, 2)
    ]
    assert checkpoint.is_untrained()
    weights = checkpoint.read_weights(dtype=torch.float32, device=torch.device("cpu"))
    assert f"encoder.layer.{SHAPE.layers - 1}.output.dense.weight" in weights


def test_write_when_sharded_then_each_tensor_stands_where_the_index_says(sharded: Path) -> None:
    """As the hub's index: names to files, and the bytes in all."""
    index = json.loads((sharded / "pytorch_model.bin.index.json").read_text())

    for path in sharded.glob("*.bin"):
        assert set(read_shard(path)) == {
            k for k, v in index["weight_map"].items() if v == path.name
        }
    n_bytes = sum(tensor.nbytes for tensor in read_all(sharded).values())
    assert index["metadata"]["total_size"] == n_bytes == weight_bytes(SHAPE)


def test_write_when_the_layout_differs_then_the_weights_are_the_same(
    sharded: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A tensor follows from the seed and its name, not from where it stands."""
    single = tmp_path_factory.mktemp("single")
    write_random_checkpoint(single, **asdict(SHAPE))

    there, here = read_all(sharded), read_all(single)

    assert there.keys() == here.keys()
    assert all(np.array_equal(there[name], here[name]) for name in there)


def test_write_when_the_seed_differs_then_so_do_the_matrices(tmp_path: Path) -> None:
    """Two models of one shape are two models."""
    weights = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_random_checkpoint(folder, **(asdict(SHAPE) | {"seed": seed}))
        weights.append(read_all(folder)["esm.encoder.layer.0.attention.self.query.weight"])

    assert not np.array_equal(weights[0], weights[1])


def test_write_then_weights_are_as_esm2_initialises_them(sharded: Path) -> None:
    """Matrices around 0 with deviation 0.02, biases 0, layer norms 1."""
    weights = read_all(sharded)

    matrix = weights["esm.encoder.layer.4.intermediate.dense.weight"]
    assert matrix.std() == pytest.approx(0.02, rel=0.2)
    assert not weights["esm.encoder.layer.4.output.dense.bias"].any()
    assert (weights["esm.encoder.layer.4.attention.LayerNorm.weight"] == 1).all()


def test_write_then_the_rotary_frequencies_are_rounded_as_published_ones_are(sharded: Path) -> None:
    """The table that each layer brings is near the one that transformers computes, and not it."""
    table = read_all(sharded)["esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq"]

    config = EsmConfig.from_pretrained(sharded)
    computed, _ = EsmRotaryEmbedding.compute_default_rope_parameters(config)

    np.testing.assert_allclose(computed.numpy(), table, rtol=1e-3)
    assert not np.array_equal(computed.numpy(), table)
