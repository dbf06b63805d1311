"""Encoders of transformers as embedders: whose vectors they give, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from harness.embedding import load_embedder
from harness.embedding.embedder import Abilities, Counts, Embedder, describe_model
from harness.embedding.transformers_encoder import TransformersEmbedder
from harness.errors import CheckpointError, DataError, DeviceError, HarnessError, MissingInput

LETTERS = "ALGVSREDTIPKFQNYMHWCXBOUZ"  # in ProtT5's order
PROTEINS = ["MKVLAAGICW", "A", "ACDEFGHIKLMNPQRSTVWYX" * 2, "GG"]
load = partial(load_embedder, kind="transformers")


def write_prot_t5(
    folder: Path, *, is_bare: bool = False, has_decoder: bool = False, width: int = 16
) -> Path:
    """Write a tiny T5 of random weights as the hub has ProtT5: its tokens are '▁A', '▁L' and so on.

    With ``is_bare`` they are 'A', 'L' and so on, as Ankh's; with ``has_decoder`` the whole T5 is
    stored, as in the first ProtT5.
    """
    folder.mkdir()
    tokens = [letter if is_bare else f"▁{letter}" for letter in LETTERS]
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((token, -3.0) for token in tokens)]
    tokeniser = Tokenizer(models.Unigram(scores, unk_id=2))
    tokeniser.pre_tokenizer = (
        pre_tokenizers.Split("", "isolated") if is_bare else pre_tokenizers.Metaspace()
    )
    tokeniser.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    tokeniser.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokeniser.save(str(folder / "tokenizer.json"))
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", marks | {"tokenizer_class": "T5Tokenizer"})
    torch.manual_seed(0)
    config = T5Config(vocab_size=28, d_model=width, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    built = T5ForConditionalGeneration if has_decoder else T5EncoderModel
    built(config).save_pretrained(folder)
    return folder


def write_prot_bert(folder: Path) -> Path:
    """Write a tiny BERT of random weights with 64 positions: vocab.txt and a pickled state."""
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    write_json(folder / "tokenizer_config.json", {"do_lower_case": False})
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        architectures=["BertForMaskedLM"],
    )
    config.save_pretrained(folder)
    torch.save(BertForMaskedLM(config).state_dict(), folder / "pytorch_model.bin")
    return folder


def write_json(path: Path, table: dict[str, Any]) -> None:
    """Write a table."""
    path.write_text(json.dumps(table))


def change_config(folder: Path, **changes: Any) -> None:
    """Change what config.json says."""
    path = folder / "config.json"
    write_json(path, json.loads(path.read_text()) | changes)


@pytest.fixture(scope="module")
def prot_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ProtT5-like checkpoint; not to be changed."""
    return write_prot_t5(tmp_path_factory.mktemp("t5") / "prot_t5")


@pytest.fixture(scope="module")
def embedder(prot_t5: Path) -> Embedder:
    """Return it, loaded."""
    return load(str(prot_t5))


def test_embed_when_it_is_prot_t5_then_the_mean_over_residues_alone(
    embedder: Embedder, prot_t5: Path
) -> None:
    """Token by token as its authors spell it: blanks between residues, the end mark left out."""
    reference = T5EncoderModel.from_pretrained(prot_t5).eval()
    vectors = embedder.embed(PROTEINS)

    for vector, protein in zip(vectors, PROTEINS, strict=True):
        ids = torch.tensor([[3 + LETTERS.index(letter) for letter in protein] + [1]])
        with torch.no_grad():
            hidden = reference(input_ids=ids).last_hidden_state[0]
        np.testing.assert_allclose(vector, hidden[:-1].mean(dim=0), rtol=1e-4, atol=1e-5)
    assert (embedder.dim, vectors.dtype) == (16, np.float32)


def test_embed_when_it_is_esm_then_the_vectors_of_the_other_kind(checkpoint_folder: Path) -> None:
    """Two engines, one function: a check of both."""
    expected = load_embedder(str(checkpoint_folder)).embed(PROTEINS)

    found = load(str(checkpoint_folder)).embed(PROTEINS)

    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_embed_when_it_is_bert_then_its_marks_and_positions_are_kept(tmp_path: Path) -> None:
    """From vocab.txt and a pickled state; a protein has no more tokens than positions."""
    folder = write_prot_bert(tmp_path / "bert")
    prot_bert = load(str(folder))
    reference = BertForMaskedLM(BertConfig.from_pretrained(folder)).eval()
    reference.load_state_dict(torch.load(folder / "pytorch_model.bin"))
    ids = torch.tensor([[2, *(5 + LETTERS.index(letter) for letter in "MKV"), 3]])

    with torch.no_grad():
        hidden = reference.bert(input_ids=ids).last_hidden_state[0]

    np.testing.assert_allclose(
        prot_bert.embed(["MKV"])[0], hidden[1:-1].mean(dim=0), rtol=1e-4, atol=1e-5
    )
    assert Abilities(prot_bert).count(["W" * 99]) == Counts(n_tokens=63, n_truncated=1)
    assert np.isfinite(prot_bert.embed(["W" * 99])).all()


