"""Loading checkpoints: what fits, what is named when it does not, what never runs.

Weights by transformers' names, from every form that checkpoints come in.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import EsmConfig, EsmModel

from harness.embedding import load_embedder
from harness.embedding.esm.alphabet import TOKENS
from harness.embedding.esm.checkpoint import expected_shapes, find_checkpoint, open_checkpoint
from harness.errors import CheckpointError, DataError, MissingInput

PROTEINS = ["MKVLAAGICW", "ACDEFGHIKLMNPQRSTVWY"]


@pytest.fixture
def folder(checkpoint_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the checkpoint that may be broken."""
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors; None removes one."""
    path = folder / "model.safetensors"
    weights: dict[str, Any] = load_file(path) | changes
    save_file({k: v for k, v in weights.items() if v is not None}, path)


def test_load_when_the_checkpoint_is_fastesm2s_then_the_embedding_is_bit_for_bit_the_same(
    folder: Path, checkpoint_folder: Path
) -> None:
    """FastESM2 differs in model_type, auto_map and absent keys, not in the function."""
    edit_config(
        folder,
        model_type="fast_esm",
        auto_map={"AutoModel": "modeling_fastesm.FastEsmModel"},
        token_dropout=None,
        position_embedding_type=None,
        emb_layer_norm_before=None,
    )

    fast = load_embedder(str(folder)).embed(PROTEINS)

    assert (fast == load_embedder(str(checkpoint_folder)).embed(PROTEINS)).all()


def test_load_when_there_is_code_in_the_folder_then_it_never_runs(folder: Path) -> None:
    """A modeling file that would leave a trace leaves none."""
    trace = folder / "trace"
    (folder / "modeling_fastesm.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    edit_config(folder, model_type="fast_esm", auto_map={"AutoModel": "modeling_fastesm.X"})

    load_embedder(str(folder)).embed(PROTEINS)

    assert not trace.exists()


def test_load_when_one_table_stands_for_all_layers_then_the_embedding_is_the_same(
    folder: Path, checkpoint_folder: Path
) -> None:
    """The hub's ESM2 keeps rotary frequencies in each layer; transformers writes one table."""
    layer = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"
    assert layer.format(0) in load_file(folder / "model.safetensors")
    edit_weights(
        folder,
        **{layer.format(number): None for number in range(2)},
        **{"esm.rotary_embeddings.inv_freq": torch.ones(4)},
    )

    found = load_embedder(str(folder)).embed(PROTEINS)

    assert (found == load_embedder(str(checkpoint_folder)).embed(PROTEINS)).all()


def test_load_when_known_extras_are_there_then_they_are_ignored(
    folder: Path, checkpoint_folder: Path
) -> None:
    """Heads, pooler and tables that follow from the configuration are no part of the encoder."""
    edit_weights(
        folder,
        **{
            "lm_head.bias": torch.zeros(33),
            "esm.contact_head.regression.bias": torch.zeros(1),
            "esm.pooler.dense.bias": torch.zeros(16),
            "esm.embeddings.position_ids": torch.arange(4),
            "esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq": torch.ones(4),
        },
    )

    same = load_embedder(str(folder)).embed(PROTEINS)

    assert (same == load_embedder(str(checkpoint_folder)).embed(PROTEINS)).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("esm.encoder.layer.1.output.dense.weight", None, "missing encoder.layer.1.output.dense"),
        ("esm.encoder.layer.9.output.dense.bias", torch.zeros(1), "unexpected encoder.layer.9"),
        ("esm.embeddings.word_embeddings.weight", torch.zeros(5, 16), r"shape \(5, 16\), expected"),
    ],
)
def test_load_when_weights_do_not_fit_then_they_are_named(
    folder: Path, name: str, value: torch.Tensor | None, message: str
) -> None:
    """Nothing is newly initialised in silence."""
    edit_weights(folder, **{name: value})

    with pytest.raises(CheckpointError, match=message):
        load_embedder(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'; expected"),
        ({"hidden_size": "16"}, "hidden_size must be a whole number"),
        ({"position_embedding_type": "absolute"}, "position_embedding_type is 'absolute'"),
        ({"vocab_size": 20}, "vocab_size is 20; ESM2 has 33"),
    ],
)
def test_open_when_it_is_another_model_then_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    """Only ESM2's architecture is loaded."""
    edit_config(folder, **changes)

    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_open_when_the_vocabulary_differs_then_the_difference_is_named(folder: Path) -> None:
    """Another alphabet would shift every token."""
    path = folder / "vocab.txt"
    path.write_text(path.read_text().replace("<mask>", "<gap>"))

    with pytest.raises(CheckpointError, match=r"is not ESM2's vocabulary.*<gap>"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ((*TOKENS[:-1], "<gap>"), r"tokenizer\.json: is not ESM2's vocabulary.*<gap>"),
        (TOKENS[::-1], "differs in order"),
        (None, "holds no vocabulary"),
    ],
)
def test_open_when_the_tokenisers_vocabulary_differs_then_the_difference_is_named(
    folder: Path, tokens: tuple[str, ...] | None, message: str
) -> None:
    """The newer form of a tokeniser numbers its tokens."""
    vocab = {token: number for number, token in enumerate(tokens)} if tokens else None
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}}))

    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_find_checkpoint_when_a_folder_is_given_a_revision_then_refused(folder: Path) -> None:
    """Which revision a folder holds cannot be known, unless it is called like it."""
    assert find_checkpoint(str(folder), folder.name) == folder
    with pytest.raises(CheckpointError, match="has no revision 'abc'"):
        find_checkpoint(str(folder), "abc")


