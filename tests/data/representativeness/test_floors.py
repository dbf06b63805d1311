"""Differences that are certain but too small to matter: with many rows, a p alone fails nothing."""

import numpy as np
import pytest

from harness.data.distributions import Categories, Check, Outcome, Representativeness, Traits
from harness.data.representativeness import compare_traits

N_ROWS = 60_000
IS_TEST = np.arange(N_ROWS) < N_ROWS // 10


@pytest.fixture(scope="module")
def found() -> Representativeness:
    """Compare one class with a small shift of GC, and a lineage at 1.3 times its share."""
    rng = np.random.default_rng(1)
    lineage = (rng.random(N_ROWS) < np.where(IS_TEST, 0.26, 0.20)).astype(np.int64)
    gc = rng.normal(0.45, 0.08, N_ROWS) + 0.01 * IS_TEST
    constant = Categories(codes=np.zeros(N_ROWS, dtype=np.int64), names=("one",))
    traits = Traits(
        label=np.ones(N_ROWS, dtype=np.int8),
        lineage=Categories(codes=lineage, names=("other", "T4")),
        source_kind=constant,
        frame=constant,
        length_residues=np.full(N_ROWS, 166),
        gc=gc,
        composition=lambda rows: gc[rows, None],
    )
    return compare_traits(traits, IS_TEST, np.arange(N_ROWS), n_redraws=2_999)


def _check(found: Representativeness, what: str) -> Check:
    return next(check for check in found.checks if (check.what, check.label) == (what, 1))


@pytest.mark.parametrize("what", ["GC", "lineage", "classifier"])
def test_compare_when_a_certain_effect_is_under_the_floor_then_warns(
    found: Representativeness, what: str
) -> None:
    """Over the lower floor and beyond chance is worth a note, and no more."""
    check = _check(found, what)
    value, p, alpha = check.value or 0, check.p or 1, check.alpha or 0

    assert (check.warn_floor or 0) < value < (check.fail_floor or 0)
    assert p <= alpha
    assert check.state is Outcome.WARN


def test_compare_when_a_lineage_is_certain_to_be_at_less_than_half_again_then_passes(
    found: Representativeness,
) -> None:
    """A share 1.3 times as large is beyond chance, and within the limit."""
    row = next(row for row in found.lineages if row.lineage == "T4")

    assert 1.2 < row.ratio < 1.5
    assert row.p < row.alpha
    assert row.state is Outcome.PASS


@pytest.mark.parametrize(("what", "floor"), [("GC", 0.06), ("lineage", 0.2), ("classifier", 0.1)])
def test_compare_with_many_rows_then_the_floor_is_the_smallest_effect_caught(
    found: Representativeness, what: str, floor: float
) -> None:
    """More rows sharpen p, and the floor stays where it is."""
    assert _check(found, what).smallest_caught == floor
