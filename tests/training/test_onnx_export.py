"""A head as an ONNX file gives the scores that the head gives."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from harness.errors import CheckpointError, MissingInput
from harness.training import onnx_export
from harness.training.checkpoints import load_head, save_head
from harness.training.onnx_export import export_onnx
from tests.training.conftest import LEARNS, Fit, draw_rows


@pytest.fixture
def checkpoint(fit: Fit, tmp_path: Path) -> Path:
    """Return a head whose weights and running statistics are far from their first values."""
    save_head(tmp_path / "head.safetensors", fit(recipe=LEARNS))
    return tmp_path / "head.safetensors"


@pytest.mark.parametrize("n_rows", [1, 7, 300])
def test_exported_head_then_onnxruntime_gives_its_scores(checkpoint: Path, n_rows: int) -> None:
    """For any number of rows."""
    features = draw_rows(n_rows, seed=5).features
    export_onnx(checkpoint, checkpoint.with_suffix(".onnx"))

    session = onnxruntime.InferenceSession(checkpoint.with_suffix(".onnx"))
    (found,) = session.run(["probabilities"], {"features": features})

    assert found.shape == (n_rows, 2)
    np.testing.assert_allclose(found[:, 1], load_head(checkpoint).predict(features), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_head_that_is_exported_twice_then_the_bytes_are_equal(checkpoint: Path) -> None:
    """So that a digest tells whether a file is that of a head."""
    for name in ("one", "two"):
        export_onnx(checkpoint, checkpoint.with_name(name))

    assert checkpoint.with_name("one").read_bytes() == checkpoint.with_name("two").read_bytes()


def test_graph_that_computes_something_else_then_nothing_is_written(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is run before anybody relies on it."""
    monkeypatch.setattr(onnx_export, "MAX_DIFFERENCE", 0.0)

    with pytest.raises(CheckpointError, match=r"head\.safetensors: .*differ by up to"):
        export_onnx(checkpoint, checkpoint.with_suffix(".onnx"))
    assert not checkpoint.with_suffix(".onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_package_that_is_not_installed_then_error_says_how_to_install_it(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """Both come with an optional extra."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingInput, match=r"pip install 'virnucpro-harness\[onnx\]'"):
        export_onnx(checkpoint, checkpoint.with_suffix(".onnx"))
