"""Loading checkpoints: every form that fits, what is named when one does not, what never runs."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    EsmConfig,
    EsmForMaskedLM,
    EsmForSequenceClassification,
    EsmForTokenClassification,
    EsmModel,
    PreTrainedModel,
)

from harness.embedding import load_embedder
from harness.embedding.esm.alphabet import TOKENS, tokenise
from harness.embedding.esm.checkpoint import (
    expected_shapes,
    find_checkpoint,
    open_checkpoint,
    table_name,
)
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


@pytest.mark.parametrize(
    "kind",
    [EsmModel, EsmForMaskedLM, EsmForSequenceClassification, EsmForTokenClassification],
)
def test_load_when_transformers_wrote_it_then_it_is_what_transformers_computes(
    kind: type[PreTrainedModel], checkpoint_folder: Path, tmp_path: Path
) -> None:
    """With whatever head, and under this version's names: gamma, beta, one table for all layers."""
    model = kind.from_pretrained(checkpoint_folder).eval()
    model.save_pretrained(tmp_path)

    found = load_embedder(str(tmp_path)).embed(PROTEINS)

    np.testing.assert_allclose(found, pooled(model.base_model, PROTEINS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "esm."])
def test_load_when_each_layer_has_its_own_table_then_each_turns_by_it(
    prefix: str, folder: Path, checkpoint_folder: Path
) -> None:
    """As transformers once computed, with a table in each layer; alone or behind a prefix."""
    tables = [torch.tensor([1.0, 0.5, 0.03, 0.002]), torch.tensor([0.7, 0.2, 0.1, 0.0])]
    edit_weights(folder, **{f"esm.{table_name(n)}": table for n, table in enumerate(tables)})
    weights = load_file(folder / "model.safetensors")
    save_file({prefix + n.removeprefix("esm."): w for n, w in weights.items()},
              folder / "model.safetensors")  # fmt: skip
    model = EsmModel.from_pretrained(checkpoint_folder, add_pooling_layer=False).eval()
    for layer, table in zip(model.encoder.layer, tables, strict=True):
        layer.register_forward_pre_hook(partial(turn_by, table), with_kwargs=True)

    found = load_embedder(str(folder)).embed(PROTEINS)

    np.testing.assert_allclose(found, pooled(model, PROTEINS), rtol=1e-4, atol=1e-5)


def turn_by(
    table: torch.Tensor, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give a layer of transformers' model angles of its own."""
    n_tokens = args[0].shape[1]
    angles = torch.arange(n_tokens)[:, None] * torch.cat((table, table))
    return args, kwargs | {"position_embeddings": (angles.cos()[None], angles.sin()[None])}


def pooled(model: EsmModel, proteins: list[str]) -> np.ndarray:
    """Return what transformers' model makes of proteins, each on its own."""
    rows = []
    for protein in proteins:
        tokens = torch.from_numpy(tokenise([protein]).tokens).long()[None]
        with torch.no_grad():
            rows.append(model(tokens).last_hidden_state[0, 1:-1].mean(dim=0))
    return np.stack(rows)


def test_load_when_there_is_no_table_then_the_computed_one_serves(
    folder: Path, checkpoint_folder: Path
) -> None:
    """As transformers does where a checkpoint leaves it out."""
    edit_weights(folder, **{f"esm.{table_name(number)}": None for number in range(2)})
    reference = EsmModel.from_pretrained(folder, add_pooling_layer=False).eval()

    found = load_embedder(str(folder)).embed(PROTEINS)

    np.testing.assert_allclose(found, pooled(reference, PROTEINS), rtol=1e-4, atol=1e-5)
    assert np.abs(found - load_embedder(str(checkpoint_folder)).embed(PROTEINS)).max() > 1e-3


def test_load_when_heads_are_there_then_they_are_passed_over(
    folder: Path, checkpoint_folder: Path
) -> None:
    """Whatever transformers attaches to an encoder is no part of it, nor are learnt positions."""
    edit_weights(
        folder,
        **{
            "lm_head.bias": torch.zeros(33),
            "classifier.out_proj.weight": torch.zeros(2, 16),
            "qa_outputs.bias": torch.zeros(2),
            "esm.contact_head.regression.bias": torch.zeros(1),
            "esm.pooler.dense.bias": torch.zeros(16),
            "esm.embeddings.position_ids": torch.arange(4),
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
        (f"esm.{table_name(0)}", torch.ones(8), r"inv_freq has shape \(8,\), expected \(4,\)"),
        (f"esm.{table_name(1)}", None, "missing encoder.layer.1.attention.self.rotary"),
        (f"esm.{table_name(1)}", torch.full((4,), torch.nan), "inv_freq is not finite"),
        ("decoder.bias", torch.zeros(3), "unexpected decoder.bias"),
        (table_name(0), torch.ones(4), "is there under another name, too"),
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
        ({"rope_theta": 500.0}, "rope_theta is 500.0"),
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


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_open_when_weights_are_a_git_lfs_pointer_then_says_so(folder: Path, name: str) -> None:
    """A clone without git-lfs holds a text in place of each large file."""
    (folder / "model.safetensors").unlink()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n")

    with pytest.raises(MissingInput, match=rf"{name} is a Git LFS pointer.*`git lfs pull`"):
        open_checkpoint(folder)


def test_is_untrained_when_one_bias_is_not_0_then_it_is_not(folder: Path) -> None:
    """What nobody trained is seen in the weights, not in what a config says."""
    weights = load_file(folder / "model.safetensors")
    fresh = {name: torch.zeros_like(w) for name, w in weights.items() if name.endswith("bias")}
    fresh |= {name: torch.ones_like(w) for name, w in weights.items() if "norm" in name.lower()
              and name.endswith("weight")}  # fmt: skip
    trained = open_checkpoint(folder).is_untrained()

    edit_weights(folder, **fresh)
    untrained = open_checkpoint(folder).is_untrained()
    edit_weights(folder, **{"esm.encoder.layer.1.output.dense.bias": torch.full((16,), 1e-6)})

    assert (trained, untrained, open_checkpoint(folder).is_untrained()) == (False, True, False)


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
    """All but rotary tables, which half of a bfloat16 would turn elsewhere."""
    weights = open_checkpoint(folder_weights).read_weights(dtype=torch.bfloat16, device=CPU)

    tables = {table_name(0), table_name(1)}
    assert {weights[name].dtype for name in tables} == {torch.float32}
    assert {w.dtype for name, w in weights.items() if name not in tables} == {torch.bfloat16}
