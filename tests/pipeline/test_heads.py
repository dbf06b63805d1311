"""Heads of a run: one a seed, never lost, the declared seed's judged; and what memory they take."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.config import GateConfig, load_config
from harness.pipeline import Pipeline, Side
from harness.pipeline import heads as feature_rows
from harness.pipeline.heads import memory_bytes
from harness.pipeline.vectors import Vectors
from harness.progress import Progress
from harness.training import fit_head, load_head, trainer
from harness.training.checkpoints import read_metadata, save_snapshot
from tests.pipeline.conftest import SETTINGS, write_sequences
from tests.training.conftest import same_weights

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


def interrupt_after(n_epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise Ctrl-C, as pytest lets it happen, when so many epochs are over and saved."""
    epochs = itertools.count(1)

    def save(*arguments: Any, **keywords: Any) -> None:
        save_snapshot(*arguments, **keywords)
        if next(epochs) == n_epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_snapshot", save)


def test_training_that_is_interrupted_then_the_next_run_goes_on_to_the_same_artifact(
    open_run: Open, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the times tells which of the two was interrupted."""
    shutil.copytree(embedded / "work", tmp_path / "whole")
    expected = open_run(work_dir=tmp_path / "whole").heads.head("candidate")
    interrupt_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        open_run().heads.head("candidate")
    (unfinished,) = (tmp_path / "work" / "heads").glob("*.partial/unfinished")
    (unfinished.parent / ".head.safetensors.torn").write_text("a write that was killed")
    interrupt_after(3, monkeypatch)  # two epochs are left

    found = open_run().heads.head("candidate")

    assert files_of(found.path) == files_of(expected.path)


@pytest.mark.parametrize("save_best", [True, False])
def test_head_then_the_final_model_is_always_there(open_run: Open, save_best: bool) -> None:
    """The best one is a file beside it, and the file to judge says which of the two it is."""
    folder = open_run(save_best=save_best).heads.head("candidate").path

    which = {path.name: read_metadata(path)["which"] for path in folder.glob("*.safetensors")}
    heads = ("head.safetensors", "head-43.safetensors", "head-44.safetensors")
    expected = dict.fromkeys(heads, "best" if save_best else "final")
    assert which == expected | ({"final.safetensors": "final"} if save_best else {})


def test_log_then_has_a_line_for_the_last_epoch(open_run: Open) -> None:
    """And for every tenth, of all heads."""
    log = io.StringIO()

    open_run(stream=Progress(log)).heads.head("baseline")

    starts = [line.split(", loss")[0] for line in log.getvalue().splitlines()]
    assert starts.count("train baseline: epoch 6/6") == 1
    assert not any("epoch 5/6" in start for start in starts)


def features(pipeline: Pipeline, side: Side) -> dict[str, Any]:
    """Return the rows that a side's heads are trained on, as ``fit_head`` takes them."""
    parts = {name: pipeline.samples.part(name) for name in ("train", "validation")}
    return {
        "features": pipeline.vectors.features(side, parts["train"]["id"]),
        "labels": parts["train"]["label"],
        "validation_features": pipeline.vectors.features(side, parts["validation"]["id"]),
        "validation_labels": parts["validation"]["label"],
    }


def test_heads_then_each_is_what_its_seed_alone_gives(open_run: Open) -> None:
    """The declared seed and those that follow it, on the same rows."""
    pipeline = open_run(seeds=2)
    heads, folder = pipeline.heads, pipeline.heads.head("candidate").path

    assert heads.seeds == (42, 43)
    for seed in heads.seeds:
        rows = features(pipeline, "candidate")
        alone = fit_head(**rows, recipe=pipeline.config.training, seed=seed)
        assert same_weights(load_head(folder / heads.head_file(seed)), alone.final)


@pytest.mark.parametrize("save_best", [True, False])
def test_training_then_shows_each_seed_on_validation(open_run: Open, save_best: bool) -> None:
    """The numbers of the epoch that its evaluated head is from; the first seed's in full."""
    facts = open_run(save_best=save_best).heads.training("candidate")

    first, *others = facts["heads"]
    epoch = facts["history"][first["best_epoch"] - 1 if save_best else -1]
    assert first["validation_loss"] == epoch["validation_loss"]
    assert (facts["seed"], first["seed"], [row["seed"] for row in others]) == (42, 42, [43, 44])


def test_training_then_reads_no_test_row(open_run: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and validation rows, once for all seeds."""
    read: list[list[str]] = []
    original = Vectors.features

    def spy(self: Vectors, side: Side, ids: pd.Series[str]) -> Any:
        read.append(list(ids))
        return original(self, side, ids)

    monkeypatch.setattr(Vectors, "features", spy)
    pipeline = open_run()

    pipeline.heads.head("baseline")

    assert len(read) == 2
    assert not {*read[0], *read[1]} & set(pipeline.samples.split().test)


def test_predictions_then_hold_the_scores_of_each_seed(
    open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The declared seed's head ships, and its scores are the ones without a number."""
    monkeypatch.setenv("PATH", "")  # no MMseqs2, for which these proteins are too short
    pipeline = open_run(seeds=2)

    table = pipeline.predictions()

    ids = pipeline.samples.split().test
    folder = pipeline.heads.head("candidate").path
    assert Path(pipeline.files()["checkpoint"]["path"]) == folder / "head.safetensors"
    assert read_metadata(folder / "head.safetensors")["seed"] == 42
    for column, seed in (("candidate_score", 42), ("candidate_score_43", 43)):
        head = load_head(folder / pipeline.heads.head_file(seed))
        expected = head.predict(pipeline.vectors.features("candidate", ids))
        np.testing.assert_array_equal(table.set_index("id").loc[ids, column], expected)
    assert "baseline_score_43" in table


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
