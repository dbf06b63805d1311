"""Stored embeddings: each way of being wrong is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from harness.criteria.embedding_integrity import (
    StoreInspection,
    inspect_store,
    judge_embeddings,
)
from harness.criteria.result import State
from harness.embedding.extraction import write_store
from harness.embedding.kmer import KmerProfile
from harness.embedding.store import EmbeddingStore

SEQUENCES = pd.Series({f"r{n}": "ACGT" * 4 + "ACGT"[n % 4] * n for n in range(8)}, dtype="str")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a sound store of k-mer profiles."""
    write_store(tmp_path, list(SEQUENCES.index), SEQUENCES, KmerProfile(2))
    return tmp_path


def inspect(
    folder: Path, *, n_records: int = 8, embedder: KmerProfile | None = None
) -> StoreInspection:
    """Inspect the store against its embedder."""
    return inspect_store(
        "k-mers",
        EmbeddingStore(folder, check_digests=False),
        [f"r{n}" for n in range(n_records)],
        expected_dim=16,
        sha256="0" * 64,
        embedder=embedder or KmerProfile(2),
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
    (store,) = result.evidence["stores"]
    assert (store["largest_share"], store["n_mistaken"], store["n_recomputed"]) == (0, 0, 3)
    assert store["reference"] == "has no reference implementation to be compared with"


def test_judge_when_the_store_is_in_16_bits_then_their_rounding_is_allowed(tmp_path: Path) -> None:
    """It moves rows, by less than a tenth of what lies between two of them."""
    write_store(tmp_path, list(SEQUENCES.index), SEQUENCES, KmerProfile(2), dtype="bfloat16")

    found = inspect(tmp_path)

    assert found.largest_share
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
        ({"n_not_finite": 2, "largest_share": np.nan}, "float16 overflows beyond 65,504"),
        ({"n_constant": 16}, "all its rows are alike"),
        ({"largest_share": 0.25}, "of 3 records embedded anew some are not the stored ones"),
        ({"n_mistaken": 1}, "of 3 records embedded anew some are not the stored ones"),
        ({"reference_difference": 1e-3}, "is not what they were trained for"),
        ({"reference_difference": np.nan}, "is not what they were trained for"),
    ],
)
def test_judge_when_a_store_is_wrong_then_the_step_is_about_what_is_wrong(
    folder: Path, fault: dict[str, Any], step: str
) -> None:
    """One problem, one step, with its numbers."""
    (found,) = judge_embeddings([replace(inspect(folder), **fault)]).next_steps

    assert step in found


class WithReference(KmerProfile):
    """An embedder with a reference whose values are a given share larger."""

    def __init__(self, excess: float) -> None:
        super().__init__(2)
        self._excess = excess

    def reference(
        self, sequences: Sequence[str]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the embedder's rows and the reference's."""
        rows = self.embed(sequences)
        return rows, (rows * (1 + self._excess)).astype(np.float32)


@pytest.mark.parametrize(("excess", "state"), [(4e-5, State.PASS), (6e-5, State.FAIL)])
def test_judge_when_the_embedder_has_a_reference_then_its_rows_must_be_near(
    folder: Path, excess: float, state: State
) -> None:
    """In float32, whatever the store and the run are in: 5e-5 of a row's length."""
    result = judge_embeddings([inspect(folder, embedder=WithReference(excess))])

    assert result.state is state
    assert result.evidence["stores"][0]["reference_difference"] == pytest.approx(excess, rel=0.01)


def test_judge_when_the_embedder_is_the_reference_itself_then_it_says_so(folder: Path) -> None:
    """Transformers' own class is compared with nothing."""
    embedder = KmerProfile(2)
    embedder.is_reference = True  # type: ignore[attr-defined]

    assert "the reference implementation itself" in inspect(folder, embedder=embedder).reference


@pytest.mark.parametrize(
    ("planted", "state"), [(0.0, State.PASS), (0.001, State.PASS), (1.0, State.FAIL)]
)
def test_judge_when_features_have_other_nucleotides_then_fails(
    folder: Path, planted: float, state: State
) -> None:
    """One column of one record is enough: it might hold the label."""
    nucleotides = EmbeddingStore(folder, check_digests=False)
    features = nucleotides.rows(list(SEQUENCES.index))
    features[5, 3] += planted * np.abs(features).max()
    wide = Features(np.hstack([features, features]))

    result = judge_embeddings([inspect_features(wide, nucleotides)])

    assert result.state is state
    if state is State.FAIL:
        assert "features differs from the nucleotide embeddings of the run" in result.detail
        assert "with the nucleotide embeddings that the other side has" in result.next_steps[0]


def test_judge_when_features_are_narrower_than_the_nucleotides_then_fails(folder: Path) -> None:
    """They cannot hold them."""
    nucleotides = EmbeddingStore(folder, check_digests=False)
    narrow = Features(nucleotides.rows(list(SEQUENCES.index))[:, :4])

    result = judge_embeddings([inspect_features(narrow, nucleotides)])

    assert result.state is State.FAIL
    assert result.evidence["stores"][0]["largest_share"] is None


class Features:
    """Features of all records, in memory."""

    def __init__(self, values: npt.NDArray[np.float32]) -> None:
        self.ids = SEQUENCES.index
        self.dim = values.shape[1]
        self._values = values

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return those of some records."""
        return self._values[self.ids.get_indexer(pd.Index(list(ids)))]


def inspect_features(features: Features, nucleotides: EmbeddingStore) -> StoreInspection:
    """Inspect features against the nucleotide embeddings of the run."""
    return inspect_store(
        "features",
        features,
        list(SEQUENCES.index),
        expected_dim=features.dim,
        sha256="0" * 64,
        nucleotides=nucleotides,
    )
