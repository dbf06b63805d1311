"""The gate: the criteria, each computed, recorded and asserted.

Each test is one requirement; how it is computed stands in ``harness``, what it needs in
``conftest.py``. They run in this order, the cheapest first, so that a broken set-up shows early.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.criteria import CriterionResult, State
from harness.pipeline import Judge, Stopwatch

Record = Callable[[CriterionResult], None]


@pytest.mark.criterion("split-integrity")
def test_the_test_set_shares_nothing_with_training(judge: Judge, record: Record) -> None:
    """No id, nucleotide sequence (either strand) or protein of the test set is in training."""
    result = judge("split-integrity")
    record(result)
    assert result.state is State.PASS, result.detail


@pytest.mark.criterion("representative-split")
def test_the_test_set_is_representative_of_the_data(judge: Judge, record: Record) -> None:
    """Lineages, lengths, GC, frames and sources are as an honest draw would leave them."""
    result = judge("representative-split")
    record(result)
    assert result.state is State.PASS, result.detail


@pytest.mark.criterion("embedding-integrity")
def test_the_embeddings_are_whole(judge: Judge, record: Record) -> None:
    """One finite row per record, of the right width, and what the embedder computes."""
    result = judge("embedding-integrity")
    record(result)
    assert result.state is State.PASS, result.detail


@pytest.mark.criterion("baseline-sanity")
def test_the_baseline_is_better_than_a_constant_answer(judge: Judge, record: Record) -> None:
    """The baseline beats the larger class's share by more than the allowed drop."""
    result = judge("baseline-sanity")
    record(result)
    assert result.state is State.PASS, result.detail


@pytest.mark.criterion("accuracy-drop")
def test_the_candidate_loses_less_accuracy_than_the_limit(judge: Judge, record: Record) -> None:
    """The drop is strictly below the limit on the same test rows."""
    result = judge("accuracy-drop")
    record(result)
    assert result.state is State.PASS, result.detail


@pytest.mark.criterion("assay-sensitivity")
def test_the_test_set_could_show_the_loss_of_the_protein_embedder(
    judge: Judge, record: Record
) -> None:
    """The baseline is right on more rows than nucleotides alone, by more than the limit."""
    result = judge("assay-sensitivity")
    record(result)
    assert result.state is State.PASS, result.detail


@pytest.mark.parametrize("turn", range(7))
def test_time_both_sides_in_turns(
    turn: int, benchmark: BenchmarkFixture, stopwatch: Stopwatch
) -> None:
    """Baseline and candidate three times, and the baseline once more; a second each at least."""
    side = benchmark.group = stopwatch.turns[turn]
    benchmark.pedantic(stopwatch.work(side), rounds=1, iterations=1, warmup_rounds=0)
    stopwatch.keep(side, *benchmark.stats.stats.data)


@pytest.mark.criterion("embedding-time")
@pytest.mark.usefixtures("stopwatch")
def test_the_candidate_embeds_within_the_time_limit(judge: Judge, record: Record) -> None:
    """In every pair of runs its share of the baseline's time is at most the limit."""
    result = judge("embedding-time")
    record(result)
    assert result.state is State.PASS, result.detail
