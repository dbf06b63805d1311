"""Heads of a run: never lost, the declared seed judged, others beside it, in memory or on disk."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.config import GateConfig, load_config
from harness.pipeline import Pipeline, Side
from harness.pipeline import heads as feature_rows
from harness.pipeline.facts import describe_run
from harness.pipeline.heads import memory_bytes
from harness.pipeline.vectors import Vectors
from harness.progress import Progress
from harness.training import HeadTrainer, TrainedHead, fit_head, load_head
from harness.training.checkpoints import read_head_metadata
from tests.pipeline.conftest import SETTINGS, write_sequences

Open = Callable[..., Pipeline]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with gate.toml and a work directory in which all but the heads is made."""
    folder = tmp_path_factory.mktemp("run")
    write_sequences(folder).write_text(SETTINGS)
    pipeline = Pipeline(load_config(folder / "gate.toml"), folder / "work")
    pipeline.samples.split()
    for side in ("baseline", "candidate"):
        pipeline.vectors.feature_stores(side)
    return folder


@pytest.fixture
def open_run(embedded: Path, tmp_path: Path) -> Open:
    """Return a call that opens the run in a work directory of the test's own."""
    shutil.copytree(embedded / "work", tmp_path / "work")
    config = load_config(embedded / "gate.toml")

    def call(
        *, work_dir: Path | None = None, stream: Progress | None = None, **training: Any
    ) -> Pipeline:
        return Pipeline(
            with_training(config, training), work_dir or tmp_path / "work", progress=stream
        )

    return call


def with_training(config: GateConfig, changes: dict[str, Any]) -> GateConfig:
    """Return the settings with another recipe."""
    return replace(config, training=replace(config.training, **changes))


def files_of(folder: Path) -> dict[str, Any]:
    """Return what an artifact holds, without times: bytes of heads, and the rest as values."""
    content: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    facts = json.loads(content["training.json"])
    for record in facts["history"]:
        del record["elapsed_seconds"], record["rows_per_second"]
    lines = content["training.jsonl"].splitlines()
    return content | {"training.json": facts, "training.jsonl": len(lines), "manifest.json": ""}


class _Interrupting(Progress):
    """Ctrl-C, as pytest lets it happen: after an epoch, within whatever runs then."""

    def __init__(self, n_epochs: int) -> None:
        super().__init__()
        self._n_epochs = n_epochs

    def line(self, text: str) -> None:
        self._n_epochs -= 1
        if self._n_epochs == 0:
            raise KeyboardInterrupt


def test_training_that_is_interrupted_then_the_next_run_goes_on_to_the_same_artifact(
    open_run: Open, embedded: Path, tmp_path: Path
) -> None:
    """Nothing but the times tells which of the two was interrupted."""
    shutil.copytree(embedded / "work", tmp_path / "whole")
    expected = open_run(work_dir=tmp_path / "whole").heads.head("candidate")
    with pytest.raises(KeyboardInterrupt):
        open_run(stream=_Interrupting(4)).heads.head("candidate")
    (unfinished,) = (tmp_path / "work" / "heads").glob("*.partial/unfinished")
    (unfinished.parent / ".head.safetensors.torn").write_text("a write that was killed")
    log = io.StringIO()

    found = open_run(stream=Progress(log)).heads.head("candidate")

    assert log.getvalue().startswith("train candidate, seed 42: epoch 5/6, ")
    assert files_of(found.path) == files_of(expected.path)


@pytest.mark.parametrize("save_best", [True, False])
def test_head_then_the_final_model_is_always_there(open_run: Open, save_best: bool) -> None:
    """The best one is a file beside it, and the file to judge says which of the two it is."""
    folder = open_run(save_best=save_best).heads.head("candidate").path

    which = {path.name: read_head_metadata(path)["which"] for path in folder.glob("*.safetensors")}
    expected = {"head.safetensors": "best", "final.safetensors": "final"}
    assert which == (expected if save_best else {"head.safetensors": "final"})


def test_log_then_has_a_line_an_epoch(open_run: Open) -> None:
    """With the losses, in the order of the epochs."""
    log = io.StringIO()

    open_run(stream=Progress(log)).heads.head("baseline")

    starts = [line.split(", learning rate")[0] for line in log.getvalue().splitlines()]
    expected = [f"train baseline, seed 42: epoch {epoch}/6" for epoch in range(1, 7)]
    assert [start for start in starts if start in expected] == expected


def features(pipeline: Pipeline, side: Side) -> dict[str, Any]:
    """Return the rows that a side's heads are trained on, as ``fit_head`` takes them."""
    parts = {name: pipeline.samples.part(name) for name in ("train", "validation")}
    return {
        "features": pipeline.vectors.features(side, parts["train"]["id"]),
        "labels": parts["train"]["label"],
        "validation_features": pipeline.vectors.features(side, parts["validation"]["id"]),
        "validation_labels": parts["validation"]["label"],
    }


