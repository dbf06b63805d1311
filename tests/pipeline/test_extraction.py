"""Extraction on several processes: how many, and that the run then finds what they made."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from harness.config import STORE_DTYPES, GateConfig
from harness.embedding import EmbeddingStore
from harness.errors import HarnessError, MissingInput
from harness.pipeline import Pipeline
from harness.pipeline import vectors as extraction
from harness.pipeline.facts import describe_run
from harness.pipeline.vectors import SIDES, count_processes, run_on_ranks
from harness.progress import Progress
from tests.cli.test_commands import write_sequences

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

    stores = [*map(vectors.embeddings, SIDES), vectors.nucleotide_embeddings()]

    assert [getattr(store, "dtype", None) for store in stores] == [dtype] * 3
    assert vectors.features("baseline", stores[0].ids[:5].to_series()).shape == (5, 8 + 4)


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
    alone = Pipeline(config, tmp_path / "alone").vectors.embeddings("baseline")
    monkeypatch.setattr(extraction, "count_processes", lambda *_, **__: 2)
    log = io.StringIO()
    together = Pipeline(config, tmp_path / "together", progress=Progress(log))
    monkeypatch.setattr(extraction, "write_store", lambda *_, **__: pytest.fail("made here"))

    store = together.vectors.embeddings("baseline")

    assert together.cache.artifacts["embeddings baseline"].is_reused
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


def _contents(store: EmbeddingStore) -> dict[str, bytes]:
    files = (path for path in store.folder.iterdir() if path.name != "manifest.json")
    return {path.name: path.read_bytes() for path in files}
