"""Which rows are drawn together: same sequence on either strand, same window, same genome."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.groups import sampling_units, sequence_codes, window_codes
from harness.errors import DataError

OPPOSITE = str.maketrans("ACGT", "TGCA")


def _records(
    nucleotides: Sequence[str],
    protein: Sequence[str] | None = None,
    *,
    window: Sequence[int] | None = None,
    accession: Sequence[str] | None = None,
    genome: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Build the columns that grouping reads; what is not given differs in every row."""
    n = len(nucleotides)
    rows = range(n)
    text = {
        "id": [f"id_{i:04d}" for i in rows],
        "nucleotides": nucleotides,
        "protein": protein or [f"M{i}" for i in rows],
        "accession": accession or [f"A{i}" for i in rows],
        "genome": genome or [f"G{i}" for i in rows],
        "lineage": [f"L{i % 3}" for i in rows],
    }
    table = pd.DataFrame({name: pd.Series(values, dtype="str") for name, values in text.items()})
    table["window"] = np.array(window or [0] * n, dtype=np.int32)
    table["label"] = np.arange(n, dtype=np.int8) % 2
    return table


def _different(n: int, length: int = 60) -> list[str]:
    letters = np.random.default_rng(0).choice(list("ACGT"), size=(n, length))
    return ["".join(row) for row in letters]


def test_sequence_codes_of_reverse_complements_are_equal() -> None:
    """A window read from the other strand is the same window."""
    sequence, other = _different(2)
    codes = sequence_codes(_records([sequence, other, sequence.translate(OPPOSITE)[::-1]]))
    assert codes.nucleotides[0] == codes.nucleotides[2] != codes.nucleotides[1]


@settings(max_examples=30)
@given(st.lists(st.text("ACGT", min_size=1, max_size=40), min_size=1, max_size=30))
def test_sequence_codes_agree_with_comparing_every_sequence(sequences: list[str]) -> None:
    """Two rows have one number exactly if their sequences agree on one of the strands."""
    padded = ["ACGT" * 5 + sequence for sequence in sequences]  # one prefix for all
    strands = [min(text, text.translate(OPPOSITE)[::-1]) for text in sequences + padded]
    codes = sequence_codes(_records(sequences + padded)).nucleotides
    assert len(set(zip(strands, codes, strict=True))) == len(set(strands)) == len(set(codes))


def test_sequence_codes_when_only_the_end_differs_then_differ() -> None:
    """A shared beginning does not make two sequences equal."""
    start = _different(1)[0]
    codes = sequence_codes(_records([start + "AA", start + "AC"], ["M" * 50 + "A", "M" * 50 + "C"]))
    assert codes.nucleotides[0] != codes.nucleotides[1]
    assert codes.protein[0] != codes.protein[1]


def test_sequence_codes_when_sequences_are_unknown_then_each_stands_alone() -> None:
    """Empty text says that a sequence is not known, not that it is the same."""
    codes = sequence_codes(_records(["", "", "ACGT"], ["", "", ""]))
    assert len(set(codes.nucleotides)) == len(set(codes.protein)) == 3


def test_sampling_units_when_rows_share_either_sequence_then_form_a_chain() -> None:
    """A and B share nucleotides, B and C a protein: all three are drawn together."""
    one, two, three = _different(3)
    units = sampling_units(_records([one, one, two, three], ["MA", "MB", "MB", "MC"]))
    assert units.tolist() == [0, 0, 0, 1]


def test_sampling_units_of_windows_then_frames_stay_together() -> None:
    """All frames of one window are one unit; the same window number elsewhere is another."""
    table = _records(_different(4), window=[3, 3, 4, 3], accession=["A", "A", "A", "B"])
    assert sampling_units(table, "window").tolist() == [0, 0, 1, 2]


def test_sampling_units_of_windows_when_window_is_unknown_then_stand_alone() -> None:
    """Records without a window number do not form one big window."""
    table = _records(_different(3), window=[-1, -1, -1], accession=["A", "A", "A"])
    assert sampling_units(table, "window").tolist() == [0, 1, 2]


def test_sampling_units_of_genomes_when_they_share_a_sequence_then_are_tied() -> None:
    """Genomes that share a protein are drawn together, with all their rows."""
    table = _records(
        _different(5), ["MA", "MB", "MB", "MC", "MD"], genome=["X", "X", "Y", "Y", "Z"]
    )
    assert sampling_units(table, "genome").tolist() == [0, 0, 0, 0, 1]


def test_sampling_units_of_genomes_when_one_is_unknown_then_names_the_record() -> None:
    """Without its genome a record cannot be kept away from its genome's other records."""
    with pytest.raises(DataError, match="1 records have no genome, such as 'id_0001'"):
        sampling_units(_records(_different(2), genome=["X", ""]), "genome")


def test_sampling_units_of_lineages_when_not_viral_or_unknown_then_are_genomes() -> None:
    """Viral lineages stay whole; what is not viral, or of no lineage, goes with its genome."""
    table = _records(_different(8), genome=["X", "X", "Y", "X", "Z", "Y", "Z", "V"])
    table["label"] = np.array([1, 0, 0, 0, 1, 1, 1, 1], dtype=np.int8)
    table["lineage"] = pd.Series(["A", "A", "A", "A", "A", "B", "", ""], dtype="str")
    assert sampling_units(table, "lineage").tolist() == [0, 1, 2, 1, 0, 3, 4, 5]


def test_sampling_units_of_anything_else_is_refused() -> None:
    """A misspelt unit is not silently a record."""
    with pytest.raises(ValueError, match="got 'contig'"):
        sampling_units(_records(_different(2)), "contig")


@settings(max_examples=30)
@given(st.permutations(range(12)), st.sampled_from(["record", "window", "genome", "lineage"]))
def test_sampling_units_when_rows_are_reordered_then_keep_their_numbers(
    order: list[int], sampling_unit: str
) -> None:
    """A unit's number follows from its records alone."""
    sequences = [_different(6)[i // 2] for i in range(12)]
    genomes = [f"G{i // 3}" for i in range(12)]
    table = _records(
        sequences, accession=genomes, genome=genomes, window=[i // 4 for i in range(12)]
    )
    units = sampling_units(table, sampling_unit)
    assert sampling_units(table.iloc[order], sampling_unit).tolist() == units[order].tolist()


def test_sampling_units_of_no_rows_are_none() -> None:
    """An empty table has no units."""
    assert sampling_units(_records([]), "genome").tolist() == []


def test_window_codes_of_neighbours_differ_by_one() -> None:
    """Neighbouring windows of one accession are found by arithmetic; unknown ones are -1."""
    codes = window_codes(
        _records(_different(4), window=[7, 8, 8, -1], accession=["A", "A", "B", "B"])
    )
    assert codes[1] - codes[0] == 1
    assert abs(codes[2] - codes[0]) > 2**31
    assert codes[3] == -1
