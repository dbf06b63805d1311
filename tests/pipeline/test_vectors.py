"""The embeddings of a run: made by several processes, brought, or by DNABERT-S."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.config import STORE_DTYPES, GateConfig, RandomWeights, load_config
from harness.criteria.result import State
from harness.data import read_records
from harness.data.virnucpro import write_embeddings
from harness.embedding import EmbeddingStore
from harness.embedding.random_weights import write_dnabert
from harness.embedding.virnucpro import DNABERT_DIM
from harness.errors import DataError, HarnessError, MissingInput, NotFiniteError
from harness.pipeline import Judge, Pipeline
from harness.pipeline import vectors as extraction
from harness.pipeline.facts import describe_run
from harness.pipeline.vectors import SIDES, count_processes, run_on_ranks
from harness.progress import Progress
from tests.pipeline.conftest import write_sequences

ACCEPTANCE = Path(__file__).parents[2] / "acceptance"
SHAPE = {"layers": 1, "hidden_size": 8, "heads": 1, "intermediate_size": 8}
CONFIG = {
    "device": "cpu",
    "threads": 1,
    "data": {"viral": ["viral"], "nonviral": ["nonviral"]},
    "baseline": {"name": "baseline", "random_weights": SHAPE},
    "candidate": {"name": "candidate", "random_weights": SHAPE | {"seed": 1}},
    "nucleotide": {"kind": "kmer", "k": 1},
}


@pytest.mark.parametrize(
    ("device", "n_gpus", "is_rank", "expected"),
    [
        ("cuda", 8, False, 8),
        ("cuda", 1, False, 1),
        ("cuda", 0, False, 1),
        ("cuda", 8, True, 1),
        ("cuda:3", 8, False, 1),
        ("cpu", 8, False, 1),
    ],
)
def test_count_processes_then_one_a_gpu_unless_one_is_named(
    device: str, n_gpus: int, is_rank: bool, expected: int
) -> None:
    """And none below a process that is one of several already."""
    assert count_processes(device, n_gpus=n_gpus, is_rank=is_rank) == expected


@pytest.mark.parametrize("dtype", STORE_DTYPES)
def test_embeddings_when_a_store_dtype_is_set_then_all_stores_have_it(
    tmp_path: Path, dtype: str
) -> None:
    """Both sides alike, so that only the models differ; the nucleotides, too."""
    write_sequences(tmp_path)
    sources = {"data": {"viral": ["viral"], "nonviral": ["bacteria"]}, "store_dtype": dtype}
    config = GateConfig.from_dict(CONFIG | sources, folder=tmp_path)
    vectors = Pipeline(config, tmp_path / "work").vectors

    made = [*map(vectors.embeddings, SIDES), vectors.nucleotides()]

    assert [getattr(embedded.store, "dtype", None) for embedded in made] == [dtype] * 3
    assert vectors.features("baseline", made[0].store.ids[:5].to_series()).shape == (5, 8 + 4)


def test_embeddings_when_the_model_is_missing_then_no_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is found out here, and is a MissingInput: NOT_RUN, not an error of a rank."""
    write_sequences(tmp_path)
    brought = {"baseline": {"name": "baseline", "model": "nowhere"}}
    sources = {"data": {"viral": ["viral"], "nonviral": ["bacteria"]}}
    config = GateConfig.from_dict(CONFIG | sources | brought, folder=tmp_path)
    monkeypatch.setattr(extraction, "count_processes", lambda *_, **__: 2)
    monkeypatch.setattr(extraction, "run_on_ranks", lambda *_: pytest.fail("started"))

    with pytest.raises(MissingInput, match="nowhere"):
        Pipeline(config, tmp_path / "work").vectors.embeddings("baseline")


@pytest.mark.slow  # torch is loaded three times
def test_embeddings_when_made_by_two_processes_then_equal_those_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real torchrun, on the real data set: three shards, the same bytes, one rate of both."""
    config = GateConfig.from_dict(CONFIG, folder=ACCEPTANCE / "data")
    alone = Pipeline(config, tmp_path / "alone").vectors.embeddings("baseline").store
    monkeypatch.setattr(extraction, "count_processes", lambda *_, **__: 2)
    log = io.StringIO()
    together = Pipeline(config, tmp_path / "together", progress=Progress(log))
    monkeypatch.setattr(extraction, "write_store", lambda *_, **__: pytest.fail("made here"))

    store = together.vectors.embeddings("baseline").store

    assert together.cache.obtained["embeddings baseline"].is_reused
    assert len(list(store.folder.glob("shard-*"))) == 3
    assert _contents(store) == _contents(alone)
    assert " tokens/s, 2 processes)\n" in log.getvalue()
    stages = {stage.name: stage.is_reused for stage in together.cache.log.stages}
    assert (stages["embed baseline on 2 GPUs"], stages["embed baseline"]) == (False, True)
    pace = describe_run(together)["extraction"]["baseline"]
    assert (pace["n_processes"], pace["n_sequences"], pace["n_out_of_memory"]) == (2, 4520, 0)


def test_run_on_ranks_when_one_fails_then_its_message_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise of torchrun is passed on, but not repeated."""
    torchrun = tmp_path / "python"
    torchrun.write_text("#!/bin/sh\necho noise >&2\necho 'rank 1 of 2 on here: full' >&2\nexit 3\n")
    torchrun.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(torchrun))
    said: list[str] = []

    with pytest.raises(HarnessError) as failed:
        run_on_ranks(2, ["embed", "both"], said.append)

    assert str(failed.value).splitlines() == [
        "harness embed both ended with exit code 3 on a rank:",
        "rank 1 of 2 on here: full",
    ]
    assert said == ["noise", "rank 1 of 2 on here: full"]


