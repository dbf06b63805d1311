"""``harness export``: what is given decides what can be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.data.unpickle import load_restricted
from harness.embedding.virnucpro import MergedFeatures
from harness.training import fit_head, save_head
from tests.cli.test_commands import run, write_sequences
from tests.training.conftest import QUICK, draw_rows


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """Return a head of the width that VirNucPro's predictor takes, written on a known day."""
    train, validation = draw_rows(32, 2048), draw_rows(32, 2048, seed=1)
    trained = fit_head(
        train.features,
        train.labels,
        validation_features=validation.features,
        validation_labels=validation.labels,
        recipe=QUICK,
    )
    path = tmp_path / "head.safetensors"
    save_head(path, trained)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def test_head_for_virnucpro_then_the_file_names_the_day_of_training(
    head: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint itself knows no day, since equal trainings give equal bytes."""
    target = head.with_suffix(".pth")

    assert run(monkeypatch, "export", "--format", "virnucpro", str(head), str(target)) == 0

    content = load_restricted(target)
    assert isinstance(content, dict)
    assert content["metadata"]["training_date"] == "2001-09-09"
    assert f"virnucpro: {target}" in capsys.readouterr().out


def test_head_as_onnx_then_the_file_is_written(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it computes is tested beside its writer."""
    target = head.with_suffix(".onnx")

    assert run(monkeypatch, "export", "--format", "onnx", str(head), str(target)) == 0

    assert target.stat().st_size > 4 * 2048 * QUICK.hidden_dim


def test_source_that_is_not_there_then_error_says_what_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An expected error is a message, not a traceback."""
    code = run(monkeypatch, "export", "--format", "onnx", str(tmp_path / "x"), str(tmp_path / "y"))

    assert code == 1
    assert "There is no" in capsys.readouterr().err


def test_folder_then_error_says_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder is no head."""
    code = run(monkeypatch, "export", "--format", "onnx", str(tmp_path), str(tmp_path / "y"))

    assert code == 2
    assert "expected a head" in " ".join(capsys.readouterr().err.split())


def test_run_for_virnucpro_then_its_files_can_be_brought_as_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one run has embedded, VirNucPro and another gate can read."""
    config = write_sequences(tmp_path)
    shape = "random_weights = {layers = 1, hidden_size = 8, heads = 1, intermediate_size = 8}\n"
    config.write_text(f'{config.read_text()}{shape}[nucleotide]\nkind = "kmer"\nk = 2\n')
    options = ["--work-dir", str(tmp_path / "work")]

    code = run(
        monkeypatch, "export", "--format", "virnucpro", str(config), str(tmp_path / "out"), *options
    )

    assert code == 0
    assert "candidate: 120 records in files of *_ESM.pt, *_merged.pt" in capsys.readouterr().out
    merged = MergedFeatures(tmp_path / "out")
    assert (len(merged), merged.dim) == (120, 4**2 + 8)


def test_run_as_onnx_then_the_formats_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Embeddings are no network."""
    config = write_sequences(tmp_path)

    assert run(monkeypatch, "export", "--format", "onnx", str(config), str(tmp_path / "y")) == 2

    assert "its formats are virnucpro" in " ".join(capsys.readouterr().err.split())