def test_spread_then_each_seed_is_trained_on_the_same_rows(open_run: Open) -> None:
    """A seed's numbers are those of a training with it alone."""
    pipeline = open_run()

    spread = pipeline.heads.spread("candidate", 3)

    rows = features(pipeline, "candidate")
    alone = [fit_head(**rows, recipe=pipeline.config.training, seed=seed) for seed in (42, 43, 44)]
    assert [row["seed"] for row in spread] == [42, 43, 44]
    assert [row["validation_loss"] for row in spread] == [
        trained.history[-1].validation_loss for trained in alone
    ]


def test_spread_when_the_best_heads_were_kept_then_their_epoch_counts(open_run: Open) -> None:
    """The numbers are those of the heads that would be evaluated."""
    pipeline = open_run(save_best=True)

    (first, _) = pipeline.heads.spread("candidate", 2)

    history = pipeline.heads.training("candidate")["history"]
    losses = [record["validation_loss"] for record in history]
    assert first["validation_loss"] == losses[first["best_epoch"] - 1] == min(losses)


def test_spread_then_reads_no_test_row(open_run: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test set is read once, by the head that is judged."""
    read: list[str] = []
    original = Vectors.features

    def spy(self: Vectors, side: Side, ids: pd.Series[str]) -> Any:
        read.extend(ids)
        return original(self, side, ids)

    monkeypatch.setattr(Vectors, "features", spy)
    pipeline = open_run()

    pipeline.heads.spread("baseline", 2)

    assert read
    assert not set(read) & set(pipeline.samples.split().test)


@pytest.mark.parametrize(("is_kept", "n_readings"), [(True, 2), (False, 4)])
def test_rows_that_are_kept_then_are_read_once_for_all_seeds(
    open_run: Open, monkeypatch: pytest.MonkeyPatch, is_kept: bool, n_readings: int
) -> None:
    """Training and validation rows; nothing of them stays afterwards."""
    read: list[Side] = []
    original = Vectors.features

    def spy(self: Vectors, side: Side, ids: pd.Series[str]) -> Any:
        read.append(side)
        return original(self, side, ids)

    monkeypatch.setattr(Vectors, "features", spy)
    heads = open_run().heads

    with heads.keeping_rows() if is_kept else nullcontext():
        heads.head("baseline")
        heads.spread("baseline", 3)

    assert read == n_readings * ["baseline"]
    heads.head("candidate")
    assert not heads._kept


def test_spread_when_another_seed_is_better_then_the_declared_one_is_judged(
    open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict shows the others, and judges none of them."""
    fit = HeadTrainer.fit

    def flatter(self: HeadTrainer, **keywords: Any) -> TrainedHead:
        trained = fit(self, **keywords)
        if trained.seed == 42:
            return trained
        better = [replace(r, validation_loss=0.0) for r in trained.history]
        return replace(trained, history=tuple(better))

    monkeypatch.setattr(HeadTrainer, "fit", flatter)
    open_run().heads.spread("candidate", 3)
    pipeline = open_run()

    scores = pipeline.scores("candidate").set_index("id")["score"]

    judged = Path(pipeline.files()["checkpoint"]["path"])
    ids = pipeline.samples.split().test
    expected = load_head(judged).predict(pipeline.vectors.features("candidate", ids))
    np.testing.assert_array_equal(scores.loc[ids], expected)
    assert read_head_metadata(judged)["seed"] == 42
    shown = describe_run(pipeline)["training"]["candidate"]["spread"]
    assert [row["validation_loss"] == 0 for row in shown] == [False, True, True]


def test_training_then_shows_the_widest_spread_of_the_very_same_inputs(open_run: Open) -> None:
    """None of another recipe or another side."""
    pipeline = open_run()
    for n_seeds in (3, 2):
        pipeline.heads.spread("candidate", n_seeds)
    open_run(epochs=2).heads.spread("candidate", 4)

    assert len(pipeline.heads.training("candidate")["spread"]) == 3
    assert "spread" not in pipeline.heads.training("baseline")


def test_spread_of_one_seed_then_error(open_run: Open) -> None:
    """One number has no spread."""
    with pytest.raises(ValueError, match="at least 2 seeds, got 1"):
        open_run().heads.spread("candidate", 1)


def test_features_that_are_too_many_for_memory_then_head_and_scores_are_the_same(
    open_run: Open, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay in their stores; no array of them is ever made."""
    shutil.copytree(embedded / "work", tmp_path / "resident")
    resident = open_run(work_dir=tmp_path / "resident")
    expected = resident.heads.head("candidate"), resident.scores("candidate")
    monkeypatch.setattr(feature_rows, "memory_bytes", lambda: 1)
    monkeypatch.delattr(Vectors, "features")
    pipeline = open_run()

    found = pipeline.heads.head("candidate"), pipeline.scores("candidate")

    assert files_of(found[0].path) == files_of(expected[0].path)
    pd.testing.assert_frame_equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("limit", "expected"), [("4096\n", 4096), ("max\n", None), ("9223372036854771712\n", None)]
)
def test_memory_in_a_container_then_is_its_limit_where_it_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None
) -> None:
    """Otherwise it is the machine's."""
    monkeypatch.setattr(feature_rows, "_CONTAINER_LIMITS", (tmp_path / "none",))
    physical = memory_bytes()
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(feature_rows, "_CONTAINER_LIMITS", (tmp_path / "memory.max",))

    assert memory_bytes() == (expected or physical)
    assert physical > 2**20
