"""Heads on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.errors import CheckpointError, MissingInput
from harness.training.checkpoints import load_head, read_metadata, save_head, write_tensors
from harness.training.history import digest_history
from tests.training.conftest import QUICK, Fit, Rows, same_weights


def test_saved_head_then_comes_back_with_the_same_scores(
    fit: Fit, rows: Rows, tmp_path: Path
) -> None:
    """Weights and running statistics, to the last bit."""
    trained = fit()
    save_head(tmp_path / "head.safetensors", trained)

    loaded = load_head(tmp_path / "head.safetensors")

    assert same_weights(loaded, trained.head)
    assert not loaded.training
    assert (loaded.predict(rows.features) == trained.predict(rows.features)).all()


def test_saved_head_then_says_how_it_came_to_be(fit: Fit, tmp_path: Path) -> None:
    """Recipe, widths, seeds, history, libraries and what the caller knows."""
    trained = fit()
    save_head(tmp_path / "head.safetensors", trained, {"split_sha256": "ab" * 32})

    facts = read_metadata(tmp_path / "head.safetensors")

    assert (facts["n_features"], facts["hidden_dim"], facts["seed"]) == (12, 8, 42)
    assert facts["recipe"]["learning_rate"] == "1/5000"
    assert facts["history_sha256"] == digest_history(trained.history)
    assert facts["validation"]["accuracy"] == trained.history[-1].validation_accuracy
    assert facts["about"] == {"split_sha256": "ab" * 32}
    assert facts["libraries"]["torch"] == torch.__version__
    assert (facts["which"], facts["epochs_run"]) == ("final", 4)


def test_equal_heads_then_equal_bytes(fit: Fit, tmp_path: Path) -> None:
    """So that a digest tells whether two trainings agree."""
    save_head(tmp_path / "one", fit(), {"b": 1, "a": 2})
    save_head(tmp_path / "two", fit(), {"a": 2, "b": 1})

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_head_of_another_width_then_error_names_the_embedders(fit: Fit, tmp_path: Path) -> None:
    """Which embedder it belongs to, where that is known."""
    save_head(tmp_path / "head.safetensors", fit())

    with pytest.raises(CheckpointError, match=r"expected 3328 .*ESM2 3B.*got 12 features"):
        load_head(tmp_path / "head.safetensors", n_features=3328)


def test_best_head_that_was_not_kept_then_cannot_be_saved(fit: Fit, tmp_path: Path) -> None:
    """Rather than the final one under its name."""
    with pytest.raises(ValueError, match="save_best = true"):
        save_head(tmp_path / "head.safetensors", fit(), which="best")
    save_head(tmp_path / "b", fit(recipe=replace(QUICK, save_best=True)), which="best")

    assert read_metadata(tmp_path / "b")["which"] == "best"


def test_file_that_is_no_head_then_error_names_it(tmp_path: Path) -> None:
    """Damaged files, those of others, and other files of ours."""
    (tmp_path / "damaged").write_bytes(b"\x10")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign")
    write_tensors(tmp_path / "state", {"x": torch.zeros(1)}, {"kind": "training state"})

    with pytest.raises(CheckpointError, match="damaged: cannot be read as safetensors"):
        load_head(tmp_path / "damaged")
    with pytest.raises(CheckpointError, match="foreign: was not written by this harness"):
        load_head(tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="state: holds no head but 'training state'"):
        load_head(tmp_path / "state")


def test_head_without_a_layer_then_error_names_the_file(fit: Fit, tmp_path: Path) -> None:
    """Metadata alone make no head."""
    path = tmp_path / "head.safetensors"
    save_head(path, fit())
    write_tensors(path, {"bn1.bias": torch.zeros(8)}, read_metadata(path))

    with pytest.raises(CheckpointError, match=r"head\.safetensors: its weights are not those of"):
        load_head(path)


def test_load_when_the_head_is_a_git_lfs_pointer_then_says_so(tmp_path: Path) -> None:
    """Not a header that is too large."""
    path = tmp_path / "head.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n")

    with pytest.raises(MissingInput, match="git lfs pull"):
        load_head(path)
