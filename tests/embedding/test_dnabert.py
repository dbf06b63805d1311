"""DNABERT-S: the same function as its description, from data alone, however it is laid out."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from scipy.special import erf

from harness.embedding import dnabert
from harness.embedding.dnabert import DnabertEmbedder, DnabertEncoder, alibi_slopes
from harness.embedding.dnabert_checkpoint import open_dnabert
from harness.embedding.embedder import Abilities, Counts
from harness.embedding.esm.encoder import PLAIN
from harness.embedding.esm.engine import EqualLengths, Packed
from harness.errors import CheckpointError, DataError, MissingInput

Weights = Mapping[str, npt.NDArray[np.float64]]
RNG = np.random.default_rng(5)
SEQUENCES = ["".join(RNG.choice(list("ACGT"), n)) for n in (1, 500, 7, 60, 500, 60)]
LONG = "".join(RNG.choice(list("ACGT"), 8_000))


@pytest.fixture
def folder(dnabert_folder: Path, tmp_path: Path) -> Path:
    """Return a checkpoint to be changed."""
    return Path(shutil.copytree(dnabert_folder, tmp_path / "DNABERT-S"))


@pytest.fixture(scope="module")
def embedder(dnabert_folder: Path) -> DnabertEmbedder:
    """Return the embedder as it runs on a CPU."""
    return DnabertEmbedder(str(dnabert_folder))


def normalise(x: npt.NDArray[np.float64], weights: Weights, name: str) -> npt.NDArray[np.float64]:
    """Return states (token, dim) normalised over their channels."""
    x = x - x.mean(1, keepdims=True)
    scaled = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-12)
    return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"])


def compute(folder: Path, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return one sequence's vector in float64, as the architecture is described; two layers."""
    stored = load_file(folder / "model.safetensors").items()
    w = {name.removeprefix("bert."): value.double().numpy() for name, value in stored}
    apart = np.abs(np.subtract.outer(np.arange(len(ids)), np.arange(len(ids))))
    exponents = [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]
    words = w["embeddings.word_embeddings.weight"][ids]
    x = words + w["embeddings.token_type_embeddings.weight"][0]
    x = normalise(x, w, "embeddings.LayerNorm")
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        attention = f"{layer}.attention"
        qkv = x @ w[f"{attention}.self.Wqkv.weight"].T + w[f"{attention}.self.Wqkv.bias"]
        heads = []
        for head, exponent in enumerate(exponents):
            query, key, value = (qkv[:, 48 * n + 4 * head :][:, :4] for n in range(3))
            scores = query @ key.T / 2 - 2**-exponent * apart
            shares = np.exp(scores - scores.max(1, keepdims=True))
            heads.append(shares / shares.sum(1, keepdims=True) @ value)
        out = np.hstack(heads) @ w[f"{attention}.output.dense.weight"].T
        out = out + w[f"{attention}.output.dense.bias"] + x
        x = normalise(out, w, f"{attention}.output.LayerNorm")
        wide = x @ w[f"{layer}.mlp.gated_layers.weight"].T
        gated = wide[:, :24] * (1 + erf(wide[:, :24] / 2**0.5)) / 2 * wide[:, 24:]
        out = gated @ w[f"{layer}.mlp.wo.weight"].T + w[f"{layer}.mlp.wo.bias"] + x
        x = normalise(out, w, f"{layer}.mlp.layernorm")
    return np.asarray(x.mean(0))


