"""Train against test: honest splits pass, skewed ones fail, small ones say what they lack.

Differences that are certain but too small to matter: with many rows, a p alone fails nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from harness.data.distributions import Categories, Check, Outcome, Representativeness, Traits
from harness.data.records import RECORD_COLUMNS
from harness.data.representativeness import compare_distributions, compare_traits
from harness.data.split import Sampler
from harness.errors import DataError

Mask = npt.NDArray[np.bool_]

TRAITS = [
    "class count",
    "lineage",
    "lineage share",
    "source kind",
    "frame",
    "length",
    "GC",
    "classifier",
]


def _records(
    n_class: int = 1500, *, n_genomes: int = 750, n_nonviral: int | None = None
) -> pd.DataFrame:
    """Two classes of random windows; genomes differ in GC, lineages are a genome's number mod 5."""
    rng = np.random.default_rng(11)
    labels = np.repeat([1, 0], [n_class, n_class if n_nonviral is None else n_nonviral])
    rows = np.arange(len(labels))
    genome = np.where(labels, rows % n_genomes, n_genomes + rows % n_genomes)
    gc = rng.uniform(0.3, 0.6, 2 * n_genomes)[genome]
    at = (1 - gc) / 2
    cumulative = np.stack([at, at + gc / 2, at + gc], axis=1)
    bases = (rng.random((len(rows), 90, 1)) > cumulative[:, None]).sum(axis=2)
    nucleotides = [bytes(b"ACGT"[i] for i in row).decode() for row in bases]
    accession = [f"NC_{g}.1" for g in genome]
    columns = {
        "id": [f"{a}_chunk_{i}F1" for i, a in enumerate(accession)],
        "nucleotides": nucleotides,
        "protein": [
            f"M{i:07}".translate(str.maketrans("0123456789", "ACDEFGHIKL")) * (4 + i % 2)
            for i in rows
        ],
        "label": labels,
        "accession": accession,
        "window": rows,
        "frame": rng.choice(["F1", "F2", "F3", "R1", "R2", "R3"], len(rows)),
        "lineage": [f"lineage {g % 5}" for g in genome],
        "source_kind": np.where(labels, "phage", "bacterium"),
        "genome": accession,
    }
    return pd.DataFrame(columns).astype(RECORD_COLUMNS)


def _draw(records: pd.DataFrame, unit: str = "record", fraction: str = "0.10") -> Mask:
    return Sampler(records, fraction, unit).draw(np.random.default_rng(3))


def _lowest(records: pd.DataFrame, key: npt.NDArray[np.float64]) -> Mask:
    """Put the tenth of each class with the lowest key into the test set."""
    share = pd.Series(key).groupby(records["label"].to_numpy()).rank(method="first", pct=True)
    return (share <= 0.1).to_numpy()


def _check(found: Representativeness, what: str, label: object = 1) -> Check:
    return next(c for c in found.checks if (c.what, c.label) == (what, label))


def _states(found: Representativeness) -> dict[str, Outcome]:
    return {check.what: check.state for check in found.checks if check.label == 1}


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    """Return 1,500 records a class, of 750 genomes and 5 lineages each."""
    return _records()


@pytest.mark.parametrize("unit", ["record", "window", "genome"])
def test_compare_when_the_sampler_drew_then_every_check_passes(
    records: pd.DataFrame, unit: str
) -> None:
    """An honest split is representative, whatever was drawn as a whole."""
    found = compare_distributions(records, _draw(records, unit), sampling_unit=unit)
    gated = [check for check in found.checks if check.label != "both"]

    assert [check.what for check in gated] == TRAITS * 2
    assert {check.state for check in gated} <= {Outcome.PASS, Outcome.WARN}
    assert found.n_checks == 14


def test_compare_then_both_classes_together_are_only_reported(records: pd.DataFrame) -> None:
    """The classes are judged apart; the sum of both has values and no verdict."""
    found = compare_distributions(records, _lowest(records, np.arange(3000.0)))
    both = [check for check in found.checks if check.label == "both"]

    assert {check.state for check in both} == {Outcome.REPORTED}
    assert all(check.value is not None and check.p is None for check in both)


