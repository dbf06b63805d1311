"""Reading a store: rows by id, and what is damaged or lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.embedding import EmbeddingStore, KmerProfile
from harness.errors import ArtifactError, DataError
from tests.embedding.store.conftest import IDS, SEQUENCES, write

VECTORS = KmerProfile(2).embed(SEQUENCES)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """Return a finished store, opened."""
    folder = tmp_path_factory.mktemp("store")
    write(folder)
    return EmbeddingStore(folder)


@given(asked=st.lists(st.integers(0, 9)))
def test_rows_when_asked_in_any_order_then_each_id_gets_its_own(
    store: EmbeddingStore, asked: list[int]
) -> None:
    """Rows are joined by id, across shards, repeated ones included, and none for none."""
    np.testing.assert_array_equal(store.rows([IDS[n] for n in asked]), VECTORS[asked])


def test_rows_when_a_record_is_missing_then_it_is_named(store: EmbeddingStore) -> None:
    """Rows in are rows out, or an error."""
    with pytest.raises(DataError, match="1 of 2 records have no embedding, such as 'r99'"):
        store.rows(["r1", "r99"])


NAMES = ["shard-000002.safetensors", "index.parquet", "embeddings.json"]


@pytest.mark.parametrize("name", NAMES)
def test_open_when_a_file_is_damaged_then_it_is_named(folder: Path, name: str) -> None:
    """A damaged shard, index or manifest is never read as data."""
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"e", b"f", 1))

    with pytest.raises(ArtifactError, match=name):
        EmbeddingStore(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check_digests", [True, False])
def test_open_when_a_file_is_cut_short_or_lost_then_it_is_named(
    folder: Path, name: str, check_digests: bool
) -> None:
    """Even where the digests are not compared again."""
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=name):
        EmbeddingStore(folder, check_digests=check_digests)
    path.unlink()
    with pytest.raises(ArtifactError, match=name):
        EmbeddingStore(folder, check_digests=check_digests)


def test_open_when_the_layout_is_another_then_it_is_refused(folder: Path) -> None:
    """What an older or newer version wrote is not guessed at."""
    path = folder / "embeddings.json"
    path.write_text(path.read_text().replace('"layout": 2', '"layout": 3'))

    with pytest.raises(ArtifactError, match="expected layout 2, found 3"):
        EmbeddingStore(folder)


def test_rows_when_a_shard_is_lost_while_open_then_it_is_named(folder: Path) -> None:
    """Shards are opened when they are read."""
    store = EmbeddingStore(folder)
    (folder / "shard-000001.safetensors").unlink()

    assert len(store.rows(["r0"])) == 1
    with pytest.raises(ArtifactError, match="shard-000001"):
        store.rows(["r3"])
