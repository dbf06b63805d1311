"""Stored embeddings: each way of being wrong is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from harness.config.settings import DTYPES
from harness.embedding.nucleotide.kmer import KmerProfile
from harness.embedding.store import EmbeddingStore, write_store
from harness.gate.embedding_integrity import (
    TOLERANCE,
    StoreInspection,
    inspect_store,
    judge_embeddings,
)
from harness.gate.result import State

SEQUENCES = pd.Series({f"r{n}": "ACGT" * 4 + "ACGT"[n % 4] * n for n in range(8)}, dtype="str")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a sound store of k-mer profiles."""
    write_store(tmp_path, list(SEQUENCES.index), SEQUENCES, KmerProfile(2))
    return tmp_path


def inspect(folder: Path, *, n_records: int = 8) -> StoreInspection:
    """Inspect the store against its embedder."""
    return inspect_store(
        "k-mers",
        EmbeddingStore(folder, check_digests=False),
        [f"r{n}" for n in range(n_records)],
        expected_dim=16,
        sha256="0" * 64,
        embedder=KmerProfile(2),
        sample=SEQUENCES.iloc[:3],
    )


def plant(folder: Path, rows: slice, value: float) -> None:
    """Overwrite some rows."""
    path = folder / "shard-000000.safetensors"
    array = load_file(path)["embeddings"]
    array[rows] = value
    save_file({"embeddings": array}, path)


def test_judge_when_the_store_is_sound_then_passes(folder: Path) -> None:
    """Finite, right width, one row a record, and what the embedder computes."""
    result = judge_embeddings([inspect(folder)])

    assert result.state is State.PASS
    assert result.evidence["stores"][0]["largest_difference"] == 0
    assert result.evidence["stores"][0]["n_recomputed"] == 3


def test_judge_when_the_store_is_in_16_bits_then_their_rounding_is_allowed(tmp_path: Path) -> None:
    """What float32 would not allow."""
    write_store(tmp_path, list(SEQUENCES.index), SEQUENCES, KmerProfile(2), dtype="bfloat16")

    found = inspect(tmp_path)

    assert 1e-4 < (found.largest_difference or 0) < found.tolerance
    assert not found.problems()


def test_judge_when_a_row_is_not_finite_then_fails_and_says_what_to_do(folder: Path) -> None:
    """One NaN row is enough."""
    plant(folder, slice(5, 6), np.nan)

    result = judge_embeddings([inspect(folder)])

    assert result.state is State.FAIL
    assert "1 rows that are not finite" in result.detail
    assert "float16 overflows" in result.next_steps[0]


def test_judge_when_all_rows_are_alike_then_fails(folder: Path) -> None:
    """A constant embedding carries nothing, however finite."""
    plant(folder, slice(None), 0.5)

    result = judge_embeddings([inspect(folder)])

    assert result.state is State.FAIL
    assert "16 of 16 columns constant" in result.detail


def test_judge_when_a_row_is_another_records_then_fails(folder: Path) -> None:
    """Stored rows must be what the embedder gives for that sequence alone."""
    plant(folder, slice(0, 1), 3.0)

    assert "differs from the embedder" in judge_embeddings([inspect(folder)]).detail


def test_judge_when_a_record_has_no_row_then_fails(folder: Path) -> None:
    """Rows in are rows out."""
    assert "8 rows for 9 records" in judge_embeddings([inspect(folder, n_records=9)]).detail


def test_judge_when_the_width_is_anothers_then_fails(folder: Path) -> None:
    """A store of another embedder is seen by its width."""
    wide = replace(inspect(folder), expected_dim=1280)

    assert "is 16 wide, expected 1280" in judge_embeddings([wide]).detail


def test_judge_when_there_is_no_store_then_it_is_a_mistake_of_the_caller() -> None:
    """Nothing inspected is not a pass."""
    with pytest.raises(ValueError, match="at least one store"):
        judge_embeddings([])


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        ({"n_rows": 5}, "Embed the 3 records that k-mers lacks"),
        ({"dim": 16, "expected_dim": 1280}, "rows of 16 numbers are not those of one that yields"),
        ({"n_not_finite": 2, "largest_difference": np.nan}, "float16 overflows beyond 65,504, and"),
        ({"n_constant": 16}, "all its rows are alike"),
        ({"largest_difference": 0.25}, "of 3 records embedded anew some differ by 0.25"),
    ],
)
def test_judge_when_a_store_is_wrong_then_the_step_is_about_what_is_wrong(
    folder: Path, fault: dict[str, Any], step: str
) -> None:
    """One problem, one step, with its numbers."""
    (found,) = judge_embeddings([replace(inspect(folder), **fault)]).next_steps

    assert step in found


def test_tolerance_when_a_dtype_can_be_set_then_it_has_one() -> None:
    """What the settings allow can be judged."""
    assert set(TOLERANCE) == set(DTYPES)
