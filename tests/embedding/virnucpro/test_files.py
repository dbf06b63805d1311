"""Embeddings that VirNucPro's tools wrote, converted file by file and joined by id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.inputs import require_files
from harness.data.virnucpro import PROTEIN_ENDING, write_embeddings
from harness.embedding.virnucpro import ImportedEmbeddings, import_embeddings
from harness.errors import ArtifactError, DataError

VECTORS = np.arange(20, dtype=np.float32).reshape(5, 4)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with three rows in one file and two in another."""
    folder = tmp_path / "files"
    write_embeddings(folder / "viral" / "output_1_ESM.pt", ["r0", "r1", "r2"], VECTORS[:3])
    write_embeddings(folder / "other" / "output_1_ESM.pt", ["r3", "r4"], VECTORS[3:])
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return an empty folder."""
    folder = tmp_path / "converted"
    folder.mkdir()
    return folder


def test_rows_when_asked_across_files_then_each_id_gets_its_own(files: Path, target: Path) -> None:
    """Rows are joined by id, whatever file they are in."""
    import_embeddings(require_files(files, PROTEIN_ENDING), target)

    store = ImportedEmbeddings(target)

    assert (store.rows(["r4", "r0", "r3", "r0"]) == VECTORS[[4, 0, 3, 0]]).all()
    assert (len(store), store.dim, set(store.ids)) == (5, 4, {f"r{n}" for n in range(5)})


def test_rows_when_a_record_is_missing_then_it_is_named(files: Path, target: Path) -> None:
    """Rows in are rows out, or an error."""
    import_embeddings(require_files(files, PROTEIN_ENDING), target)

    with pytest.raises(DataError, match="1 of 2 records have no embedding, such as 'r9'"):
        ImportedEmbeddings(target).rows(["r0", "r9"])


def test_import_when_an_id_stands_in_two_files_then_both_are_named(
    files: Path, target: Path
) -> None:
    """A record that stands twice could not be joined."""
    write_embeddings(files / "viral" / "output_2_ESM.pt", ["r4"], VECTORS[:1])

    with pytest.raises(DataError, match=r"'r4' in .*other/output_1_ESM.pt and .*output_2_ESM.pt"):
        import_embeddings(require_files(files, PROTEIN_ENDING), target)


def test_import_when_files_are_at_fault_then_each_is_listed_with_its_record(
    files: Path, target: Path
) -> None:
    """One run shows all that must be repaired."""
    bad = VECTORS[:2].copy()
    bad[1, 2] = np.nan
    write_embeddings(files / "viral" / "output_2_ESM.pt", ["r5", "r6"], bad)
    write_embeddings(files / "viral" / "output_3_ESM.pt", ["r7"], VECTORS[:1, :3])

    with pytest.raises(
        DataError,
        match=r"(?s)2 of 4 files:.*not finite, the first is that of 'r6'"
        r".*output_3_ESM.pt: 3 values a row from 'r7' on, expected 4",
    ):
        import_embeddings(require_files(files, PROTEIN_ENDING), target)


def test_import_when_another_width_is_asked_for_then_the_file_is_refused(
    files: Path, target: Path
) -> None:
    """DNABERT-S gives 768 numbers; other widths are another model's."""
    with pytest.raises(DataError, match="4 values a row from 'r3' on, expected 768"):
        import_embeddings(require_files(files, PROTEIN_ENDING), target, dim=768)


@pytest.mark.parametrize("name", ["part-00000.npy", "index.parquet"])
def test_open_when_a_converted_file_is_damaged_then_it_is_named(
    files: Path, target: Path, name: str
) -> None:
    """A damaged part or index is never read as data."""
    import_embeddings(require_files(files, PROTEIN_ENDING), target)
    (target / name).write_bytes(b"junk")

    with pytest.raises(ArtifactError, match=name):
        ImportedEmbeddings(target)