def test_compare_when_run_twice_then_finds_the_same(records: pd.DataFrame) -> None:
    """The seed decides all that is random; a Series counts by position, whatever its index."""
    is_test = _draw(records, "genome")
    series: Any = pd.Series(is_test, index=records.index[::-1])

    found = [
        compare_distributions(records, mask, sampling_unit="genome", n_redraws=2_999)
        for mask in (is_test, series)
    ]

    assert found[0] == found[1]


def test_compare_when_test_rows_are_poor_in_gc_then_gc_fails(records: pd.DataFrame) -> None:
    """A shifted distribution is caught, and so is it by the classifier."""
    gc = records["nucleotides"].str.count("[GC]").to_numpy(dtype=np.float64)
    noise = np.random.default_rng(5).normal(0, 10, len(gc))

    found = compare_distributions(records, _lowest(records, gc + noise), n_redraws=2_999)

    assert _states(found)["GC"] is Outcome.FAIL
    assert _states(found)["classifier"] is Outcome.FAIL
    assert _states(found)["length"] is not Outcome.FAIL
    assert (_check(found, "GC").p or 0) <= (_check(found, "GC").alpha or 0)


def test_compare_when_a_lineage_is_left_out_then_its_share_fails_by_name(
    records: pd.DataFrame,
) -> None:
    """A lineage of a fifth without a test row is far below its share."""
    is_left_out = records["lineage"].eq("lineage 2").to_numpy()
    key = np.random.default_rng(6).random(len(records)) + is_left_out

    found = compare_distributions(records, _lowest(records, key), n_redraws=2_999)
    worst = found.lineages[0]

    assert _states(found)["lineage share"] is Outcome.FAIL
    assert (worst.lineage, worst.n_test, worst.ratio, worst.state) == (
        "lineage 2", 0, 0.0, Outcome.FAIL,
    )  # fmt: skip
    assert worst.expected_test == pytest.approx(30)
    assert worst.alpha == pytest.approx(0.005 / 14 / 5)
    assert [row.state for row in found.lineages if row.lineage != "lineage 2"] == [Outcome.PASS] * 8


def test_compare_when_whole_files_were_taken_then_genomes_fail_too(records: pd.DataFrame) -> None:
    """The first tenth of the genomes, by GC, is no honest draw of genomes."""
    gc = records["nucleotides"].str.count("[GC]").groupby(records["genome"]).transform("mean")

    found = compare_distributions(
        records,
        _lowest(records, gc.to_numpy(dtype=np.float64)),
        sampling_unit="genome",
        n_redraws=2_999,
    )

    assert _states(found)["GC"] is Outcome.FAIL


def test_compare_when_a_row_is_missing_then_the_class_count_fails(records: pd.DataFrame) -> None:
    """Single rows can be drawn exactly, so one row off is a fault."""
    is_test = _draw(records)
    is_test[np.flatnonzero(is_test)[0]] = False

    check = _check(compare_distributions(records, is_test), "class count")

    assert (check.state, check.value, check.fail_floor) == (Outcome.FAIL, 1, 0)


@pytest.mark.parametrize(("n_genomes", "rows_off"), [(252, 1), (257, 2)])
def test_compare_when_genomes_cannot_be_cut_then_the_class_count_allows_for_it(
    n_genomes: int, rows_off: int
) -> None:
    """Genomes of six rows come no nearer to 151 rows than 150, to 154 no nearer than 156."""
    records = _records(6 * n_genomes, n_genomes=n_genomes)
    found = compare_distributions(records, _draw(records, "genome"), sampling_unit="genome")
    check = _check(found, "class count")

    assert (check.state, check.value, check.fail_floor) == (Outcome.PASS, rows_off, 5)


def test_compare_when_an_honest_effect_is_over_its_floor_then_chance_explains_it(
    records: pd.DataFrame,
) -> None:
    """D is .06 on average for so few rows: neither a failure nor a warning."""
    check = _check(compare_distributions(records, _draw(records)), "GC")

    assert (check.value or 0) > 0.03
    assert (check.p or 0) > 0.01
    assert check.state is Outcome.PASS


