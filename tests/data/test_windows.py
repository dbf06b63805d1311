"""VirNucPro's rule from a sequence to records, against a literal transcription of it."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import numpy as np
import pytest

from harness.data.windows import Fragment, cut_windows, extract_fragments, open_frames

Row = tuple[str, str, str]  # id, protein, nucleotides

STANDARD_CODE = dict(
    zip(
        ("".join(codon) for codon in product("TCAG", repeat=3)),
        "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
        strict=True,
    )
)
COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


def window_bounds(length: int, size: int) -> list[tuple[int, int]]:
    """Return where the windows of a sequence begin and end."""
    n_windows = math.ceil(length / size)
    surplus = n_windows * size - length
    low = surplus // n_windows
    n_longer = surplus - low * (n_windows - 1)
    shifts = [low + 1] * n_longer + [low] * (n_windows - 1 - n_longer)
    shifts = shifts[: n_windows - 1]
    starts = [i * size - sum(shifts[:i]) for i in range(n_windows)]
    return [(start, min(start + size, length)) for start in starts]


@cache
def frames(window: str) -> list[tuple[str, str, str]]:
    """Return name, protein and nucleotides of all six frames."""
    reverse = "".join(COMPLEMENT.get(base, base) for base in reversed(window))
    found = []
    for strand, bases in (("F", window), ("R", reverse)):
        for frame in (1, 2, 3):
            protein = ""
            for at in range(frame - 1, len(bases) - 2, 3):
                protein += STANDARD_CODE.get(bases[at : at + 3], "")
            found.append((f"{strand}{frame}", protein, bases[frame - 1 : frame + 3 * len(protein)]))
    return found


def transcribed(sequence: str, translations: list[str], size: int) -> list[Row]:
    """Prepare a sequence as VirNucPro does, word for word."""
    rows = []
    for number, (start, end) in enumerate(window_bounds(len(sequence), size), start=1):
        window = sequence[start:end]
        if any(letter in window for letter in "NRYMKSWHBVD"):
            continue
        for name, protein, nucleotides in frames(window):
            is_known = any(protein in translation for translation in translations)
            if "*" not in protein and is_known:
                rows.append((f"NC_1.1_chunk_{number}{name}", protein, nucleotides))
    return rows


def as_rows(fragments: list[Fragment]) -> list[Row]:
    """Return what is compared of fragments."""
    return [(each.id, each.protein, each.nucleotides) for each in fragments]


@pytest.fixture(scope="module")
def genome() -> str:
    """Return 3,000 bases with long open frames, an ambiguous base and a letter without meaning."""
    bases = np.random.default_rng(5).choice(list("ACGT"), 3000, p=[0.1, 0.4, 0.4, 0.1])
    bases[[1750, 2600]] = "N", "X"
    return "".join(bases)


@pytest.fixture(scope="module")
def translations(genome: str) -> list[str]:
    """Return pieces of the genome's six frames, so that some frames of a window lie in one."""
    return [
        protein[at : at + 400] for _, protein, _ in frames(genome) for at in range(0, 1000, 400)
    ]


@pytest.mark.parametrize("size", [300, 500])
def test_fragments_when_a_sequence_has_any_length_then_are_those_of_the_rule(
    genome: str, translations: list[str], size: int
) -> None:
    """Ids, proteins and nucleotides are VirNucPro's, from one base to three thousand."""
    n_rows = 0
    for length in range(1, 3001):
        sequence = genome[:length]
        found = extract_fragments("NC_1.1", sequence, translations, window_bases=size)
        expected = transcribed(sequence, translations, size)
        assert as_rows(list(found)) == expected, length
        n_rows += len(expected)
    assert n_rows > 10_000


@pytest.mark.parametrize(
    ("length", "first"),
    [
        (499, [(0, 499)]),
        (700, [(0, 500), (349, 700)]),
        (1001, [(0, 500), (333, 833), (666, 1001)]),
        (12345, [(0, 500), (493, 993), (986, 1486), (1479, 1979)]),
    ],
)
def test_windows_when_cut_then_overlap_evenly(length: int, first: list[tuple[int, int]]) -> None:
    """Windows of 500 bases as VirNucPro's own code cuts them; the last one ends at the end."""
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + length)))  # every base tells its place
    windows = dict(cut_windows(letters))
    assert list(windows.values())[: len(first)] == [letters[start:end] for start, end in first]
    assert list(windows) == list(range(1, -(-length // 500) + 1))
    assert letters.endswith(windows[len(windows)])


def test_windows_when_they_have_no_length_then_raise() -> None:
    """There is no window of no bases."""
    with pytest.raises(ValueError, match="at least 1, got 0"):
        list(cut_windows("ACGT", window_bases=0))


def test_open_frames_when_a_codon_is_unclear_then_it_is_passed_over() -> None:
    """Prediction reads on behind it, so the protein and the bases end early."""
    found = {each.frame: each for each in open_frames("NC_1.1", 7, "AAANCCCCCG")}
    assert found["F1"].protein == "KP"
    assert found["F1"].nucleotides == "AAANCCC"
    assert found["F1"].id == "NC_1.1_chunk_7F1"


def test_open_frames_when_one_has_a_stop_then_the_others_are_left() -> None:
    """A frame with a stop of the standard code is no protein."""
    frames_left = [each.frame for each in open_frames("NC_1.1", 1, "GCCTGAGCC")]
    assert frames_left == ["F2", "F3", "R1", "R2", "R3"]


def test_fragments_when_a_frame_spans_two_proteins_then_leave_it_out() -> None:
    """The end of one protein and the start of the next are not a protein."""
    window = "AAAAAACCCCCCGGGGGGTA"
    assert [each.frame for each in extract_fragments("A.1", window, ["KKPPGG"])] == ["F1"]
    assert list(extract_fragments("A.1", window, ["KKP", "PGG"])) == []


def test_fragments_when_nothing_is_annotated_then_are_none() -> None:
    """Not even of a sequence that is too short for a codon."""
    assert list(extract_fragments("A.1", "AC", [])) == []
