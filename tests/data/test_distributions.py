"""The statistics that compare train with test, against SciPy, enumeration and their own limits.

Traits of records: lengths, GC, dinucleotides and categories as numbers.
"""

from __future__ import annotations

from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.data.distributions import (
    cohen_w,
    dinucleotide_shares,
    effective_units,
    gc_shares,
    ks_distance,
    ks_p,
    measure_traits,
    share_p,
    smallest_cohen_w,
    smallest_ks_distance,
    smallest_share_ratio,
)
from harness.data.records import RECORD_COLUMNS

COUNTS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=8)


@settings(max_examples=50)
@given(COUNTS)
def test_ks_distance_of_counts_then_equals_scipys_of_the_rows(
    counts: list[tuple[int, int]],
) -> None:
    """D from counted values is D from the values themselves."""
    test, train = np.array(counts).T
    assume(test.sum() > 1)  # of a single row SciPy divides by zero
    assume(train.sum() > 1)
    values = np.arange(len(counts))

    expected = stats.ks_2samp(np.repeat(values, test), np.repeat(values, train), method="asymp")

    assert ks_distance(test, test + train) == pytest.approx(expected.statistic)


def test_ks_p_of_two_samples_then_equals_scipys() -> None:
    """The p is that of SciPy's two-sample test."""
    rng = np.random.default_rng(1)
    expected = stats.ks_2samp(rng.normal(0.2, 1, 300), rng.normal(0, 1, 2700), method="asymp")

    assert ks_p(expected.statistic, 300, 2700) == pytest.approx(expected.pvalue)


def test_cohen_w_when_a_share_goes_from_half_to_sixty_percent_then_is_two_tenths() -> None:
    """With many rows the correction vanishes, and w is the textbook's effect size."""
    test, train = np.array([6_000_000, 4_000_000]), np.array([45_000_000, 45_000_000])
    pooled = (test + train) / (test + train).sum()

    w = cohen_w(test, test + train)

    assert w == pytest.approx(np.sqrt(np.sum(0.1**2 / pooled)), rel=1e-5)


def test_cohen_w_of_forty_small_lineages_drawn_honestly_then_has_no_bias() -> None:
    """What many small lineages add up to by chance is taken off: without that, w is .43 here."""
    rng = np.random.default_rng(1)
    total = np.full(40, 60)
    draws = rng.multivariate_hypergeometric(total, 240, size=200, method="marginals")

    w = np.array([cohen_w(test, total) for test in draws])

    assert np.median(w) < 0.05
    assert np.sqrt(np.mean(w**2)) < 0.15


@given(COUNTS)
def test_cohen_w_of_the_same_shares_then_is_zero(counts: list[tuple[int, int]]) -> None:
    """A test set in exact proportion has no effect, whatever the categories."""
    test = np.array(counts).sum(axis=1)
    assume(test.sum() > 1)  # of a single row SciPy divides by zero

    assert cohen_w(test, 10 * test) == 0


def test_cohen_w_of_one_row_a_lineage_then_is_zero_and_not_infinite() -> None:
    """As many lineages as rows say nothing."""
    assert cohen_w(np.array([1, 0, 0]), np.array([1, 1, 1])) == 0


def test_share_p_of_a_small_table_then_is_twice_the_enumerated_tail() -> None:
    """4 of 10 units drawn, 3 of them from a lineage of 3: P = C(7,1) / C(10,4), doubled."""
    p = share_p(np.array([3, 1]), np.array([3, 7]))

    assert p == pytest.approx([2 * comb(7, 1) / comb(10, 4)] * 2)


def test_share_p_when_none_is_drawn_where_one_is_expected_then_is_at_most_one() -> None:
    """Doubling a tail never makes more than certainty."""
    assert share_p(np.array([1, 9]), np.array([10, 90])) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("alpha", [0.05, 0.0004])
def test_smallest_ks_distance_then_has_the_level_as_its_p(alpha: float) -> None:
    """The smallest D that is caught is the one whose p is the level."""
    assert ks_p(smallest_ks_distance(alpha, 500, 4500), 500, 4500) == pytest.approx(alpha, rel=1e-4)


def test_smallest_cohen_w_of_honest_tables_then_is_exceeded_as_often_as_the_level_says() -> None:
    """5% of honest draws lie above the smallest w for 5%."""
    rng = np.random.default_rng(2)
    total = np.array([4000, 3000, 2000, 1000])
    draws = rng.multivariate_hypergeometric(total, 1000, size=2000)

    smallest = smallest_cohen_w(0.05, draws[0], total, n_effective=10_000)
    exceeding = sum(cohen_w(test, total) > smallest for test in draws)

    assert 0.03 < exceeding / len(draws) < 0.07


def test_smallest_cohen_w_when_rows_come_in_tens_then_is_larger() -> None:
    """A tenth of the independent units catches only about three times the effect."""
    test, total = np.array([100, 900]), np.array([1000, 9000])
    alone = smallest_cohen_w(0.001, test, total, n_effective=10_000)

    assert smallest_cohen_w(0.001, test, total, n_effective=1_000) == pytest.approx(
        alone * np.sqrt(10), rel=0.05
    )


@settings(max_examples=40)
@given(n_lineage=st.integers(5, 300), alpha=st.floats(1e-5, 0.05))
def test_smallest_share_ratio_then_is_caught_and_the_next_smaller_is_not(
    n_lineage: int, alpha: float
) -> None:
    """One unit fewer is either within the limit of 1.5 or explained by chance."""
    total = np.array([n_lineage, 3000 - n_lineage])
    ratio = smallest_share_ratio(alpha, np.array([0, 300]), total, above=1.5)[0]
    assume(np.isfinite(ratio))
    needed = round(300 * ratio * n_lineage / (300 * ratio + 2700))

    caught = [
        _ratio(n, n_lineage) > 1.5 and share_p(np.array([n, 300 - n]), total)[0] <= alpha
        for n in (needed - 1, needed)
    ]

    assert ratio == pytest.approx(_ratio(needed, n_lineage))
    assert caught == [False, True]


def test_smallest_share_ratio_of_a_lineage_of_one_row_then_is_not_a_number() -> None:
    """Where even the whole lineage in the test set is chance, nothing could be caught."""
    ratio = smallest_share_ratio(0.001, np.array([0, 300]), np.array([1, 2999]), above=1.5)

    assert np.isnan(ratio[0])


def _ratio(n_test: int, n_lineage: int) -> float:
    return (n_test / 300) / ((n_lineage - n_test) / 2700)


def test_effective_units_when_one_genome_holds_most_rows_then_is_about_one() -> None:
    """Equal units count in full; a giant one counts as itself alone."""
    assert effective_units(np.full(20, 7)) == pytest.approx(20)
    assert effective_units(np.array([1000, 1, 1, 1])) == pytest.approx(1, abs=0.01)


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
