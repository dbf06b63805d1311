"""Weights by transformers' names, from every form that checkpoints come in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import EsmConfig, EsmModel

from harness.embedding.esm.checkpoint import expected_shapes, open_checkpoint
from harness.errors import CheckpointError, DataError

CPU = torch.device("cpu")

Weights = dict[str, torch.Tensor]


@pytest.fixture
def folder(checkpoint_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the checkpoint that may be changed."""
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


def read(folder: Path) -> Weights:
    """Read the encoder's weights in float32."""
    return open_checkpoint(folder).read_weights(dtype=torch.float32, device=CPU)


def take_weights(folder: Path) -> Weights:
    """Return all tensors of the folder's file, and delete it."""
    path = folder / "model.safetensors"
    weights: Weights = load_file(path)
    path.unlink()
    return weights


def write_index(folder: Path, name: str, parts: dict[str, Weights]) -> None:
    """Write which tensor stands in which file."""
    index = {"weight_map": {key: file for file, part in parts.items() for key in part}}
    (folder / name).write_text(json.dumps(index))


def same(left: Weights, right: Weights) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def test_expected_shapes_then_they_are_those_of_transformers() -> None:
    """Name by name, shape by shape, with nothing missing."""
    config = EsmConfig(
        vocab_size=33, hidden_size=12, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=2, position_embedding_type="rotary",
    )  # fmt: skip
    model = EsmModel(config, add_pooling_layer=False)
    parameters = {
        name: tuple(value.shape)
        for name, value in model.named_parameters()
        if not name.startswith("contact_head")
    }

    assert expected_shapes(config.to_dict()) == parameters


def test_read_when_it_is_fastesm2s_then_transformers_computes_the_same_bit_for_bit(
    folder: Path, checkpoint_folder: Path
) -> None:
    """FastESM2's file, through our loader into EsmModel, is the model that transformers loads."""
    config = json.loads((folder / "config.json").read_text())
    fast = config | {"model_type": "fast_esm", "auto_map": {"AutoModel": "modeling_fastesm.X"}}
    (folder / "config.json").write_text(json.dumps(fast))
    reference = EsmModel.from_pretrained(checkpoint_folder, add_pooling_layer=False).eval()
    model = EsmModel(reference.config, add_pooling_layer=False).eval()

    left_out = model.load_state_dict(read(folder), strict=False)

    tokens = torch.tensor([[0, 5, 6, 7, 20, 2]])
    assert not left_out.unexpected_keys
    assert all("weight" not in n and "bias" not in n for n in encoder_keys(left_out.missing_keys))
    with torch.no_grad():
        expected, found = (m(tokens).last_hidden_state for m in (reference, model))
    assert torch.equal(found, expected)


def encoder_keys(names: list[str]) -> list[str]:
    """Leave out the contact head, which embeds nothing."""
    return [name for name in names if not name.startswith("contact_head")]


def test_read_when_the_weights_are_pickled_then_the_same(
    folder: Path, checkpoint_folder: Path
) -> None:
    """Old checkpoints are .bin files."""
    torch.save(take_weights(folder), folder / "pytorch_model.bin")

    assert same(read(folder), read(checkpoint_folder))


def test_read_when_pickled_weights_are_sharded_then_the_same(
    folder: Path, checkpoint_folder: Path
) -> None:
    """As ESM2 3B lies on the hub."""
    weights = list(take_weights(folder).items())
    parts = {f"pytorch_model-0000{n}-of-00002.bin": dict(weights[n - 1 :: 2]) for n in (1, 2)}
    for name, part in parts.items():
        torch.save(part, folder / name)
    write_index(folder, "pytorch_model.bin.index.json", parts)

    assert same(read(folder), read(checkpoint_folder))


def test_read_when_a_pickle_would_run_code_then_it_is_refused(folder: Path, tmp_path: Path) -> None:
    """The restricted unpickler names what it refuses, and nothing runs."""
    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trace,)

    torch.save(take_weights(folder) | {"x": Evil()}, folder / "pytorch_model.bin")

    with pytest.raises(DataError, match=r"pytorch_model\.bin"):
        read(folder)
    assert not trace.exists()


def test_read_when_several_weights_do_not_fit_then_all_are_named(folder: Path) -> None:
    """One look at the message is enough."""
    weights = take_weights(folder)
    del weights["esm.encoder.layer.0.output.dense.bias"]
    weights["esm.encoder.emb_layer_norm_after.bias"] = torch.zeros(3)
    weights["esm.encoder.layer.7.output.dense.bias"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors")

    with pytest.raises(CheckpointError) as failed:
        read(folder)
    for problem in ("missing encoder.layer.0.output", "shape (3,), expected (16,)", "unexpected"):
        assert problem in str(failed.value)


def test_read_when_another_dtype_is_asked_for_then_weights_have_it(folder: Path) -> None:
    """Converted one after the other, as they are read."""
    weights = open_checkpoint(folder).read_weights(dtype=torch.bfloat16, device=CPU)

    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