def test_compare_when_windows_are_large_then_rows_count_and_not_windows(
    records: pd.DataFrame,
) -> None:
    """Fifteen windows of ten rows are 150 test rows; only genomes have a number of their own."""
    windows = records.assign(accession="NC_1.1", window=records["window"] // 10)
    found = compare_distributions(windows, _draw(windows, "window"), sampling_unit="window")

    assert Outcome.INCONCLUSIVE not in _states(found).values()


def test_compare_when_all_lengths_are_equal_then_length_passes_at_zero(
    records: pd.DataFrame,
) -> None:
    """VirNucPro's windows all have one length; nothing could be caught, and none is invented."""
    constant = records.assign(protein=records["protein"].str.slice(0, 32))

    check = _check(compare_distributions(constant, _draw(constant)), "length")

    assert (check.state, check.value, check.smallest_caught) == (Outcome.PASS, 0, None)


def test_compare_when_there_is_one_lineage_then_it_passes(records: pd.DataFrame) -> None:
    """One lineage is in both parts alike."""
    found = compare_distributions(records.assign(lineage="T4"), _draw(records))

    assert (_check(found, "lineage").value, _check(found, "lineage share").value) == (0, 1)
    assert _states(found)["lineage share"] is Outcome.PASS


@pytest.mark.parametrize(("n_others", "state"), [(2, Outcome.FAIL), (180, Outcome.INCONCLUSIVE)])
def test_compare_when_a_twentieth_is_gone_then_it_does_not_pass(
    n_others: int, state: Outcome
) -> None:
    """With more lineages each must be less likely by chance, and 225 test rows are too few."""
    records = _records(2250)
    rows = np.arange(len(records))
    is_gone = rows % 20 == 0
    lineage = np.where(is_gone, "gone", [f"other {i % n_others}" for i in rows])
    key = np.random.default_rng(2).random(len(rows)) + is_gone

    found = compare_distributions(records.assign(lineage=lineage), _lowest(records, key))

    share = _check(found, "lineage share")
    assert share.state is state
    assert "gone" in share.detail
    assert ("would do" in share.detail) is (state is Outcome.INCONCLUSIVE)


def test_compare_when_a_lineage_has_one_row_in_the_test_set_then_passes(
    records: pd.DataFrame,
) -> None:
    """A ratio of infinity is chance where one row makes it."""
    is_test = _draw(records)
    lineage = records["lineage"].astype(object)
    lineage.iloc[np.flatnonzero(is_test)[0]] = "rare"

    found = compare_distributions(records.assign(lineage=lineage.astype("str")), is_test)
    rare = next(row for row in found.lineages if row.lineage == "rare")

    assert (rare.ratio, rare.state, rare.smallest_caught) == (np.inf, Outcome.PASS, None)
    assert _states(found)["lineage share"] is Outcome.PASS


def test_compare_of_thirty_rows_then_is_inconclusive_and_says_the_size_that_would_do() -> None:
    """Three test rows of a class say nothing: 750 rows of the class would give 75."""
    records = _records(30, n_genomes=5)
    found = compare_distributions(records, _draw(records))

    assert _states(found) == dict.fromkeys(TRAITS, Outcome.INCONCLUSIVE) | {
        "class count": Outcome.PASS
    }
    assert "3 test rows of the 75 needed; 750 rows" in _check(found, "GC").detail


def test_compare_when_too_few_genomes_are_drawn_then_is_inconclusive() -> None:
    """150 test rows from 10 genomes are 10 draws: 200 genomes of the class would give 20."""
    records = _records(1500, n_genomes=100)
    found = compare_distributions(records, _draw(records, "genome"), sampling_unit="genome")

    assert _states(found)["lineage"] is Outcome.INCONCLUSIVE
    assert "10 test genomes of the 20 needed; 200 genomes" in _check(found, "lineage").detail


def test_compare_when_a_class_is_empty_then_it_is_inconclusive_and_the_other_is_judged() -> None:
    """No rows are no evidence; the class that is there is judged all the same."""
    records = _records(900, n_nonviral=0)
    found = compare_distributions(records, _draw(records))
    empty = {check.what: check.state for check in found.checks if check.label == 0}

    assert empty == dict.fromkeys(TRAITS, Outcome.INCONCLUSIVE) | {"class count": Outcome.PASS}
    assert set(_states(found).values()) <= {Outcome.PASS, Outcome.WARN}


def test_compare_of_an_empty_table_then_is_inconclusive(records: pd.DataFrame) -> None:
    """Nothing at all is handled like too little."""
    found = compare_distributions(records.iloc[:0], np.zeros(0, dtype=bool))

    assert _states(found)["classifier"] is Outcome.INCONCLUSIVE
    assert (found.lineages, found.histograms) == ((), ())


def test_compare_when_everything_is_test_then_is_inconclusive(records: pd.DataFrame) -> None:
    """Without a training part there is nothing to compare with, and the count is wrong."""
    found = compare_distributions(records, np.ones(len(records), dtype=bool))

    assert _states(found) == dict.fromkeys(TRAITS, Outcome.INCONCLUSIVE) | {
        "class count": Outcome.FAIL
    }
    assert "no rows in the training part" in _check(found, "lineage share").detail


@pytest.mark.parametrize(
    ("columns", "unknown", "n_checks"),
    [
        (["lineage"], {"lineage", "lineage share"}, 10),
        (["source_kind", "frame"], {"source kind", "frame"}, 10),
        (["nucleotides", "protein"], {"length", "GC"}, 10),
        (["nucleotides", "protein", "source_kind", "frame"], set(TRAITS[3:]), 4),
    ],
)
def test_compare_when_a_trait_is_unknown_then_is_not_run_and_shares_no_error_rate(
    records: pd.DataFrame, columns: list[str], unknown: set[str], n_checks: int
) -> None:
    """What nobody knows is not measured; no value is made up."""
    found = compare_distributions(records.assign(**dict.fromkeys(columns, "")), _draw(records))

    assert {what for what, state in _states(found).items() if state is Outcome.NOT_RUN} == unknown
    assert found.n_checks == n_checks


def test_compare_then_histograms_of_each_part_add_up_to_one(records: pd.DataFrame) -> None:
    """Shares, so that parts of different size can be drawn over each other."""
    found = compare_distributions(records, _draw(records))
    kinds = [(histogram.label, histogram.what) for histogram in found.histograms]

    assert kinds == [(1, "length"), (1, "GC"), (0, "length"), (0, "GC")]
    for histogram in found.histograms:
        assert sum(histogram.train) == pytest.approx(1)
        assert sum(histogram.test) == pytest.approx(1)
        assert len(histogram.edges) == len(histogram.train) + 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda records: {"is_test": np.zeros(5, dtype=bool)}, "must be 3000 bools"),
        (lambda records: {"is_test": np.zeros(3000, dtype=np.int64)}, "int64"),
        (lambda records: {"n_redraws": 99}, "at least 2799"),
        (lambda records: {"test_fraction": "1.5"}, "between 0 and 1"),
        (lambda records: {"sampling_unit": "file"}, "sampling_unit"),
    ],
)
def test_compare_when_an_argument_is_unusable_then_says_which(
    records: pd.DataFrame, change: Callable[[pd.DataFrame], dict[str, object]], error: str
) -> None:
    """A wrong argument is refused before anything is computed from it."""
    arguments = {"is_test": _draw(records)} | change(records)

    with pytest.raises(ValueError, match=error):
        compare_distributions(records, **arguments)  # type: ignore[arg-type]


def test_compare_when_genomes_are_unknown_then_they_cannot_have_been_drawn(
    records: pd.DataFrame,
) -> None:
    """A draw of genomes needs to know them."""
    with pytest.raises(DataError, match="no genome"):
        compare_distributions(records.assign(genome=""), _draw(records), sampling_unit="genome")


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


def _check_floors(found: Representativeness, what: str) -> Check:
    return next(check for check in found.checks if (check.what, check.label) == (what, 1))


@pytest.mark.parametrize("what", ["GC", "lineage", "classifier"])
def test_compare_when_a_certain_effect_is_under_the_floor_then_warns(
    found: Representativeness, what: str
) -> None:
    """Over the lower floor and beyond chance is worth a note, and no more."""
    check = _check_floors(found, what)
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
    assert _check_floors(found, what).smallest_caught == floor
