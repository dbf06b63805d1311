"""Embeddings as VirNucPro's files, read back by our readers and by torch alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from harness.data.inputs import require_files
from harness.data.virnucpro import NUCLEOTIDE_ENDING, PROTEIN_ENDING, write_embeddings
from harness.embedding import virnucpro as export
from harness.embedding.virnucpro import (
    DNABERT_DIM,
    ImportedEmbeddings,
    MergedFeatures,
    export_embeddings,
    import_embeddings,
)

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
