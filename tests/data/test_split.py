"""Drawing the split: exact, reproducible, whatever the order of rows, and in whole units."""

from fractions import Fraction
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.records import RECORD_COLUMNS
from harness.data.split import Sampler, Split, draw_split, exact_fraction
from harness.errors import ArtifactError, DataError

UNITS = ["record", "window", "genome", "lineage"]
DIGIT_TO_BASE = str.maketrans("0123", "ACGT")


def _records(
    labels: list[int],
    *,
    sequences: list[int] | None = None,
    genomes: list[int] | None = None,
    rows_per_window: int = 2,
) -> pd.DataFrame:
    """Build a record table; equal numbers in ``sequences`` stand for equal sequences."""
    rows = np.arange(len(labels))
    genome = [f"NC_{g}.1" for g in (genomes or rows // 4)]
    numbers = sequences or rows.tolist()
    spelled = [np.base_repr(number, 4).translate(DIGIT_TO_BASE) for number in numbers]
    columns = {
        "id": [f"{g}_chunk_{i}F1" for i, g in enumerate(genome)],
        "nucleotides": [f"AAAA{text}" for text in spelled],
        "protein": [f"M{text}" for text in spelled],
        "label": labels,
        "accession": genome,
        "window": rows // rows_per_window,
        "frame": ["F1"] * len(rows),
        "lineage": [f"L{name[3]}" for name in genome],
        "source_kind": [""] * len(rows),
        "genome": genome,
    }
    return pd.DataFrame(columns).astype(RECORD_COLUMNS)


def _ids(split: Split) -> dict[str, list[str]]:
    return {part: list(getattr(split, part)) for part in ("train", "validation", "test")}


@st.composite
def _tables(draw: st.DrawFn) -> pd.DataFrame:
    """Tables with repeated sequences, several windows a genome, and mixed labels."""
    n_rows = draw(st.integers(1, 60))
    numbers = st.lists(st.integers(0, 40), min_size=n_rows, max_size=n_rows)
    labels = draw(st.lists(st.integers(0, 1), min_size=n_rows, max_size=n_rows))
    return _records(labels, sequences=draw(numbers), genomes=draw(numbers))


@pytest.mark.parametrize(
    ("n_rows", "expected"), [(100, 10), (5, 0), (15, 2), (25, 2), (35, 4), (36, 4)]
)
def test_draw_split_of_single_rows_then_counts_are_exact(n_rows: int, expected: int) -> None:
    """A tenth of each class is drawn, rounded, with ties to even."""
    split = draw_split(_records([0] * 200 + [1] * n_rows))
    assert [count.n_test for count in split.counts] == [20, expected]


@settings(max_examples=25)
@given(_tables(), st.sampled_from(UNITS), st.sampled_from(["0.10", "0.25", "1/3", "0.5"]))
def test_draw_split_then_parts_are_disjoint_and_cover_all(
    table: pd.DataFrame, sampling_unit: str, fraction: str
) -> None:
    """Every record is in exactly one part."""
    split = draw_split(table, test_fraction=fraction, sampling_unit=sampling_unit)
    parts = _ids(split)
    assert sorted(chain(*parts.values())) == sorted(table["id"])
    assert all(ids == sorted(ids) for ids in parts.values())


@settings(max_examples=25)
@given(_tables(), st.sampled_from(UNITS), st.randoms(use_true_random=False))
def test_draw_split_when_rows_are_reordered_then_draws_the_same_ids(
    table: pd.DataFrame, sampling_unit: str, random: Random
) -> None:
    """The order of rows, and so of files, changes nothing."""
    order = list(range(len(table)))
    random.shuffle(order)
    pieces = [table.iloc[order[:7]], table.iloc[order[7:]]]  # as if read from two files
    shuffled = draw_split(pd.concat(pieces), sampling_unit=sampling_unit, test_fraction="0.3")
    original = draw_split(table, sampling_unit=sampling_unit, test_fraction="0.3")
    assert _ids(shuffled) == _ids(original)


@settings(max_examples=25)
@given(_tables(), st.sampled_from(UNITS))
def test_draw_split_then_no_unit_is_divided(table: pd.DataFrame, sampling_unit: str) -> None:
    """Equal sequences share a part, and so does what is drawn as a whole."""
    split = draw_split(table, sampling_unit=sampling_unit, test_fraction="0.3")
    masks = split.masks(table["id"])
    part = np.select([masks.train, masks.validation], [0, 1], 2)
    is_viral = table["label"] == 1
    lineages = table["lineage"].where(is_viral, table["genome"])
    whole = {
        "window": table["accession"] + table["window"].astype("str"),
        "genome": table["genome"],
        "lineage": lineages,
    }
    units = whole.get(sampling_unit, table["id"])
    assert len(set(zip(table["protein"], part, strict=True))) == table["protein"].nunique()
    assert len(set(zip(units, part, strict=True))) == len(set(units))


def test_draw_split_with_another_seed_then_draws_other_ids() -> None:
    """The seed decides; the same seed repeats."""
    table = _records([0, 1] * 200)
    first, again, other = (draw_split(table, seed=seed) for seed in (1, 1, 2))
    assert first.id_digests() == again.id_digests()
    assert first.id_digests()["test"] != other.id_digests()["test"]


def test_draw_split_then_counts_say_what_was_drawn() -> None:
    """Target and actual rows, and units, stand beside each other."""
    viral = draw_split(_records([0] * 100 + [1] * 60)).counts[1]
    assert (viral.n_test, viral.target_test, viral.n_units, viral.n_test_units) == (6, 6, 60, 6)
    assert (viral.n_validation, viral.target_validation, viral.n_train) == (5, 5, 49)


def test_draw_split_when_a_sequence_has_both_labels_then_it_stays_whole() -> None:
    """Contradicting labels are for the leak check to report; the draw does not fail."""
    table = _records([0, 1] * 50, sequences=[i // 2 for i in range(100)])
    split = draw_split(table)
    is_test = split.masks(table["id"]).test
    assert is_test.sum() == 10
    assert (is_test[::2] == is_test[1::2]).all()


def test_draw_split_of_an_invalid_table_is_refused() -> None:
    """Two rows with one id could not be told apart afterwards."""
    table = _records([0, 1])
    with pytest.raises(DataError, match="occur twice"):
        draw_split(pd.concat([table, table]))


def test_sampler_when_no_genome_fits_then_takes_the_nearest() -> None:
    """Five genomes of 20 rows cannot give 10; one of them is taken, and four are left."""
    sampler = Sampler(_records([1] * 100, genomes=[i // 20 for i in range(100)]), "0.10", "genome")
    assert sampler.draw(np.random.default_rng(0)).sum() == 20


def test_sampler_when_one_more_genome_comes_nearer_then_takes_it() -> None:
    """Of genomes of 10 rows, 16 wanted rows are better served by 20 than by 10."""
    sampler = Sampler(_records([1] * 80, genomes=[i // 10 for i in range(80)]), "0.20", "genome")
    assert sampler.draw(np.random.default_rng(0)).sum() == 20


def test_sampler_when_a_class_has_one_genome_then_it_stays_in_training() -> None:
    """A test set may not swallow a whole class."""
    table = _records([1] * 20 + [0] * 40, genomes=[0] * 20 + [1 + i // 4 for i in range(40)])
    drawn = Sampler(table, "0.60", "genome").draw(np.random.default_rng(0))
    assert drawn[:20].sum() == 0
    assert drawn[20:].sum() == 24


def test_sampler_then_every_unit_is_equally_likely() -> None:
    """Among units of one size none is preferred: each is drawn in about a tenth of the draws."""
    sampler = Sampler(_records([0, 1] * 30))
    rng = np.random.default_rng(0)
    share = np.mean([sampler.draw_units(rng) for _ in range(2000)], axis=0)
    assert np.abs(share - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 2000)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any), min_size=1, max_size=30),
    st.integers(0, 2**32),
)
def test_sampler_then_agrees_with_walking_unit_by_unit(
    sizes: list[tuple[int, int]], seed: int
) -> None:
    """The vectorised walk takes every unit that a plain loop would take."""
    units = np.repeat(np.arange(len(sizes)), [sum(size) for size in sizes])
    labels = np.concatenate([[0] * zero + [1] * one for zero, one in sizes]).astype(np.int8)
    sampler = Sampler(pd.DataFrame({"label": labels}), "0.4", units=units)
    left, walked = sampler.targets.copy(), set()
    for unit in np.random.default_rng(seed).permutation(len(sizes)):
        if (np.array(sizes[unit]) <= left).all():
            left -= sizes[unit]
            walked.add(int(unit))
    drawn = set(np.flatnonzero(sampler.draw_units(np.random.default_rng(seed))).tolist())
    assert walked <= drawn
    assert len(drawn - walked) <= int((left > 0).sum())


def test_exact_fraction_of_a_float_is_its_decimal() -> None:
    """0.1 means a tenth, not the binary number next to it."""
    assert exact_fraction(0.1) == exact_fraction("0.10") == Fraction(1, 10)


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "1.5", "a tenth", "nan"])
def test_exact_fraction_outside_zero_to_one_is_refused(value: str) -> None:
    """All or nothing is no split."""
    with pytest.raises(ValueError, match=r"fraction|Fraction"):
        exact_fraction(value)


def test_split_when_saved_and_loaded_then_is_the_same(tmp_path: Path) -> None:
    """Ids, settings and counts survive the way through files."""
    split = draw_split(_records([0, 1] * 40), test_fraction="1/3", sampling_unit="window", seed=7)
    split.save(tmp_path)
    loaded = Split.load(tmp_path)
    assert _ids(loaded) == _ids(split)
    assert loaded.to_dict() == split.to_dict()


def test_split_when_its_ids_were_changed_then_is_refused(tmp_path: Path) -> None:
    """A table whose ids are not those that were saved cannot pass for the split."""
    draw_split(_records([0, 1] * 40)).save(tmp_path)
    table = pd.read_parquet(tmp_path / "split.parquet")
    table.iloc[:-1].to_parquet(tmp_path / "split.parquet")
    with pytest.raises(ArtifactError, match="are not those that"):
        Split.load(tmp_path)


def test_split_when_nothing_was_saved_then_says_so(tmp_path: Path) -> None:
    """An empty folder holds no split."""
    with pytest.raises(ArtifactError, match="holds no readable split"):
        Split.load(tmp_path)


def test_masks_of_another_table_then_follow_its_order() -> None:
    """Masks line up with the ids that are asked for, known or not."""
    split = draw_split(_records([0, 1] * 40))
    asked = pd.Series([split.test[1], "stranger", split.train[0]], dtype="str")
    masks = split.masks(asked)
    assert masks.test.tolist() == [True, False, False]
    assert masks.training_part.tolist() == [False, False, True]
