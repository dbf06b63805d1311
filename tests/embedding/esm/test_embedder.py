"""The embedding as a function of the weights.

Counting operations, against figures worked out by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import EsmModel, EsmTokenizer

from harness.embedding import load_embedder
from harness.embedding.embedder import Counts
from harness.embedding.esm.checkpoint import open_checkpoint
from harness.embedding.esm.embedder import EsmEmbedder, encoder_flop
from harness.embedding.esm.engine import build_encoder
from harness.errors import DataError, DeviceError, MissingInput

PROTEINS = st.lists(
    st.text("ACDEFGHIKLMNPQRSTVWYX", min_size=1, max_size=40), min_size=1, max_size=9
)


@pytest.fixture(scope="module")
def embedder(checkpoint_folder: Path) -> EsmEmbedder:
    """Return the tiny embedder."""
    return EsmEmbedder(str(checkpoint_folder))


@pytest.fixture(scope="module")
def reference(checkpoint_folder: Path) -> EsmModel:
    """Return transformers' model from the same folder."""
    return EsmModel.from_pretrained(checkpoint_folder, add_pooling_layer=False).eval()


@settings(max_examples=25)
@given(proteins=PROTEINS)
def test_embed_when_compared_with_padded_transformers_then_equal(
    proteins: list[str], embedder: EsmEmbedder, reference: EsmModel, checkpoint_folder: Path
) -> None:
    """Batching by length is the same function as padding, masked pooling included."""
    tokenizer = EsmTokenizer(str(checkpoint_folder / "vocab.txt"))
    batch = tokenizer(proteins, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = reference(**batch).last_hidden_state
    for row, protein in enumerate(proteins):
        expected = hidden[row, 1 : len(protein) + 1].mean(dim=0)
        np.testing.assert_allclose(embedder.embed(proteins)[row], expected, rtol=1e-4, atol=1e-5)


@given(proteins=PROTEINS)
@settings(max_examples=25)
def test_embed_when_neighbours_change_then_a_vector_does_not(
    proteins: list[str], embedder: EsmEmbedder
) -> None:
    """A sequence's embedding does not depend on what else is in the call, or on order."""
    together = embedder.embed(proteins)
    alone = np.concatenate([embedder.embed([protein]) for protein in proteins])

    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@given(proteins=PROTEINS)
@settings(max_examples=25)
def test_embed_padded_when_compared_with_embed_then_equal(
    proteins: list[str], embedder: EsmEmbedder
) -> None:
    """The plain way, which is only there to be timed, computes the same."""
    padded = embedder.embed_padded(proteins, batch_size=4)

    np.testing.assert_allclose(padded, embedder.embed(proteins), rtol=1e-4, atol=1e-5)


def test_embed_when_a_budget_is_given_then_the_vectors_are_the_same(embedder: EsmEmbedder) -> None:
    """A call's own limit lowers that of the embedder for once, and never raises it."""
    proteins = ["ACDEF", "MKVLA", "GG"] * 20
    before = embedder.token_budget

    for budget in (1, 10 * before):
        np.testing.assert_allclose(
            embedder.embed(proteins, budget), embedder.embed(proteins), rtol=1e-4, atol=1e-5
        )
    assert embedder.token_budget == before


def test_count_then_tokens_cuts_and_replacements_are_told(embedder: EsmEmbedder) -> None:
    """As the vectors are computed: marks included, cut at 1,022, foreign letters as X."""
    counts = embedder.count(["acj*", "W" * 2000])

    assert counts == Counts(n_tokens=5 + 1024, n_truncated=1, n_replaced=1)


def test_embed_when_progress_is_watched_then_every_sequence_is_counted(
    embedder: EsmEmbedder,
) -> None:
    """The callback gets all sequences, batch by batch."""
    done: list[int] = []

    vectors = embedder.embed(["ACD", "AC", "ACE"], on_progress=done.append)

    assert sum(done) == 3
    assert vectors.shape == (3, embedder.dim)
    assert vectors.dtype == np.float32


def test_embed_when_a_protein_is_empty_then_its_position_is_named(embedder: EsmEmbedder) -> None:
    """Nothing is embedded in place of an empty protein."""
    with pytest.raises(DataError, match="protein 1 "):
        embedder.embed(["ACD", ""])


@pytest.mark.parametrize("index", [[2, 1, 0], [5, 7, 9], list("abc")])
def test_embed_when_proteins_are_a_series_then_rows_follow_its_order(
    index: list[object], embedder: EsmEmbedder
) -> None:
    """By position, whatever the index says: of a sorted, a filtered, a named table."""
    proteins = ["MKTAYIAKQR", "ACDEF", "WWWWYYYYFF"]

    found = embedder.embed(pd.Series(proteins, index=index))

    np.testing.assert_array_equal(found, embedder.embed(proteins))
    np.testing.assert_array_equal(
        embedder.embed_padded(pd.Series(proteins, index=index)), embedder.embed_padded(proteins)
    )


def test_embed_when_text_is_as_in_files_then_it_counts_as_there(embedder: EsmEmbedder) -> None:
    """Lower case, blanks, line ends and the stop at the end are no residues called X."""
    found = embedder.embed(["mkt ayi\r\nAKQR*"])

    np.testing.assert_array_equal(found, embedder.embed(["MKTAYIAKQR"]))


def test_digest_when_dtype_differs_then_it_differs(checkpoint_folder: Path) -> None:
    """A store made in another precision is another artifact."""
    one = load_embedder(str(checkpoint_folder), dtype="float32")
    other = load_embedder(str(checkpoint_folder), dtype="bfloat16")

    assert one.digest != other.digest
    assert one.facts == other.facts


def test_load_when_memory_is_too_small_for_the_weights_then_the_folder_is_named(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to halve."""

    def fail(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("harness.embedding.esm.engine.assemble_engine", fail)

    with pytest.raises(DeviceError, match="not suffice for the weights in") as caught:
        load_embedder(str(checkpoint_folder))

    assert str(checkpoint_folder) in str(caught.value)


def test_build_encoder_then_weights_are_taken_and_not_held_twice(checkpoint_folder: Path) -> None:
    """A model of which two copies do not fit can be loaded; only what is joined is copied."""
    checkpoint = open_checkpoint(checkpoint_folder)
    weights = checkpoint.read_weights(dtype=torch.float32, device=torch.device("cpu"))
    widening = weights["encoder.layer.0.intermediate.dense.weight"]

    encoder = build_encoder(weights, checkpoint.shape)

    assert weights == {}
    assert encoder._layers[0].widen.weight is widening


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_load_when_the_device_is_missing_then_it_does_not_fall_back(
    checkpoint_folder: Path,
) -> None:
    """The requested device runs, or it raises with a remedy."""
    with pytest.raises(MissingInput, match='set device = "cpu"'):
        load_embedder(str(checkpoint_folder), device="cuda")


ONE_LAYER = {"num_hidden_layers": 1, "hidden_size": 2, "intermediate_size": 3}


def test_flop_when_counted_by_hand_then_the_same() -> None:
    """Three tokens: 2 x 3 x (4 x 4 + 2 x 6) for the layers, 4 x 9 x 2 for attention."""
    assert encoder_flop(ONE_LAYER, [1]) == 2 * 3 * (4 * 4 + 2 * 6) + 4 * 9 * 2


def test_flop_when_there_are_layers_and_sequences_then_they_add_up() -> None:
    """Each layer costs the same, and each sequence what it costs alone."""
    two = ONE_LAYER | {"num_hidden_layers": 2}

    assert encoder_flop(two, [1, 5]) == pytest.approx(
        2 * (encoder_flop(ONE_LAYER, [1]) + encoder_flop(ONE_LAYER, [5]))
    )


def test_flop_when_a_protein_is_truncated_then_what_is_left_counts() -> None:
    """No more than 1022 residues are embedded."""
    assert encoder_flop(ONE_LAYER, [5_000]) == encoder_flop(ONE_LAYER, [1_022])
