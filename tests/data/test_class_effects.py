"""The held-out two-sample classifier: finds what is there, and invents nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from harness.data.class_effects import Judgement, judge_by_classifier
from harness.data.distributions import Categories, Traits

N_ROWS = 2000


def _traits(composition: npt.NDArray[np.float64]) -> Traits:
    """Rows that differ in their composition alone."""
    n_rows = len(composition)
    constant = Categories(codes=np.zeros(n_rows, dtype=np.int64), names=("one",))
    return Traits(
        label=np.ones(n_rows, dtype=np.int8),
        lineage=constant,
        source_kind=constant,
        frame=constant,
        length_residues=np.full(n_rows, 166),
        gc=np.full(n_rows, 0.5),
        composition=lambda rows: composition[rows],
    )


def _judge(
    composition: npt.NDArray[np.float64],
    is_test: npt.NDArray[np.bool_],
    units: npt.NDArray[np.int64],
) -> Judgement:
    rng = np.random.default_rng(2)
    judgement = judge_by_classifier(_traits(composition), is_test, units, rng)
    assert judgement is not None
    return judgement


def test_classifier_when_only_a_sum_of_features_differs_then_finds_it() -> None:
    """Two features whose own distributions hardly move give the rows away together."""
    rng = np.random.default_rng(1)
    is_test = np.arange(N_ROWS) % 10 == 0
    common = rng.normal(size=N_ROWS)
    composition = np.stack([common, -common + 0.5 * is_test + rng.normal(0, 0.2, N_ROWS)], axis=1)

    judgement = _judge(composition, is_test, np.arange(N_ROWS))

    assert judgement.effect > 0.8
    assert judgement.p_value(2999, rng) == 1 / 3000


@pytest.mark.parametrize("trait", ["length", "GC", "composition", "frame", "source kind"])
def test_classifier_when_one_trait_differs_then_finds_it(trait: str) -> None:
    """Every trait is a feature, whatever its scale."""
    rng = np.random.default_rng(9)
    is_test = np.arange(N_ROWS) % 4 == 0
    more = rng.random(N_ROWS) < np.where(is_test, 0.9, 0.1)
    small = np.stack([0.001 * more, rng.normal(size=N_ROWS)], axis=1)
    coded = Categories(codes=more.astype(np.int64), names=("a", "b"))
    changes = {
        "length": {"length_residues": 165 + more},
        "GC": {"gc": 0.5 + 0.001 * more},
        "composition": {"composition": lambda rows: small[rows]},
        "frame": {"frame": coded},
        "source kind": {"source_kind": coded},
    }
    traits = replace(_traits(np.zeros((N_ROWS, 1))), **changes[trait])  # type: ignore[arg-type]

    judgement = judge_by_classifier(traits, is_test, np.arange(N_ROWS), rng)

    assert judgement is not None
    assert judgement.effect == pytest.approx(0.8, abs=0.1)


def test_classifier_when_genomes_are_recognisable_then_invents_no_difference() -> None:
    """Rows of one genome in both halves would let it learn genomes by heart."""
    genome = np.arange(N_ROWS) // 20
    fingerprint = np.random.default_rng(3).normal(size=(100, 60))[genome]
    is_test = np.isin(genome, np.random.default_rng(8).permutation(100)[:10])

    by_genome = _judge(fingerprint, is_test, genome)
    by_row = _judge(fingerprint, is_test, np.arange(N_ROWS))

    assert by_row.effect > 0.9
    assert abs(by_genome.effect) < 0.6
    assert by_genome.p_value(2999, np.random.default_rng(5)) > 0.05


def test_judgement_effect_of_tied_scores_then_is_twice_the_auc_less_one() -> None:
    """Rank sums by unit give the area under the curve of the rows."""
    rng = np.random.default_rng(6)
    units = np.sort(rng.integers(0, 60, 300))
    is_test = rng.random(60) < 0.3
    y_score = 1.0 * rng.integers(0, 9, 300) + is_test[units]

    judgement = _ranked(is_test, units, y_score)

    assert judgement.effect == pytest.approx(2 * roc_auc_score(is_test[units], y_score) - 1)


def test_judgement_smallest_effect_then_is_exceeded_as_often_as_the_level_says() -> None:
    """5% of honest draws of units lie above the smallest effect for 5%."""
    rng = np.random.default_rng(7)
    units = np.arange(400)

    def is_exceeded() -> bool:
        judgement = _ranked(rng.permutation(units) < 60, units, rng.normal(size=400))
        return judgement.effect > judgement.smallest_effect(0.05)

    assert 0.02 < np.mean([is_exceeded() for _ in range(500)]) < 0.08


def test_classifier_when_a_side_is_one_unit_then_judges_nothing() -> None:
    """One genome cannot both teach and judge."""
    units = np.repeat([0, 1, 2], 10)

    assert (
        judge_by_classifier(_traits(np.zeros((30, 1))), units == 0, units, np.random.default_rng(0))
        is None
    )


def test_classifier_when_genomes_are_large_then_uses_fifty_rows_of_each() -> None:
    """Equally many on both sides, so that units stay exchangeable."""
    units = np.repeat(np.arange(8), [200, 120, 10, 60, 200, 200, 30, 55])

    judgement = _judge(np.random.default_rng(1).normal(size=(875, 1)), units < 4, units)

    assert set(judgement.n_rows) <= {50, 10, 30}
    assert len(judgement.n_rows) == 4


def test_classifier_of_many_rows_then_judges_half_of_twenty_thousand_a_side() -> None:
    """The cost has a bound, however many records there are."""
    units = np.arange(30_000)

    judgement = _judge(np.zeros((30_000, 1)), units < 3000, units)

    assert (judgement.is_test.sum(), (~judgement.is_test).sum()) == (1500, 10_000)


def _ranked(
    is_test: npt.NDArray[np.bool_],
    units: npt.NDArray[np.int64],
    y_score: npt.NDArray[np.floating],
) -> Judgement:
    return Judgement(
        is_test=is_test,
        n_rows=np.bincount(units, minlength=len(is_test)),
        rank_sum=np.bincount(units, weights=stats.rankdata(y_score), minlength=len(is_test)).astype(
            np.float64
        ),
    )
