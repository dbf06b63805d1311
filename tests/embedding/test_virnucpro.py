"""Embeddings that VirNucPro's tools wrote, converted file by file and joined by id.

Embeddings as VirNucPro's files, read back by our readers and by torch alone.

Features that VirNucPro merged, joined by id.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from harness.data.inputs import require_files
from harness.data.virnucpro import NUCLEOTIDE_ENDING, PROTEIN_ENDING, write_embeddings, write_merged
from harness.embedding import virnucpro as export
from harness.embedding.virnucpro import (
    DNABERT_DIM,
    ImportedEmbeddings,
    MergedFeatures,
    SomeColumns,
    export_embeddings,
    import_embeddings,
)
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


IDS = [f"r{n}" for n in range(7)]
RECORDS = pd.DataFrame({"id": IDS, "label": [1, 0, 1, 1, 0, 1, 1]})
NUCLEOTIDE = np.random.default_rng(0).normal(size=(7, DNABERT_DIM)).astype(np.float32)
PROTEIN = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)


def imported(folder: Path, vectors: npt.NDArray[np.float32]) -> ImportedEmbeddings:
    """Return vectors as a store."""
    folder.mkdir()
    write_embeddings(folder / "x_ESM.pt", IDS, vectors)
    import_embeddings([folder / "x_ESM.pt"], folder)
    return ImportedEmbeddings(folder)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of exported files, three rows in each."""
    monkeypatch.setattr(export, "ROWS_PER_FILE", 3)
    nucleotide, protein = imported(tmp_path / "n", NUCLEOTIDE), imported(tmp_path / "p", PROTEIN)
    export_embeddings(RECORDS, nucleotide, protein, tmp_path / "out")
    return tmp_path / "out"


def test_export_when_read_back_then_every_record_has_its_vectors(
    exported: Path, tmp_path: Path
) -> None:
    """What is written can be brought to a gate again."""
    for ending, expected in ((NUCLEOTIDE_ENDING, NUCLEOTIDE), (PROTEIN_ENDING, PROTEIN)):
        folder = tmp_path / ending
        folder.mkdir()
        import_embeddings(require_files(exported, ending), folder)
        np.testing.assert_array_equal(ImportedEmbeddings(folder).rows(IDS), expected)


def test_export_when_merged_files_are_read_then_labels_and_features_are_the_records(
    exported: Path,
) -> None:
    """One label a file, and a folder name that VirNucPro reads it from."""
    merged = MergedFeatures(exported)

    merged.check_labels(RECORDS)

    np.testing.assert_array_equal(merged.rows(IDS), np.concatenate([NUCLEOTIDE, PROTEIN], axis=1))


def test_export_when_loaded_by_torch_alone_then_the_layout_is_virnucpros(exported: Path) -> None:
    """Spelled out as VirNucPro's own tools would find it, without this project's readers."""
    dna, esm, merged = (
        torch.load(exported / path, weights_only=False)
        for path in (
            "viral/output_2_DNABERT_S.pt",
            "viral/output_2_ESM.pt",
            "viral_merged/output_2_merged.pt",
        )
    )

    assert dna["nucleotide"] == esm["proteins"] == merged["ids"] == ["r5", "r6"]
    assert dna["data"][0] == {"label": "r5", "mean_representation": NUCLEOTIDE[5].tolist()}
    assert (esm["data"][1].shape, esm["data"][1].dtype) == ((5,), torch.float32)
    assert (merged["data"].shape, merged["labels"]) == ((2, DNABERT_DIM + 5), [1])


def test_export_when_the_nucleotides_are_not_dnaberts_then_no_such_file_is_written(
    tmp_path: Path,
) -> None:
    """k-mer counts are never passed off as DNABERT-S."""
    narrow, protein = imported(tmp_path / "n", NUCLEOTIDE[:, :4]), imported(tmp_path / "p", PROTEIN)

    endings = export_embeddings(RECORDS, narrow, protein, tmp_path / "out")

    assert endings == ("_ESM.pt", "_merged.pt")
    assert not list((tmp_path / "out").rglob("*_DNABERT_S.pt"))


FEATURES = np.arange(20, dtype=np.float32).reshape(5, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return three viral rows and two others, in two merged folders."""
    for name, rows, label in (("viral.1.1_merged", [0, 1, 2], 1), ("bacteria_merged", [3, 4], 0)):
        (tmp_path / name).mkdir()
        write_merged(
            tmp_path / name / "output_1_merged.pt",
            [f"r{n}" for n in rows],
            FEATURES[rows],
            label=label,
        )
    return tmp_path


def test_rows_when_asked_across_files_then_each_id_gets_its_own_merged(folder: Path) -> None:
    """Rows are joined by id, whatever file they are in."""
    store = MergedFeatures(folder)

    assert (store.rows(["r4", "r0", "r3"]) == FEATURES[[4, 0, 3]]).all()
    assert (len(store), store.dim) == (5, 4)


def test_rows_when_a_record_has_none_then_it_is_named(folder: Path) -> None:
    """Rows in are rows out, or an error."""
    with pytest.raises(DataError, match="1 of 2 records have no features, such as 'r9'"):
        MergedFeatures(folder).rows(["r0", "r9"])


def test_check_labels_when_they_differ_from_the_records_then_one_is_named(folder: Path) -> None:
    """Features of the other class are features of other data."""
    records = pd.DataFrame({"id": ["r0", "r3"], "label": [1, 1]})

    with pytest.raises(DataError, match=r"1 rows have another label than their records.*'r3'"):
        MergedFeatures(folder).check_labels(records)


def test_check_labels_when_they_agree_then_nothing_is_raised(folder: Path) -> None:
    """Rows without a record, such as those left out by a sample, do not matter."""
    store = MergedFeatures(folder)

    store.check_labels(pd.DataFrame({"id": ["r0", "r3"], "label": [1, 0]}))

    assert "r4" in store.ids


@pytest.mark.parametrize("columns", [slice(-3, None), slice(None, 1), slice(-99, None)])
def test_some_columns_when_read_then_they_are_those_of_the_features(
    folder: Path, columns: slice
) -> None:
    """The protein embedding follows the nucleotide embedding."""
    part = SomeColumns(MergedFeatures(folder), columns)

    assert (part.rows(["r1"]) == FEATURES[[1], columns]).all()
    assert part.dim == FEATURES[:, columns].shape[1]


def test_sha256_when_a_value_changes_then_it_differs(folder: Path) -> None:
    """A head trained on other features is another head."""
    before = MergedFeatures(folder).sha256
    path = folder / "bacteria_merged" / "output_1_merged.pt"
    write_merged(path, ["r3", "r4"], FEATURES[[4, 3]], label=0)

    assert MergedFeatures(folder).sha256 != before