@pytest.mark.parametrize(
    "write", [partial(write_prot_t5, is_bare=True), partial(write_prot_t5, has_decoder=True)]
)
def test_embed_when_tokens_or_files_differ_then_the_same_weights_give_the_same(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Ankh's tokens have no blanks before them, and some checkpoints hold a decoder as well."""
    embedder = load(str(write(tmp_path / "other")))
    weights = load_file(tmp_path / "other" / "model.safetensors")
    plain = write_prot_t5(tmp_path / "plain")
    shared = {n: value for n, value in weights.items() if not n.startswith(("decoder", "lm_head"))}
    save_file(shared, plain / "model.safetensors", metadata={"format": "pt"})

    np.testing.assert_array_equal(embedder.embed(PROTEINS), load(str(plain)).embed(PROTEINS))


def test_embed_when_letters_are_rare_or_foreign_then_read_as_x_and_counted(
    embedder: Embedder,
) -> None:
    """U, Z, O and B as ProtT5's authors read them, and whatever else is no residue."""
    found, expected = embedder.embed(["AUZOBA*a", "AXXXXAXX"])

    np.testing.assert_array_equal(found, expected)
    counts = Abilities(embedder).count(["AUZOBA*a", "W" * 2000])
    assert counts == Counts(n_tokens=9 + 1023, n_truncated=1, n_replaced=6)


@settings(max_examples=10)
@given(
    proteins=st.lists(st.text("ACDEFGHIKLMNPQRSTVWY", min_size=1, max_size=40), max_size=7),
    budget=st.integers(1, 200),
)
def test_embed_when_neighbours_and_budgets_change_then_a_vector_does_not(
    proteins: list[str], budget: int, embedder: Embedder
) -> None:
    """Padding is seen by nothing."""
    together = embedder.embed(proteins, budget)
    alone = [embedder.embed([protein])[0] for protein in proteins]

    assert together.shape == (len(proteins), 16)
    np.testing.assert_allclose(together, np.reshape(alone, (-1, 16)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_embed_when_in_half_precision_then_near_and_of_another_digest(
    dtype: str, error: float, embedder: Embedder, prot_t5: Path
) -> None:
    """The same weights, computed in what was asked for."""
    half = load(str(prot_t5), dtype=dtype)

    np.testing.assert_allclose(half.embed(PROTEINS), embedder.embed(PROTEINS), atol=error)
    assert half.facts == embedder.facts
    assert half.digest != embedder.digest


def test_embed_when_memory_is_full_then_smaller_batches_give_the_same(
    embedder: Embedder, prot_t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget is halved; what does not fit alone is an error."""
    small = TransformersEmbedder(str(prot_t5))
    encode = small._encoder

    def fail(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        if input_ids.numel() > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(input_ids=input_ids, attention_mask=attention_mask)

    monkeypatch.setattr(small, "_encoder", fail)
    expected, done = embedder.embed(PROTEINS * 3), list[int]()

    np.testing.assert_allclose(
        small.embed(PROTEINS * 3, 400, done.append), expected, rtol=1e-4, atol=1e-5
    )
    assert (small.token_budget, small.n_out_of_memory, sum(done)) == (50, 3, 12)
    with pytest.raises(DeviceError, match="one sequence of 61 tokens"):
        small.embed(["A" * 60])


def test_embed_when_a_protein_is_empty_then_its_position_is_named(embedder: Embedder) -> None:
    """Nothing is embedded in place of an empty protein."""
    with pytest.raises(DataError, match="protein 1 "):
        embedder.embed(["ACD", ""])


def test_describe_then_type_width_and_size_are_told_without_loading(prot_t5: Path) -> None:
    """What the doctor shows."""
    said = describe_model(str(prot_t5), kind="transformers", dtype="bfloat16")

    assert said.startswith(f"{prot_t5}, type t5, width 16, ")
    assert said.endswith("embedded by transformers in bfloat16")


def drop(folder: Path, name: str) -> None:
    """Take a weight out of a checkpoint."""
    rename(folder, name, None)


def rename(folder: Path, name: str, new: str | None) -> None:
    """Give a weight another name, or none."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    value = weights.pop(name)
    save_file(weights | ({new: value} if new else {}), path, metadata={"format": "pt"})


def pickle_code(folder: Path) -> None:
    """Put a pickle that names a function in place of the weights."""
    (folder / "model.safetensors").unlink()
    torch.save({"weight": print}, folder / "pytorch_model.bin")


def speak_english(folder: Path) -> None:
    """Give the model a tokeniser of words."""
    tokeniser = Tokenizer(models.WordLevel({"<unk>": 2, "protein": 3}, unk_token="<unk>"))
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    tokeniser.save(str(folder / "tokenizer.json"))


NORM = "encoder.final_layer_norm.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (partial(drop, name=NORM), f"1 weights do not fit .*missing: {NORM}"),
        (partial(rename, name=NORM, new="encoder.gate.weight"), "unexpected: encoder.gate.weight"),
        (partial(change_config, d_model=8), "of another shape: encoder.block.0"),
        (partial(change_config, model_type="gpt2", architectures=["GPT2Model"]), "no encoder"),
        (partial(change_config, model_type="fast_t5"), "transformers .* has no 'fast_t5' of its"),
        (
            partial(change_config, architectures=["FastT5"], auto_map={"AutoModel": "t5.FastT5"}),
            "has no 'FastT5' of its own. It brings code of its own, which is not run",
        ),
        (pickle_code, r"pytorch_model\.bin: refused, because it names"),
        (speak_english, "does not know the residues ACDEFGHIKLMNPQRSTVWYX as tokens"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "not a readable safe"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds neither model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json is not there"),
        (lambda folder: (folder / "config.json").write_text("[]"), "names no model_type"),
    ],
)
def test_load_when_a_checkpoint_cannot_be_used_then_the_reason_is_named(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    """Nothing is initialised anew, left out or run."""
    folder = write_prot_t5(tmp_path / "t5")
    (folder / "t5.py").write_text("raise SystemExit('run')")
    spoil(folder)

    with pytest.raises(HarnessError, match=message):
        load(str(folder))


def test_load_when_transformers_has_the_architecture_then_its_own_class_is_taken(
    prot_t5: Path, tmp_path: Path
) -> None:
    """Whatever else auto_map names is never imported."""
    folder = write_prot_t5(tmp_path / "t5")
    (folder / "t5.py").write_text("raise SystemExit('run')")
    change_config(folder, auto_map={"AutoModel": "t5.FastT5", "AutoConfig": "t5.FastConfig"})

    np.testing.assert_array_equal(
        load(str(folder)).embed(PROTEINS), load(str(prot_t5)).embed(PROTEINS)
    )


def test_load_when_sentencepiece_is_not_installed_then_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ProtT5's own tokeniser is a model of SentencePiece."""
    folder = write_prot_t5(tmp_path / "t5")
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    monkeypatch.setattr("harness.embedding.transformers_encoder.find_spec", lambda name: None)

    with pytest.raises(MissingInput, match="pip install sentencepiece"):
        load(str(folder))


def test_load_when_weights_are_in_shards_then_the_same(prot_t5: Path, tmp_path: Path) -> None:
    """As the large ones come."""
    folder = write_prot_t5(tmp_path / "t5")
    T5EncoderModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="5KB")
    (folder / "model.safetensors").unlink()

    assert len(list(folder.glob("model-*.safetensors"))) > 1
    np.testing.assert_array_equal(
        load(str(folder)).embed(PROTEINS), load(str(prot_t5)).embed(PROTEINS)
    )


def test_load_when_its_tokeniser_joins_residues_then_the_protein_is_named(tmp_path: Path) -> None:
    """A vector must be the mean over residues, not over words."""
    folder = write_prot_t5(tmp_path / "t5", is_bare=True)
    tokens = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>", *LETTERS, "MKV")]
    tokeniser = Tokenizer(models.Unigram(tokens, unk_id=2))
    tokeniser.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    tokeniser.add_special_tokens(["</s>"])
    tokeniser.save(str(folder / "tokenizer.json"))

    with pytest.raises(DataError, match=r"protein 1 .* of 3 residues became 2 tokens, expected 4"):
        load(str(folder)).embed(["A", "MKV"])


def test_load_when_no_weights_are_there_then_checkpoint_error_is_no_fallback(
    tmp_path: Path,
) -> None:
    """A shard that an index names but that is lost shows as missing weights."""
    folder = write_prot_t5(tmp_path / "t5")
    T5EncoderModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="5KB")
    (folder / "model.safetensors").unlink()
    max(folder.glob("model-*.safetensors")).unlink()

    with pytest.raises(CheckpointError, match="missing: "):
        load(str(folder))
