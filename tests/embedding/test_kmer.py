"""k-mer profiles."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.embedding.kmer import KmerProfile
from harness.errors import DataError

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