def test_run_on_ranks_when_vectors_are_not_finite_then_the_same_error_as_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The integrity of the embeddings fails; nothing in the gate is broken."""
    torchrun, error = tmp_path / "python", NotFiniteError("rank 1 of 2 on here: 3 vectors")
    (tmp_path / "message").write_text(f"noise\n{error}\n")
    torchrun.write_text(f"#!/bin/sh\ncat {tmp_path / 'message'} >&2\nexit 3\n")
    torchrun.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(torchrun))

    with pytest.raises(NotFiniteError) as failed:
        run_on_ranks(2, ["embed", "both"], lambda _: None)

    assert str(failed.value) == str(error)


def _contents(store: EmbeddingStore) -> dict[str, bytes]:
    files = (path for path in store.folder.iterdir() if path.name != "manifest.json")
    return {path.name: path.read_bytes() for path in files}


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
    data = run.config.data
    ids = read_records(data.viral, data.nonviral).records["id"]
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
    assert again.cache.obtained["embeddings nucleotide"].is_reused


def test_embedding_integrity_when_embeddings_are_brought_then_each_store_is_inspected(
    open_run: Open, tmp_path: Path
) -> None:
    """Widths, rows and finiteness; only what has a model is computed again: different proteins."""
    run = open_run()
    bring(run, tmp_path / "files")
    n_different = run.samples.part("test")["protein"].nunique()

    result = Judge(run)("embedding-integrity")

    assert result.state is State.PASS
    stores = {s["name"]: (s["dim"], s["n_recomputed"]) for s in result.evidence["stores"]}
    again = (8, n_different)
    assert stores == {"baseline": (6, 0), "candidate": again, "nucleotide": (DNABERT_DIM, 0)}


def test_records_when_a_vector_is_missing_then_rejected_by_that_reason(
    open_run: Open, tmp_path: Path
) -> None:
    """VirNucPro itself embeds full chunks alone; its rest stops no run, and is on record."""
    run = open_run()
    ids = bring(run, tmp_path / "files", leave_out=1)

    assert run.samples.records()["id"].tolist() == ids[:-1].tolist()
    rejected = pd.read_csv(run.samples.stored().path / "rejected.csv")
    assert rejected["id"].tolist() == [ids.iloc[-1]]
    assert rejected["reason"].tolist() == ["no vector in the embeddings that are brought"]


def test_records_when_too_many_vectors_are_missing_then_refused(
    open_run: Open, tmp_path: Path
) -> None:
    """Before anything is embedded."""
    run = open_run()
    bring(run, tmp_path / "files", leave_out=7)

    with pytest.raises(DataError, match=r"7 of 120 records have no vector .* 5\.00%"):
        run.samples.records()


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
        run.vectors.nucleotides()


def test_stopwatch_when_a_side_brings_embeddings_alone_then_nothing_is_timed(
    open_run: Open, tmp_path: Path
) -> None:
    """What was computed elsewhere, in unknown time, has no speed here."""
    run = open_run()
    bring(run, tmp_path / "files")

    with pytest.raises(MissingInput, match=r"\[baseline\] names no model"), Judge(run).stopwatch():
        pass


def test_nucleotides_when_a_checkpoint_is_named_then_it_embeds_in_the_dtype_asked_for(
    tmp_path: Path,
) -> None:
    """No leave and no commit is needed, and untrained weights make a rehearsal."""
    (tmp_path / "dna").mkdir()
    shape = RandomWeights(layers=1, hidden_size=8, heads=2, intermediate_size=8, seed=1)
    write_dnabert(tmp_path / "dna", shape, ["ACGTTGCA"])
    path = write_sequences(tmp_path)
    path.write_text(f'{path.read_text()}[nucleotide]\nmodel = "dna"\ndtype = "bfloat16"\n')
    run = Pipeline(load_config(path), tmp_path / "work")

    store = run.vectors.nucleotides().store

    embedder = run.vectors.nucleotide_embedder()
    assert (len(store), store.dim) == (120, 8)
    assert embedder is not None
    assert embedder.dtype == "bfloat16"
    assert "the nucleotide model's weights are random" in describe_run(run)["rehearsal_reasons"]
