"""The embedding store: whole, resumable, honest about what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from harness.embedding import store as store_module
from harness.embedding.nucleotide.kmer import KmerProfile
from harness.embedding.store import EmbeddingStore, write_store
from harness.errors import ArtifactError, DataError

IDS = [f"r{n}" for n in range(10)]
SEQUENCES = ["ACGT" * 3 + "ACGT"[n % 4] * n for n in range(10)]


class Interrupted(KmerProfile):
    """Stops at the third call, as a lost machine would."""

    calls = 0

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Embed twice, then stop."""
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().embed(sequences, on_progress=on_progress)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ROWS_PER_SHARD", 3)


def test_rows_when_asked_in_any_order_then_each_id_gets_its_own(tmp_path: Path) -> None:
    """Rows are joined by id, across shards."""
    write_store(tmp_path, IDS, SEQUENCES, KmerProfile(2))
    asked = [7, 0, 9, 3, 3]

    rows = EmbeddingStore(tmp_path).rows([IDS[n] for n in asked])

    assert (rows == KmerProfile(2).embed([SEQUENCES[n] for n in asked])).all()


def test_write_store_when_interrupted_then_it_goes_on_without_repeating(tmp_path: Path) -> None:
    """Finished shards are kept, and the result equals an uninterrupted one."""
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path, IDS, SEQUENCES, Interrupted(2))
    rest = Interrupted(2)
    write_store(tmp_path, IDS, SEQUENCES, rest)

    assert rest.calls == 2
    assert (EmbeddingStore(tmp_path).rows(IDS) == KmerProfile(2).embed(SEQUENCES)).all()


def test_rows_when_a_record_is_missing_then_it_is_named(tmp_path: Path) -> None:
    """Rows in are rows out, or an error."""
    write_store(tmp_path, IDS, SEQUENCES, KmerProfile(2))

    with pytest.raises(DataError, match="1 records are not in this store, such as 'r99'"):
        EmbeddingStore(tmp_path).rows(["r1", "r99"])


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "index.parquet"])
def test_open_when_a_file_is_damaged_then_it_is_named(tmp_path: Path, name: str) -> None:
    """A damaged shard or index is never read as data."""
    write_store(tmp_path, IDS, SEQUENCES, KmerProfile(2))
    (tmp_path / name).write_bytes(b"junk")

    with pytest.raises(ArtifactError, match=name):
        EmbeddingStore(tmp_path)


def test_write_store_when_counts_differ_then_it_is_refused(tmp_path: Path) -> None:
    """An id without a sequence is an error, and so is nothing at all."""
    with pytest.raises(DataError, match="got 10 and 9"):
        write_store(tmp_path, IDS, SEQUENCES[:-1], KmerProfile(2))
    with pytest.raises(DataError, match="got 0 and 0"):
        write_store(tmp_path, [], [], KmerProfile(2))
