"""DNABERT-S: a checkpoint that brings code, run only with leave and from a pinned revision.

k-mer profiles.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import dynamic_module_utils

from harness.embedding.nucleotide import DnabertEmbedder, KmerProfile, load_dnabert
from harness.errors import CheckpointError, DataError, MissingInput

HASH = "0123456789abcdef0123456789abcdef01234567"
WORDS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"ACGTN", "AC", "GT", "ACG")
SEQUENCES = ["ACGTACGT", "TTTT", "GATTACA", "AC", "CCCC", "ACGTTGCAACGT"]

CODE = """
from pathlib import Path

import torch
from transformers import BertConfig, PreTrainedModel

Path({trace!r}).touch()


class SmallConfig(BertConfig):
    pass


class Small(PreTrainedModel):
    config_class = SmallConfig
    base_model_prefix = "bert"

    def __init__(self, config):
        super().__init__(config)
        self.words = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.mix = torch.nn.Linear(config.hidden_size, config.hidden_size)
        # A table that is computed, not stored, as DNABERT-S's distance penalties are.
        self.register_buffer("slopes", torch.arange(config.hidden_size) / 8, persistent=False)

    def forward(self, input_ids, attention_mask=None):
        words = self.words(input_ids)
        weights = attention_mask.unsqueeze(-1).float()
        context = (words * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        return torch.tanh(self.mix(words + context)) * self.slopes, context
"""


@pytest.fixture(autouse=True)
def _own_module_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the code that transformers copies within the test."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def write_checkpoint(folder: Path, trace: Path, *, auto_map: str = "modeling.Small") -> Path:
    """Write a checkpoint with code that leaves a trace, a tokeniser, and random weights."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = {"model_type": "bert", "hidden_size": 8, "vocab_size": len(WORDS)}
    if auto_map:
        config |= {"auto_map": {"AutoModel": auto_map, "AutoConfig": f"{auto_map}Config"}}
    tokeniser = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    table: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "vocab": {word: number for number, word in enumerate(WORDS)},
            "merges": [["A", "C"], ["G", "T"], ["AC", "G"]],
            "unk_token": "[UNK]",
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {
                word: {"id": word, "ids": [WORDS.index(word)], "tokens": [word]}
                for word in ("[CLS]", "[SEP]")
            },
        },
    }
    for name, content in (
        ("config.json", config),
        ("tokenizer_config.json", tokeniser),
        ("tokenizer.json", table),
    ):
        (folder / name).write_text(json.dumps(content))
    (folder / "modeling.py").write_text(CODE.format(trace=str(trace)))
    random = torch.Generator().manual_seed(3)
    weights = {
        "bert.words.weight": torch.randn(len(WORDS), 8, generator=random),
        "bert.mix.weight": torch.randn(8, 8, generator=random),
        "bert.mix.bias": torch.randn(8, generator=random),
        "cls.decoder.weight": torch.randn(3, 8, generator=random),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a checkpoint's folder; its code would leave ``tmp_path / "trace"``."""
    return write_checkpoint(tmp_path / "checkpoint", tmp_path / "trace")


def load(folder: Path) -> DnabertEmbedder:
    """Load a folder with leave to run its code."""
    return load_dnabert(str(folder), trust_remote_code=True)


def test_load_when_leave_is_not_given_then_no_code_runs_and_the_error_says_how(
    folder: Path, tmp_path: Path
) -> None:
    """Code from a hub runs with the user's rights, so it takes an explicit setting."""
    with pytest.raises(MissingInput, match=r"with all your rights.*trust_remote_code = true"):
        load_dnabert(str(folder))

    assert not (tmp_path / "trace").exists()


def test_load_when_leave_is_given_then_the_code_runs(folder: Path, tmp_path: Path) -> None:
    """The same file leaves its trace, so the test above can fail."""
    embedder = load(folder)

    assert (tmp_path / "trace").exists()
    assert embedder.dim == 8


@pytest.mark.parametrize("revision", [None, "main", HASH[:-1], HASH.upper()])
def test_load_when_a_hub_id_is_not_pinned_to_a_commit_then_it_is_refused(
    revision: str | None,
) -> None:
    """What a branch holds tomorrow, nobody has read."""
    with pytest.raises(MissingInput, match=r"full commit hash.*_DNABERT_S\.pt"):
        load_dnabert("zhihan1996/DNABERT-S", revision=revision, trust_remote_code=True)


def test_load_when_a_hub_id_is_not_downloaded_then_the_command_is_named() -> None:
    """Nothing is downloaded by the gate."""
    with pytest.raises(MissingInput, match=f"hf download org/absent --revision {HASH}"):
        load_dnabert("org/absent", revision=HASH, trust_remote_code=True)


@pytest.mark.parametrize("auto_map", ["modeling.Small", "org/dna--modeling.Small"])
def test_load_when_a_hub_id_is_cached_at_the_commit_then_that_very_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto_map: str
) -> None:
    """Another revision in the cache, such as the newest of main, is left alone."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "models--org--dna"
    for revision, trace in ((HASH, "pinned"), (HASH[::-1], "main")):
        write_checkpoint(cached / "snapshots" / revision, tmp_path / trace, auto_map=auto_map)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(HASH[::-1])

    load_dnabert("org/dna", revision=HASH, trust_remote_code=True).embed(["ACGT"])

    assert (tmp_path / "pinned").exists()
    assert not (tmp_path / "main").exists()


def test_load_when_nothing_is_named_then_the_choices_are() -> None:
    """Files, a model or k-mers."""
    with pytest.raises(MissingInput, match=r'_DNABERT_S\.pt", a model, or kind = "kmer"'):
        load_dnabert(None)


@pytest.mark.parametrize(
    ("auto_map", "message"),
    [
        ("org/other--modeling.Small", r"another repository \(org/other\)"),
        ("", "names no code of its own"),
    ],
)
def test_load_when_code_is_not_in_the_folder_then_it_is_refused(
    tmp_path: Path, auto_map: str, message: str
) -> None:
    """Code of another repository is pinned by nothing."""
    folder = write_checkpoint(tmp_path / "x", tmp_path / "trace", auto_map=auto_map)

    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_embed_when_run_then_it_is_the_mean_over_all_tokens(folder: Path) -> None:
    """Special tokens count; tables that the code computes are kept."""
    weights = load_file(folder / "model.safetensors")
    ids = torch.tensor([WORDS.index(word) for word in ("[CLS]", "AC", "GT", "T", "[SEP]")])
    words = weights["bert.words.weight"][ids]
    mixed = (words + words.mean(0)) @ weights["bert.mix.weight"].T + weights["bert.mix.bias"]
    expected = (torch.tanh(mixed) * torch.arange(8) / 8).mean(0)

    embedded = load(folder).embed(["ACGTT"])

    np.testing.assert_allclose(embedded[0], expected, rtol=1e-5, atol=1e-6)


def test_embed_when_sequences_stand_together_then_each_is_as_if_alone(folder: Path) -> None:
    """A vector does not depend on its neighbours, and order is kept."""
    embedder = load(folder)
    steps: list[int] = []

    together = embedder.embed(SEQUENCES, on_progress=steps.append)

    alone = np.concatenate([embedder.embed([sequence]) for sequence in SEQUENCES])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert sum(steps) == len(SEQUENCES)
    assert together.dtype == np.float32


def test_embed_when_a_sequence_is_empty_then_its_position_is_named(folder: Path) -> None:
    """Two special tokens alone would give a vector that means nothing."""
    with pytest.raises(DataError, match="sequence 1 "):
        load(folder).embed(["ACGT", ""])


def test_digests_when_the_code_changes_then_both_differ(folder: Path) -> None:
    """What was run is on record."""
    before = load(folder)
    (folder / "modeling.py").write_text((folder / "modeling.py").read_text() + "\n# changed\n")

    after = load(folder)

    assert before.code_sha256 != after.code_sha256
    assert before.digest != after.digest


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bert.mix.bias", None, "missing mix.bias"),
        ("bert.extra.weight", torch.ones(2), "unexpected extra.weight"),
        ("bert.mix.bias", torch.ones(3), r"mix.bias has shape \(3,\), expected \(8,\)"),
    ],
)
def test_load_when_weights_do_not_fit_then_they_are_named(
    folder: Path, name: str, value: torch.Tensor | None, message: str
) -> None:
    """No weight is ever newly initialised."""
    weights = load_file(folder / "model.safetensors") | ({name: value} if value is not None else {})
    if value is None:
        del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_load_when_the_code_fails_then_the_error_says_what_it_raised(folder: Path) -> None:
    """Foreign code may raise anything; the way around it is named."""
    (folder / "modeling.py").write_text("raise RuntimeError('needs another transformers')")

    with pytest.raises(CheckpointError, match=r"RuntimeError: needs another.*_DNABERT_S\.pt"):
        load(folder)


DNA = st.text("ACGT", min_size=4, max_size=80)


@given(DNA)
def test_embed_when_counted_by_hand_then_equal(sequence: str) -> None:
    """Each column is the standardised count of its word, in alphabetical order."""
    n_words = len(sequence) - 2
    words = ["".join(word) for word in product("ACGT", repeat=3)]
    counts = [sum(sequence[i : i + 3] == word for i in range(n_words)) for word in words]
    expected = n_words / 64

    profile = KmerProfile(3).embed([sequence])[0]

    np.testing.assert_allclose(profile, (np.array(counts) - expected) / expected**0.5, rtol=1e-5)


@pytest.mark.parametrize("sequence", ["ACG", "ACGTN", "acgt", ""])
def test_embed_when_a_sequence_is_unusable_then_its_position_is_named(sequence: str) -> None:
    """Too short, ambiguous or lower case."""
    with pytest.raises(DataError, match="sequence 1 "):
        KmerProfile(4).embed(["ACGTACGT", sequence])
