"""Error rates and power of the whole battery, by simulation: slow, run by make check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from harness.data.distributions import Categories, Outcome, Traits
from harness.data.redraws import LINEAGE_SHARE
from harness.data.representativeness import compare_traits
from harness.data.split import Sampler

pytestmark = pytest.mark.slow

# The fewest with which a check can still fail; more would sharpen p, not change its level.
N_REDRAWS = 2_999
N_LINEAGES = 20
GC_SD = 0.08
FAILED = {Outcome.FAIL}
NOTICED = {Outcome.FAIL, Outcome.WARN}

IntArray = npt.NDArray[np.int64]


def _population(rng: np.random.Generator, n_class: int, n_genomes: int) -> tuple[Traits, IntArray]:
    """Rows of VirNucPro's shape, class after class, and the genome of each.

    Genomes have log-normal sizes, one lineage and their own GC; lengths are 165 or 166.
    """
    label = np.repeat([1, 0], n_class).astype(np.int8)
    weights = rng.lognormal(size=(2, n_genomes))
    genome = np.concatenate(
        [
            i * n_genomes + rng.choice(n_genomes, n_class, p=w / w.sum())
            for i, w in enumerate(weights)
        ]
    )
    lineage = rng.geometric(0.15, 2 * n_genomes).clip(max=N_LINEAGES) - 1
    gc = rng.normal(0.45, GC_SD, 2 * n_genomes)[genome] + rng.normal(0, 0.04, 2 * n_class)
    composition = np.outer(gc, rng.normal(size=16)) + rng.normal(0, 0.02, (2 * n_class, 16))
    traits = Traits(
        label=label,
        lineage=_categories(lineage[genome], N_LINEAGES),
        source_kind=_categories(lineage[genome] % 3, 3),
        frame=_categories(rng.integers(0, 6, 2 * n_class), 6),
        length_residues=rng.choice([165, 166], 2 * n_class, p=[0.3, 0.7]),
        gc=gc,
        composition=lambda rows: composition[rows],
    )
    return traits, genome


def _categories(codes: IntArray, n_categories: int) -> Categories:
    return Categories(codes=codes, names=tuple(f"{i:02}" for i in range(n_categories)))


def _units(unit: str, genome: IntArray) -> IntArray:
    """Return what is drawn as a whole; three rows make a window."""
    rows = np.arange(len(genome))
    if unit == "record":
        return rows
    row_in_genome = pd.Series(rows).groupby(genome).cumcount().to_numpy()
    codes = genome if unit == "genome" else genome * len(genome) + row_in_genome // 3
    units: IntArray = np.unique(codes, return_inverse=True)[1]
    return units


def _sampler(traits: Traits, units: IntArray) -> Sampler:
    return Sampler(pd.DataFrame({"label": traits.label}), "0.10", units=units)


@pytest.mark.parametrize("unit", ["record", "window", "genome"])
def test_battery_on_honest_splits_then_fails_at_most_one_in_two_hundred(unit: str) -> None:
    """As many splits fail as 1 in 200 allows, with 99.9% tolerance for the number simulated."""
    rng = np.random.default_rng(17)
    n_splits = 60
    traits, genome = _population(rng, n_class=1000, n_genomes=400)
    units = _units(unit, genome)
    sampler = _sampler(traits, units)

    batteries = [
        compare_traits(
            traits,
            sampler.draw(rng),
            units,
            sampling_unit=unit,
            seed=seed,
            n_redraws=N_REDRAWS,
        ).checks
        for seed in range(n_splits)
    ]
    n_failed = sum(any(c.state is Outcome.FAIL for c in checks) for checks in batteries)
    # 100 test rows a class are too few to miss a lineage, and say so; all else can be judged
    judged = [[c for c in checks if c.what != LINEAGE_SHARE] for checks in batteries]
    n_undecided = sum(any(c.state is Outcome.INCONCLUSIVE for c in checks) for checks in judged)

    assert n_failed <= stats.binom.isf(0.001, n_splits, 0.005)
    assert n_undecided < n_splits / 4


@pytest.mark.parametrize(
    ("what", "shift_sd", "expected"),
    [("GC", 0.2, FAILED), ("length", 0.2, FAILED), ("GC", 0.1, NOTICED), ("length", 0.1, NOTICED)],
)
def test_battery_with_2500_test_rows_a_class_then_notices_a_shift(
    what: str, shift_sd: float, expected: set[Outcome]
) -> None:
    """A shift by 0.2 SD always fails; one by 0.1 SD is noticed, in nearly every class."""
    rng = np.random.default_rng(23)
    honest, _ = _population(rng, n_class=25_000, n_genomes=1000)
    n_rows = len(honest.label)
    honest = replace(
        honest,
        gc=rng.normal(0.45, GC_SD, n_rows),
        length_residues=rng.normal(160, 30, n_rows).astype(np.int64),
    )
    units = np.arange(n_rows)
    sampler = _sampler(honest, units)
    states = []
    for seed in range(3):
        is_test = sampler.draw(rng)
        shifted = replace(
            honest,
            gc=honest.gc + (what == "GC") * shift_sd * GC_SD * is_test,
            length_residues=honest.length_residues
            + (what == "length") * round(shift_sd * 30) * is_test,
        )
        found = compare_traits(shifted, is_test, units, seed=seed, n_redraws=N_REDRAWS)
        states += [c.state for c in found.checks if c.what == what and c.label != "both"]

    assert sum(state in expected for state in states) >= 5
    assert len(states) == 6


def test_battery_with_2500_test_rows_a_class_when_a_lineage_is_doubled_then_fails_by_name() -> None:
    """A lineage of 5% that makes up 10% of the test set is caught."""
    rng = np.random.default_rng(29)
    traits, _ = _population(rng, n_class=25_000, n_genomes=1000)
    is_named = rng.random(len(traits.label)) < 0.05
    codes = np.where(is_named, 0, 1 + np.arange(len(traits.label)) % (N_LINEAGES - 1))
    traits = replace(traits, lineage=_categories(codes, N_LINEAGES))
    is_test = np.zeros(len(traits.label), dtype=bool)
    for label in (0, 1):
        for selected, n_test in ((is_named, 250), (~is_named, 2250)):
            rows = np.flatnonzero(selected & (traits.label == label))
            is_test[rng.choice(rows, n_test, replace=False)] = True

    found = compare_traits(traits, is_test, np.arange(len(codes)), n_redraws=N_REDRAWS)

    failed = [(row.label, row.lineage) for row in found.lineages if row.state is Outcome.FAIL]
    assert failed == [(1, "00"), (0, "00")]
