"""A run whose embeddings VirNucPro's tools have made: read, inspected, and never timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.config import load_config
from harness.criteria.result import State
from harness.data.virnucpro import write_embeddings
from harness.embedding.virnucpro import DNABERT_DIM
from harness.errors import DataError, MissingInput
from harness.pipeline import Judge, Pipeline
from tests.cli.test_commands import write_sequences

Open = Callable[[], Pipeline]

RANDOM = "random_weights = {layers = 1, hidden_size = 8, heads = 1, intermediate_size = 8}\n"


@pytest.fixture
def gate_toml(tmp_path: Path) -> Path:
    """Return settings by which the nucleotides and the baseline's proteins are brought."""
    path = write_sequences(tmp_path)
    text = path.read_text().replace('name = "b"\n', 'name = "b"\nembeddings = "files"\n')
    path.write_text(f'{text}{RANDOM}[nucleotide]\nembeddings = "files"\n')
    return path


@pytest.fixture
def open_run(gate_toml: Path, tmp_path: Path) -> Open:
    """Return a function that opens the run anew."""
    return lambda: Pipeline(load_config(gate_toml), tmp_path / "work")


def bring(run: Pipeline, folder: Path, *, leave_out: int = 0) -> pd.Series[str]:
    """Write the files of all records but some; return the ids."""
    rng = np.random.default_rng(5)
    ids = run.samples.records()["id"]
    for ending, dim in (("DNABERT_S", DNABERT_DIM), ("ESM", 6)):
        vectors = rng.normal(size=(len(ids) - leave_out, dim)).astype(np.float32)
        for number, rows in enumerate(np.array_split(np.arange(len(vectors)), 3)):
            names = ids.iloc[rows].tolist()
            write_embeddings(folder / f"output_{number}_{ending}.pt", names, vectors[rows])
    return ids


def test_features_when_both_are_brought_then_they_stand_side_by_side(
    open_run: Open, tmp_path: Path
) -> None:
    """Nucleotide, then protein embedding, joined by id; the files are converted once."""
    run = open_run()
    ids = bring(run, tmp_path / "files")

    features = run.vectors.features("baseline", ids[:5])

    again = open_run()
    np.testing.assert_array_equal(again.vectors.features("baseline", ids[:5]), features)
    assert features.shape == (5, DNABERT_DIM + 6)
    assert again.cache.artifacts["embeddings nucleotide"].is_reused


def test_embedding_integrity_when_embeddings_are_brought_then_each_store_is_inspected(
    open_run: Open, tmp_path: Path
) -> None:
    """Widths, rows and finiteness; only what has a model is computed again."""
    run = open_run()
    bring(run, tmp_path / "files")

    result = Judge(run).embedding_integrity()

    assert result.state is State.PASS
    stores = {s["name"]: (s["dim"], s["n_recomputed"]) for s in result.evidence["stores"]}
    assert stores == {"baseline": (6, 0), "candidate": (8, 8), "nucleotide": (DNABERT_DIM, 0)}


def test_embedding_integrity_when_a_record_is_left_out_then_it_fails(
    open_run: Open, tmp_path: Path
) -> None:
    """One row a record, or no pass."""
    run = open_run()
    bring(run, tmp_path / "files", leave_out=1)

    result = Judge(run).embedding_integrity()

    assert result.state is State.FAIL
    assert "baseline has 119 rows for 120 records" in result.detail
    assert "nucleotide has 119 rows for 120 records" in result.detail


def test_digests_when_a_value_changes_then_the_head_is_trained_anew(
    open_run: Open, tmp_path: Path
) -> None:
    """A head trained on other embeddings is another head."""
    run = open_run()
    ids = bring(run, tmp_path / "files")
    before = run.vectors.feature_digests("baseline")
    first = ids.iloc[:40].tolist()
    write_embeddings(tmp_path / "files" / "output_0_ESM.pt", first, np.ones((40, 6), np.float32))

    after = open_run().vectors.feature_digests("baseline")

    assert before["nucleotide"] == after["nucleotide"]
    assert before["protein"] != after["protein"]


def test_nucleotides_when_they_are_not_as_wide_as_dnaberts_then_the_file_is_named(
    open_run: Open, tmp_path: Path
) -> None:
    """Another model's vectors are refused before anything is trained on them."""
    run = open_run()
    bring(run, tmp_path / "files")
    write_embeddings(tmp_path / "files" / "a_DNABERT_S.pt", ["more"], np.ones((1, 7), np.float32))

    with pytest.raises(DataError, match=r"a_DNABERT_S\.pt: 7 values a row .* expected 768"):
        run.vectors.nucleotide_embeddings()


def test_stopwatch_when_a_side_brings_embeddings_alone_then_nothing_is_timed(
    open_run: Open, tmp_path: Path
) -> None:
    """What was computed elsewhere, in unknown time, has no speed here."""
    run = open_run()
    bring(run, tmp_path / "files")

    with pytest.raises(MissingInput, match=r"\[baseline\] names no model"), Judge(run).stopwatch():
        pass
