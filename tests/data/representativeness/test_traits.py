"""Traits of records: lengths, GC, dinucleotides and categories as numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.distributions import dinucleotide_shares, gc_shares, measure_traits
from harness.data.records import RECORD_COLUMNS

DINUCLEOTIDES = [first + second for first in "ACGT" for second in "ACGT"]
SEQUENCES = st.lists(st.text("ACGTN", max_size=12), max_size=8)


@settings(max_examples=40)
@given(SEQUENCES)
def test_gc_shares_then_equal_counting_letters(sequences: list[str]) -> None:
    """GC is G plus C over the length, and unknown for an empty sequence."""
    expected = [(s.count("G") + s.count("C")) / len(s) if s else np.nan for s in sequences]

    np.testing.assert_array_equal(gc_shares(pd.Series(sequences, dtype="str")), expected)


@settings(max_examples=40)
@given(SEQUENCES)
def test_dinucleotide_shares_then_equal_counting_pairs(sequences: list[str]) -> None:
    """Overlapping pairs of known bases, never across two sequences."""
    expected = np.zeros((len(sequences), 16))
    for row, text in zip(expected, sequences, strict=True):
        pairs = [text[i : i + 2] for i in range(len(text) - 1) if "N" not in text[i : i + 2]]
        row[:] = [pairs.count(pair) / max(1, len(pairs)) for pair in DINUCLEOTIDES]

    found = dinucleotide_shares(pd.Series(sequences, dtype="str"))

    np.testing.assert_allclose(found, expected)


def test_gc_shares_of_more_sequences_than_are_looked_at_together_then_are_in_order() -> None:
    """Working in pieces changes nothing."""
    texts = ["A" * (i % 7) + "G" for i in range(25_000)]

    found = gc_shares(pd.Series(texts, dtype="str"))

    np.testing.assert_allclose(found, [1 / (i % 7 + 1) for i in range(25_000)])


def test_measure_traits_then_numbers_follow_the_rows() -> None:
    """Each trait comes from its column, and taking rows keeps what belongs together."""
    records = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "nucleotides": ["ACGTAC", "GGG", ""],
            "protein": ["MK", "G", ""],
            "label": [1, 0, 1],
            "accession": ["x", "y", "z"],
            "window": [0, 1, 2],
            "frame": ["F1", "R2", "F1"],
            "lineage": ["T4", "", ""],
            "source_kind": ["", "", ""],
            "genome": ["x", "y", "z"],
        }
    ).astype(RECORD_COLUMNS)

    traits = measure_traits(records)
    taken = traits.take(np.array([2, 0]))

    assert traits.lineage.names == ("", "T4")
    assert not traits.source_kind.is_known
    assert taken.length_residues.tolist() == [0, 2]
    assert [taken.lineage.names[code] for code in taken.lineage.codes] == ["", "T4"]
    assert taken.frame.names == ("F1",)
    assert taken.gc[1] == pytest.approx(0.5)
    assert taken.composition(np.array([1]))[0, 1] == pytest.approx(2 / 5)
