"""Tokenisation against transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import EsmTokenizer
from transformers.models.esm.configuration_esm import get_default_vocab_list

from harness.embedding.embedder import MAX_RESIDUES
from harness.embedding.esm.alphabet import TOKENS, as_proteins, tokenise
from harness.errors import DataError

PROTEINS = st.text("ACDEFGHIKLMNPQRSTVWYXBUZO", min_size=1, max_size=60)


@pytest.fixture(scope="module")
def reference(checkpoint_folder: Path) -> EsmTokenizer:
    """Return transformers' tokeniser for the same vocabulary."""
    return EsmTokenizer(str(checkpoint_folder / "vocab.txt"))


def test_tokens_then_they_are_transformers_default_vocabulary() -> None:
    """Written down by somebody else: the tests' own vocab.txt is made from our table."""
    assert get_default_vocab_list() == TOKENS


@given(protein=PROTEINS)
def test_tokenise_when_compared_with_transformers_then_the_same(
    protein: str, reference: EsmTokenizer
) -> None:
    """The table gives the ids that EsmTokenizer gives."""
    assert tokenise([protein]).tokens.tolist() == reference(protein)["input_ids"]


@given(proteins=st.lists(PROTEINS, max_size=8))
def test_tokenise_when_there_are_several_then_they_lie_end_to_end(proteins: list[str]) -> None:
    """Each protein has the tokens that it has alone."""
    alone = [tokenise([protein]).tokens for protein in proteins]

    together = tokenise(proteins)

    assert together.lengths.tolist() == [len(tokens) for tokens in alone]
    assert together.tokens.tolist() == [token for tokens in alone for token in tokens]


def test_tokenise_when_residues_are_unknown_then_they_become_x_and_are_counted() -> None:
    """Stops, digits and lower case are no residues."""
    result = tokenise(["AC*d1", "ACD"])

    first = result.tokens[: result.lengths[0]]
    assert [TOKENS[i] for i in first] == ["<cls>", "A", "C", "X", "X", "X", "<eos>"]
    assert result.n_replaced == 3


def test_tokenise_when_longer_than_the_model_saw_then_truncated_and_counted() -> None:
    """1022 residues and two marks are the most."""
    result = tokenise(["A" * MAX_RESIDUES, "A" * (MAX_RESIDUES + 1)])

    assert result.lengths.tolist() == [1024, 1024]
    assert result.n_truncated == 1


@pytest.mark.parametrize(
    ("protein", "message"), [("", "protein 1 .* is empty"), ("é", "not ASCII")]
)
def test_tokenise_when_a_protein_is_unusable_then_its_position_is_named(
    protein: str, message: str
) -> None:
    """An empty or non-ASCII protein is an error."""
    with pytest.raises(DataError, match=message):
        tokenise(["ACD", protein])


@pytest.mark.parametrize(
    ("protein", "message"),
    [
        ("MK*LV", r"protein 1 .* holds '\*', which is no residue"),
        ("MK-LV", "holds '-'"),
        ("MK1", "holds '1'"),
        ("stra\u00dfe", "protein 1 .* is not ASCII"),
        (None, "protein 1 .* is no text but None"),
    ],
)
def test_as_proteins_when_the_readers_would_reject_one_then_it_is_refused(
    protein: str, message: str
) -> None:
    """No letter becomes X in silence: a stop inside, a gap, what is missing."""
    with pytest.raises(DataError, match=message):
        as_proteins(["MKL", protein])


def test_as_proteins_when_it_is_one_text_then_refused() -> None:
    """Or each of its residues would be a protein."""
    with pytest.raises(TypeError, match="got one text: 'MKL'"):
        as_proteins("MKL")