def test_open_when_a_shard_is_missing_then_it_is_named(folder: Path) -> None:
    """A sharded checkpoint needs all its files."""
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(MissingInput, match=r"model-00001-of-00002\.safetensors"):
        open_checkpoint(folder)


def test_load_when_sharded_then_the_same_as_in_one_file(
    folder: Path, checkpoint_folder: Path
) -> None:
    """Weights may be spread over files."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {
        f"model-0000{n}-of-00002.safetensors": dict(list(weights.items())[n::2]) for n in (0, 1)
    }
    for name, part in parts.items():
        save_file(part, folder / name)
    index = {"weight_map": {key: name for name, part in parts.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    sharded = load_embedder(str(folder)).embed(PROTEINS)

    assert (sharded == load_embedder(str(checkpoint_folder)).embed(PROTEINS)).all()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_load_when_a_file_is_junk_then_the_error_names_it(folder: Path, name: str) -> None:
    """Binary junk is no checkpoint."""
    (folder / name).write_bytes(b"\x00\xffjunk")

    with pytest.raises(CheckpointError, match=name):
        load_embedder(str(folder))


def test_find_checkpoint_when_it_is_nowhere_then_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A hub id that was never downloaded names the command."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(MissingInput, match="hf download some/model --revision abc"):
        find_checkpoint("some/model", "abc")


def test_open_when_the_weights_are_random_then_it_knows(checkpoint_folder: Path) -> None:
    """The mark in config.json makes a rehearsal."""
    assert open_checkpoint(checkpoint_folder).random_seed == 1


CPU = torch.device("cpu")

Weights = dict[str, torch.Tensor]


@pytest.fixture
def folder_weights(checkpoint_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the checkpoint that may be changed."""
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


def read(folder_weights: Path) -> Weights:
    """Read the encoder's weights in float32."""
    return open_checkpoint(folder_weights).read_weights(dtype=torch.float32, device=CPU)


def take_weights(folder_weights: Path) -> Weights:
    """Return all tensors of the folder's file, and delete it."""
    path = folder_weights / "model.safetensors"
    weights: Weights = load_file(path)
    path.unlink()
    return weights


def write_index(folder_weights: Path, name: str, parts: dict[str, Weights]) -> None:
    """Write which tensor stands in which file."""
    index = {"weight_map": {key: file for file, part in parts.items() for key in part}}
    (folder_weights / name).write_text(json.dumps(index))


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
    folder_weights: Path, checkpoint_folder: Path
) -> None:
    """FastESM2's file, through our loader into EsmModel, is the model that transformers loads."""
    config = json.loads((folder_weights / "config.json").read_text())
    fast = config | {"model_type": "fast_esm", "auto_map": {"AutoModel": "modeling_fastesm.X"}}
    (folder_weights / "config.json").write_text(json.dumps(fast))
    reference = EsmModel.from_pretrained(checkpoint_folder, add_pooling_layer=False).eval()
    model = EsmModel(reference.config, add_pooling_layer=False).eval()

    left_out = model.load_state_dict(read(folder_weights), strict=False)

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
    folder_weights: Path, checkpoint_folder: Path
) -> None:
    """Old checkpoints are .bin files."""
    torch.save(take_weights(folder_weights), folder_weights / "pytorch_model.bin")

    assert same(read(folder_weights), read(checkpoint_folder))


def test_read_when_pickled_weights_are_sharded_then_the_same(
    folder_weights: Path, checkpoint_folder: Path
) -> None:
    """As ESM2 3B lies on the hub."""
    weights = list(take_weights(folder_weights).items())
    parts = {f"pytorch_model-0000{n}-of-00002.bin": dict(weights[n - 1 :: 2]) for n in (1, 2)}
    for name, part in parts.items():
        torch.save(part, folder_weights / name)
    write_index(folder_weights, "pytorch_model.bin.index.json", parts)

    assert same(read(folder_weights), read(checkpoint_folder))


def test_read_when_a_pickle_would_run_code_then_it_is_refused(
    folder_weights: Path, tmp_path: Path
) -> None:
    """The restricted unpickler names what it refuses, and nothing runs."""
    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trace,)

    torch.save(take_weights(folder_weights) | {"x": Evil()}, folder_weights / "pytorch_model.bin")

    with pytest.raises(DataError, match=r"pytorch_model\.bin"):
        read(folder_weights)
    assert not trace.exists()


def test_read_when_several_weights_do_not_fit_then_all_are_named(folder_weights: Path) -> None:
    """One look at the message is enough."""
    weights = take_weights(folder_weights)
    del weights["esm.encoder.layer.0.output.dense.bias"]
    weights["esm.encoder.emb_layer_norm_after.bias"] = torch.zeros(3)
    weights["esm.encoder.layer.7.output.dense.bias"] = torch.zeros(3)
    save_file(weights, folder_weights / "model.safetensors")

    with pytest.raises(CheckpointError) as failed:
        read(folder_weights)
    for problem in ("missing encoder.layer.0.output", "shape (3,), expected (16,)", "unexpected"):
        assert problem in str(failed.value)


def test_read_when_another_dtype_is_asked_for_then_weights_have_it(folder_weights: Path) -> None:
    """Converted one after the other, as they are read."""
    weights = open_checkpoint(folder_weights).read_weights(dtype=torch.bfloat16, device=CPU)

    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
