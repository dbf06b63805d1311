"""Writing a store: resumed shard by shard, honest about damage, in the dtype asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import safe_open

from harness.artifacts import digest_file
from harness.embedding import EmbeddingStore, KmerProfile, write_store
from harness.embedding.store import choose_rows_per_shard
from harness.errors import ArtifactError, DataError
from tests.embedding.store.conftest import IDS, SEQUENCES, Counting, contents, write


class Interrupted(Counting):
    """Stops at the third shard, as Ctrl-C would."""

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Embed twice, then stop."""
        if len(self.asked) == 6:
            raise KeyboardInterrupt
        return super().embed(sequences, on_progress=on_progress)


class Constant(KmerProfile):
    """Gives every sequence the same vector."""

    def __init__(self, vector: list[float]) -> None:
        super().__init__(2)
        self.dim = 2
        self.vector = vector

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return that vector."""
        return np.array([self.vector] * len(sequences), dtype=np.float32)


def test_write_store_when_interrupted_then_it_goes_on_without_repeating(tmp_path: Path) -> None:
    """Finished shards are kept, and the files equal those of an uninterrupted run."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "halved", Interrupted())
    rest = Counting()
    write(tmp_path / "halved", rest)
    write(tmp_path / "whole")

    assert rest.asked == SEQUENCES[6:]
    assert contents(tmp_path / "halved") == contents(tmp_path / "whole")


def test_write_store_then_the_manifest_tells_settings_and_digests(folder: Path) -> None:
    """Model, records, shape, dtype, and the sha256 of every file."""
    manifest = json.loads((folder / "embeddings.json").read_text())

    assert manifest["settings"] == {
        "embedder": "2-mer profile",
        "embedder_sha256": KmerProfile(2).digest,
        "records_sha256": manifest["settings"]["records_sha256"],
        "n_rows": 10,
        "dim": 16,
        "dtype": "float32",
        "rows_per_shard": 3,
    }
    assert len(manifest["files"]) == 5
    assert all(digest_file(folder / name) == sha for name, sha in manifest["files"].items())


@pytest.mark.parametrize("position", [0, 20, 100, -1])
def test_write_store_when_a_shard_that_it_finds_is_damaged_then_it_is_named(
    folder: Path, position: int
) -> None:
    """One flipped bit anywhere, and only that file need be deleted to go on."""
    whole, path = contents(folder), folder / "shard-000001.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match=r"shard-000001\.safetensors: is damaged.*Delete this"):
        write(folder)
    path.unlink()
    again = Counting()
    write(folder, again)

    assert again.asked == SEQUENCES[3:6]
    assert contents(folder) == whole


def test_write_store_when_the_shards_are_of_other_records_then_they_are_refused(
    tmp_path: Path,
) -> None:
    """The same shape, but not the same sequences."""
    write_store(tmp_path, IDS, SEQUENCES[::-1], KmerProfile(2), rows_per_shard=3)

    with pytest.raises(ArtifactError, match=r"shard-000000.* of another extraction"):
        write(tmp_path)


def test_write_store_when_a_write_was_cut_off_then_its_leftover_goes(folder: Path) -> None:
    """Half a shard under a temporary name is no part of the store."""
    whole = contents(folder)
    (folder / ".shard-000000.safetensors.ab12").write_bytes(b"half")

    write(folder)

    assert contents(folder) == whole


@pytest.mark.parametrize(("dtype", "name"), [("float16", "F16"), ("bfloat16", "BF16")])
def test_write_store_when_a_dtype_is_asked_for_then_it_is_kept(
    tmp_path: Path, dtype: str, name: str
) -> None:
    """Half the bytes, rounded to nearest, read as float32, resumed all the same."""
    embedder = Constant([1.0 + 3 * 2**-10, -70.0])
    write(tmp_path, embedder, dtype)
    write(tmp_path, embedder, dtype)
    store = EmbeddingStore(tmp_path)

    with safe_open(tmp_path / "shard-000000.safetensors", framework="np") as file:
        assert file.get_slice("embeddings").get_dtype() == name
    first = 1.0 + 3 * 2**-10 if dtype == "float16" else 1.0
    assert store.dtype == dtype
    assert store.rows(["r4"]).tolist() == [[first, -70.0]]
    assert store.rows(["r4"]).dtype == np.float32


def test_write_store_when_a_value_does_not_fit_the_dtype_then_it_is_refused(tmp_path: Path) -> None:
    """Never silently infinite."""
    with pytest.raises(DataError, match=r"row 0 .* holds 70000, too large for float16"):
        write(tmp_path, Constant([1.0, 7e4]), "float16")
    with pytest.raises(ValueError, match="expected a dtype of float32"):
        write(tmp_path, Constant([1.0, 7e4]), "int8")


def test_write_store_when_counts_differ_then_it_is_refused(tmp_path: Path) -> None:
    """An id without a sequence is an error, and so is nothing at all."""
    with pytest.raises(DataError, match="got 10 and 9"):
        write_store(tmp_path, IDS, SEQUENCES[:-1], KmerProfile(2))
    with pytest.raises(DataError, match="got 0 and 0"):
        write_store(tmp_path, [], [], KmerProfile(2))


def test_write_store_when_the_embedder_loses_a_row_then_it_is_refused(tmp_path: Path) -> None:
    """Rows in are rows out."""

    class Losing(KmerProfile):
        def embed(
            self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
        ) -> npt.NDArray[np.float32]:
            return super().embed(sequences[1:])

    with pytest.raises(ValueError, match=r"expected vectors of shape \(3, 16\), got \(2, 16\)"):
        write(tmp_path, Losing(2))


@pytest.mark.parametrize(("n_rows", "expected"), [(1, 2048), (2_000_000, 8192), (10**9, 16_384)])
def test_choose_rows_per_shard_then_about_256_shards_within_bounds(
    n_rows: int, expected: int
) -> None:
    """From the number of rows alone."""
    assert choose_rows_per_shard(n_rows) == expected