def relative_l2(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Return the largest relative L2 of a row."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected)
    difference = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return float(difference.max())


def test_alibi_slopes_when_heads_are_no_power_of_two_then_every_other_of_twice_as_many() -> None:
    """As the checkpoints were trained."""
    assert alibi_slopes(8) == [2.0**-n for n in range(1, 9)]
    assert alibi_slopes(12) == [*alibi_slopes(8), *(2.0**-n for n in (0.5, 1.5, 2.5, 3.5))]


def test_embed_when_lengths_differ_then_the_function_described(
    embedder: DnabertEmbedder, dnabert_folder: Path
) -> None:
    """From 3 to 2,000 tokens and more, alone as among others."""
    sequences = [*SEQUENCES, LONG]
    tokens = embedder.tokenise(sequences)
    assert min(map(len, tokens)) == 3
    assert max(map(len, tokens)) > 2_000
    expected = np.stack([compute(dnabert_folder, ids) for ids in tokens])

    together = embedder.embed(sequences)
    alone = np.concatenate([embedder.embed([sequence]) for sequence in sequences])

    assert relative_l2(together, expected) < 1e-5
    assert relative_l2(alone, expected) < 1e-5


def test_reference_then_engine_and_plain_function_are_near_and_separate(
    embedder: DnabertEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle of a run: what the engine gets wrong, it does not."""
    found, expected = embedder.reference(SEQUENCES[:4])
    assert relative_l2(found, expected) < 1e-5

    wrong = PLAIN._replace(gate=lambda wide: wide.chunk(2, dim=-1)[1])
    monkeypatch.setattr(dnabert, "PLAIN", wrong)
    found, expected = embedder.reference(SEQUENCES[:4])
    assert relative_l2(found, expected) > 1e-3


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="no Triton is installed on other platforms",
)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float16, 5e-3)])
def test_encoder_when_packed_then_as_in_equal_lengths(
    dtype: torch.dtype, limit: float, embedder: DnabertEmbedder, dnabert_folder: Path
) -> None:
    """End to end by the GPU's kernels, which Triton's interpreter runs."""
    checkpoint, cpu = open_dnabert(str(dnabert_folder)), torch.device("cpu")
    fused = DnabertEncoder(
        checkpoint.read_weights(), checkpoint.shape, dtype=dtype, device=cpu, is_fused=True
    )
    tokens = embedder.tokenise(SEQUENCES[:4])
    layout = Packed(np.array([len(ids) for ids in tokens]), cpu, n_marks=0)

    hidden = fused(torch.from_numpy(np.concatenate(tokens)), layout.attend)

    assert hidden.dtype == dtype
    assert relative_l2(layout.pool(hidden), embedder.embed(SEQUENCES[:4])) < limit


def test_equal_lengths_when_no_marks_are_left_out_then_the_mean_over_all() -> None:
    """Special tokens count, unlike in proteins."""
    hidden = torch.arange(12.0).view(6, 2)

    assert EqualLengths(2, n_marks=0).pool(hidden).tolist() == [[2, 3], [8, 9]]
    assert EqualLengths(2).pool(hidden).tolist() == [[2, 3], [8, 9]]
    assert Packed(np.array([4, 2]), torch.device("cpu"), n_marks=0).pool(hidden).tolist() == [
        [3, 4],
        [9, 10],
    ]


def test_embed_when_texts_come_in_parts_then_the_same(
    embedder: DnabertEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are tokenised while others are computed; order and number stay."""
    expected, reported = embedder.embed(SEQUENCES), list[int]()
    monkeypatch.setattr(dnabert, "PART", 3)

    found = embedder.embed(SEQUENCES[::-1], on_progress=reported.append)[::-1]

    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert sum(reported) == len(SEQUENCES)
    assert embedder.embed([]).shape == (0, 48)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_embed_when_in_half_precision_then_nearly_the_same(
    dtype: str, embedder: DnabertEmbedder, dnabert_folder: Path
) -> None:
    """On a CPU, too; the digest tells the dtypes apart."""
    half = DnabertEmbedder(str(dnabert_folder), dtype=dtype)

    assert 0 < relative_l2(half.embed(SEQUENCES[:5]), embedder.embed(SEQUENCES[:5])) < 2e-2
    assert (half.dtype, half.digest != embedder.digest) == (dtype, True)


def test_abilities_then_tokens_unknown_letters_and_operations_are_counted(
    embedder: DnabertEmbedder,
) -> None:
    """A letter that no token has becomes [UNK]; operations follow from the tokens."""
    abilities = Abilities(embedder)
    tokens = embedder.tokenise(["ACGTNNACGT"])[0]

    counts = abilities.count(["ACGTNNACGT"])

    assert counts == Counts(n_tokens=len(tokens), n_replaced=2)
    n = len(tokens)
    expected = 2 * (2 * n * (4 * 48**2 + 3 * 48 * 24) + 4 * n**2 * 48)
    assert abilities.flop([10]) == pytest.approx(expected)
    assert abilities.peak_flops() is None
    assert embedder.facts.n_parameters == sum(
        value.numel()
        for value in open_dnabert(embedder._checkpoint.folder.as_posix()).read_weights().values()
    )


def test_embed_when_a_sequence_is_empty_then_its_position_is_named(
    embedder: DnabertEmbedder,
) -> None:
    """A mean over marks alone stands for nothing."""
    with pytest.raises(DataError, match=r"sequence 1 \(counted from 0\) is empty"):
        embedder.embed(["ACGT", ""])


@pytest.mark.parametrize("is_pickled", [False, True])
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_load_when_saved_in_another_form_then_the_same_vectors(
    *, is_pickled: bool, prefix: str, folder: Path, embedder: DnabertEmbedder
) -> None:
    """With the prefix or without, as safetensors or pickled."""
    path = folder / "model.safetensors"
    weights = {prefix + n.removeprefix("bert."): value for n, value in load_file(path).items()}
    path.unlink()
    if is_pickled:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, path)

    found = DnabertEmbedder(str(folder)).embed(SEQUENCES[:3])

    np.testing.assert_array_equal(found, embedder.embed(SEQUENCES[:3]))


def test_load_when_code_lies_in_the_folder_then_it_leaves_no_trace(folder: Path) -> None:
    """Neither the model's code nor the tokeniser's is imported, whatever the configuration says."""
    code = "from pathlib import Path\nPath(__file__).with_name('TRACE').touch()\n"
    for name in ("bert_layers.py", "configuration_bert.py", "tokeniser.py", "__init__.py"):
        (folder / name).write_text(code)
    auto_map = {"auto_map": {"AutoTokenizer": ["tokeniser.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(auto_map))

    DnabertEmbedder(str(folder)).embed(["ACGT"])

    assert not list(folder.rglob("TRACE"))
    assert not list(folder.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "nomic_bert"}, "model_type 'nomic_bert'"),
        ({"architectures": ["EsmForMaskedLM"], "model_type": "esm"}, "is EsmForMaskedLM"),
        ({"alibi_starting_size": None}, "alibi_starting_size None"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers must be a whole number"),
        ({"num_attention_heads": 5}, "cannot be divided into 5 heads"),
        ({"num_hidden_layers": 3}, r"missing encoder\.layer\.2\.attention\.output\.LayerNorm"),
        ({"num_hidden_layers": 1}, r"unexpected encoder\.layer\.1\.attention"),
        ({"intermediate_size": 25}, r"has shape \(48, 24\), expected \(48, 25\)"),
        ({"vocab_size": 9}, r"tokenizer\.json: has \d+ tokens; config\.json says 9"),
    ],
)
def test_load_when_it_is_another_model_then_what_differs_is_named(
    change: dict[str, Any], named: str, folder: Path
) -> None:
    """Nothing is guessed, and no weight is ever newly initialised."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(CheckpointError, match=named):
        DnabertEmbedder(str(folder))


def test_load_when_the_tokeniser_adds_no_marks_then_it_is_refused(folder: Path) -> None:
    """Its vectors would be other ones."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))

    with pytest.raises(CheckpointError, match=r"expected \[CLS\] and \[SEP\].*got A"):
        DnabertEmbedder(str(folder))


def test_load_when_sequences_would_be_cut_or_filled_then_they_are_not(
    folder: Path, embedder: DnabertEmbedder
) -> None:
    """VirNucPro cuts none, whatever the file says."""
    path = folder / "tokenizer.json"
    cut = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation": cut}))

    tokens = DnabertEmbedder(str(folder)).tokenise([LONG])[0]

    assert len(tokens) == len(embedder.tokenise([LONG])[0])


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_load_when_a_file_is_missing_then_it_is_named(name: str, folder: Path) -> None:
    """With what to do about it."""
    (folder / name).unlink()

    with pytest.raises(MissingInput, match=f"{name}.*Download"):
        DnabertEmbedder(str(folder))


def test_load_when_nothing_is_named_then_all_ways_are() -> None:
    """A config without [nucleotide] gets here."""
    with pytest.raises(MissingInput, match=r'_DNABERT_S\.pt", a model, or kind = "kmer"'):
        DnabertEmbedder(None)


def test_load_when_a_hub_id_is_cached_then_it_needs_no_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: DnabertEmbedder
) -> None:
    """Without a download, the command is named."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingInput, match="hf download zhihan1996/DNABERT-S"):
        DnabertEmbedder("zhihan1996/DNABERT-S")
    cached = tmp_path / "hub" / "models--zhihan1996--DNABERT-S"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, cached / "snapshots" / ("0" * 40))

    loaded = DnabertEmbedder("zhihan1996/DNABERT-S")

    assert loaded.facts.weights_sha256 == embedder.facts.weights_sha256


def test_load_when_biases_are_0_and_norms_1_then_the_weights_are_untrained(
    folder: Path, embedder: DnabertEmbedder
) -> None:
    """One trained bias is enough."""
    path = folder / "model.safetensors"
    weights = {
        name: torch.full_like(value, name.endswith(".weight")) if value.ndim == 1 else value
        for name, value in load_file(path).items()
    }
    save_file(weights, path)

    assert DnabertEmbedder(str(folder)).facts.is_random
    assert not embedder.facts.is_random
    weights["bert.encoder.layer.1.mlp.wo.bias"][3] = 0.5
    save_file(weights, path)
    assert not DnabertEmbedder(str(folder)).facts.is_random
