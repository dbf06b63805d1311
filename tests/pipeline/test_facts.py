"""What a run says of its weights: whose they are, and what follows from that."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from harness.artifacts import digest_file
from harness.config import load_config
from harness.embedding.esm.checkpoint import STAND_IN_MARK
from harness.embedding.random_weights import write_random_checkpoint
from harness.pipeline import Pipeline
from harness.pipeline.facts import describe_run
from tests.pipeline.conftest import SETTINGS, write_sequences


def write_trained(folder: Path, *, stand_in: str | None = None) -> Path:
    """Write a checkpoint that is not untrained; return its weight file."""
    folder.mkdir()
    write_random_checkpoint(folder, layers=1, hidden_size=16, heads=1, intermediate_size=16, seed=1)
    path, config = folder / "model.safetensors", folder / "config.json"
    weights = load_file(path)
    weights["esm.encoder.layer.0.output.dense.bias"] = torch.ones(16)
    save_file(weights, path)
    mark = {STAND_IN_MARK: stand_in} if stand_in else {}
    config.write_text(json.dumps(json.loads(config.read_text()) | mark))
    return path


def load_both(folder: Path) -> Pipeline:
    """Return a run that has loaded a baseline of its own and a random candidate."""
    toml = write_sequences(folder)
    shape = SETTINGS.splitlines()[8]
    toml.write_text(SETTINGS.replace(shape, f'model = "{folder / "trained"}"'))
    run = Pipeline(load_config(toml), folder / "work")
    for side in ("baseline", "candidate"):
        run.vectors.embedder(side)
    return run


def test_describe_when_weights_are_nobodys_then_it_is_a_reservation(tmp_path: Path) -> None:
    """Unknown weights are on record with their digests; untrained ones make a rehearsal."""
    path = write_trained(tmp_path / "trained")

    facts = describe_run(load_both(tmp_path))

    assert facts["baseline"]["weights"] == {
        "origin": "unknown",
        "published_as": None,
        "files_sha256": {"model.safetensors": digest_file(path)},
    }
    assert facts["candidate"]["weights"]["origin"] == "untrained"
    (reservation,) = facts["reservations"]
    assert "baseline's weights (model.safetensors) are of unknown origin" in reservation
    assert facts["rehearsal_reasons"] == ["the candidate's weights are random"]


def test_describe_when_a_checkpoint_says_it_stands_in_then_it_is_a_rehearsal(
    tmp_path: Path,
) -> None:
    """Trained weights do not authorise what they only stand in for."""
    write_trained(tmp_path / "trained", stand_in="ESM2 3B")

    reasons = describe_run(load_both(tmp_path))["rehearsal_reasons"]

    assert "the baseline stands in for ESM2 3B" in reasons
