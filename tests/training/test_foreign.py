"""VirNucPro's own heads are read without running them, and written as its predictor wants."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.config import TrainingConfig
from harness.data.unpickle import load_restricted
from harness.errors import CheckpointError, DataError
from harness.training.checkpoints import TrainedHead, save_head
from harness.training.foreign import (
    Form,
    Provenance,
    export_virnucpro,
    is_same_head,
    load_virnucpro,
)
from harness.training.head import Head
from tests.training.conftest import OVERFITS, QUICK, Fit, draw_rows, same_weights


class MLPClassifier(nn.Module):
    """The class that VirNucPro's train.py pickled whole."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.hidden_layer = nn.Linear(n_features, 8)
        self.bn1 = nn.BatchNorm1d(8)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.5)
        self.output_layer = nn.Linear(8, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        hidden = self.relu(self.bn1(self.hidden_layer(features)))
        logits: torch.Tensor = self.output_layer(self.dropout(hidden))
        return logits


@pytest.fixture
def pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, MLPClassifier]:
    """Return a head that was pickled whole by a program, and the head."""
    monkeypatch.setattr(MLPClassifier, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "MLPClassifier", MLPClassifier, raising=False)
    head = MLPClassifier(3)
    head.train()(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)))
    torch.save(head, tmp_path / "500_model.pth")
    return tmp_path / "500_model.pth", head.eval()


def test_pickled_head_then_scores_are_those_of_the_original(
    pickled: tuple[Path, MLPClassifier],
) -> None:
    """Weights and running statistics, read from values alone."""
    path, original = pickled
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)

    found = load_virnucpro(path).predict(features)

    expected = original(torch.from_numpy(features)).softmax(1)[:, 1]
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)


def test_pickled_head_then_its_class_is_not_used(
    pickled: tuple[Path, MLPClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not exist, and no method of it is called."""
    monkeypatch.delattr(sys.modules["__main__"], "MLPClassifier")

    found = load_virnucpro(pickled[0])

    assert found.n_features == 3
    assert not found.training


def test_dict_with_a_state_then_is_the_same_head(tmp_path: Path) -> None:
    """The form that is written today, and a bare state_dict."""
    head = Head(5, hidden_dim=4)
    torch.save({"epoch": 3, "model_state_dict": head.state_dict()}, tmp_path / "dict.pth")
    torch.save(head.state_dict(), tmp_path / "bare.pth")

    assert same_weights(load_virnucpro(tmp_path / "dict.pth"), head)
    assert same_weights(load_virnucpro(tmp_path / "bare.pth"), head)


class _Payload:
    """Runs a command when it is unpickled by the ordinary unpickler."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


def test_file_that_names_anything_else_then_is_refused_and_nothing_is_run(tmp_path: Path) -> None:
    """The error names what was refused."""
    content = {"model_state_dict": Head(5).state_dict(), "x": _Payload(tmp_path / "trace")}
    torch.save(content, tmp_path / "evil.pth")

    with pytest.raises(DataError, match=r"evil\.pth: refused, because it names '(posix|nt)\."):
        load_virnucpro(tmp_path / "evil.pth")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"model_state_dict": 3}, {"model_state_dict": {"epoch": 2}}],
)
def test_file_that_holds_no_head_then_error_says_what_was_expected(
    tmp_path: Path, content: Any
) -> None:
    """Whatever else torch.save may have written."""
    torch.save(content, tmp_path / "x.pth")

    with pytest.raises(CheckpointError, match=r"x\.pth: holds no head of VirNucPro\. Expected"):
        load_virnucpro(tmp_path / "x.pth")


@pytest.mark.parametrize("missing", ["hidden_layer", "output_layer"])
def test_head_that_lacks_a_layer_then_error_names_it(tmp_path: Path, missing: str) -> None:
    """Half a head cannot predict."""
    weights = {k: v for k, v in Head(3).state_dict().items() if not k.startswith(missing)}
    torch.save(weights, tmp_path / "x.pth")

    with pytest.raises(CheckpointError, match=rf"not those of a head[\s\S]*{missing}"):
        load_virnucpro(tmp_path / "x.pth")


def test_head_of_another_width_then_error_names_the_embedders(
    pickled: tuple[Path, MLPClassifier],
) -> None:
    """Before any feature is read."""
    with pytest.raises(CheckpointError, match=r"expected 2048 .*FastESM2_650.* got 3 features"):
        load_virnucpro(pickled[0], n_features=2048)


def _fit_wide(fit: Fit, recipe: TrainingConfig) -> TrainedHead:
    train, validation = draw_rows(64, 2048), draw_rows(40, 2048, seed=1)
    changes: dict[str, Any] = {
        "features": train.features,
        "labels": train.labels,
        "ids": None,
        "validation_features": validation.features,
        "validation_labels": validation.labels,
        "recipe": recipe,
    }
    return fit(**changes)


@pytest.fixture
def trained(fit: Fit, tmp_path: Path) -> TrainedHead:
    """Return a head of VirNucPro's width, which is saved as head.safetensors."""
    trained = _fit_wide(fit, QUICK)
    save_head(tmp_path / "head.safetensors", trained)
    return trained


def _export(folder: Path, name: str = "head.pth", **options: Any) -> Path:
    export_virnucpro(
        folder / "head.safetensors", folder / name, training_date="2026-01-02", **options
    )
    return folder / name


def test_exported_head_then_predictor_accepts_it(trained: TrainedHead, tmp_path: Path) -> None:
    """Version 2, the merged width, and the same weights; read back under the same restrictions."""
    judged = Provenance(
        verdict_sha256="v", head_sha256="h", model="lab/FastESM2_650", model_sha256="m", dtype="d"
    )

    content = load_restricted(_export(tmp_path, provenance=judged))
    assert isinstance(content, dict)
    assert set(content) == {
        "epoch", "model_state_dict", "optimizer_state_dict", "best_loss", "metadata"
    }  # fmt: skip
    assert content["metadata"] == {
        "checkpoint_version": "2.0", "model_type": "fastesm650",
        "huggingface_model_id": "lab/FastESM2_650", "dna_dim": 768, "protein_dim": 1280,
        "merged_dim": 2048, "input_dim": 2048, "hidden_dim": 8, "num_class": 2,
        "training_date": "2026-01-02", "pytorch_version": torch.__version__,
        "judged": True, "verdict_sha256": "v", "judged_head_sha256": "h",
        "model_sha256": "m", "dtype": "d",
    }  # fmt: skip
    assert content["epoch"] == 4
    assert content["best_loss"] == min(record.validation_loss for record in trained.history)
    assert same_weights(load_virnucpro(tmp_path / "head.pth"), trained.final)


def test_exported_module_then_the_scripts_own_class_loads_it(
    trained: TrainedHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the published script calls it, whose class stands in __main__; nothing is left there."""
    path = _export(tmp_path, form="module")
    assert not hasattr(sys.modules["__main__"], "MLPClassifier")

    monkeypatch.setattr(MLPClassifier, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "MLPClassifier", MLPClassifier, raising=False)
    module: Any = torch.load(path, weights_only=False)

    features = torch.randn(20, 2048, generator=torch.Generator().manual_seed(0))
    assert module.__class__ is MLPClassifier
    assert vars(module)["metadata"]["judged"] is False
    np.testing.assert_allclose(
        module(features).softmax(1)[:, 1].detach().numpy(),
        trained.final.predict(features.numpy()),
        rtol=1e-5,
    )


@pytest.mark.parametrize("form", ["checkpoint", "module"])
def test_exported_head_then_is_the_same_head(
    trained: TrainedHead, tmp_path: Path, form: Form
) -> None:
    """In both forms, and another training's is not."""
    exported = _export(tmp_path, form=form)
    assert is_same_head(exported, tmp_path / "head.safetensors")

    with torch.no_grad():
        trained.final.output_layer.bias[0] += 1e-6
    save_head(tmp_path / "other.safetensors", trained)
    assert not is_same_head(exported, tmp_path / "other.safetensors")


def _set_epsilon(module: Any) -> None:
    module.bn1.eps = 1.0


def _replace_forward(module: Any) -> None:
    module.forward = nn.ReLU()


def _swap_layer(module: Any) -> None:
    module.bn1 = nn.Linear(8, 8)


@pytest.mark.parametrize(
    "change",
    [_set_epsilon, _replace_forward, _swap_layer, nn.Module.train],
    ids=lambda f: f.__name__,
)
@pytest.mark.usefixtures("trained")
def test_exported_module_when_it_would_compute_something_else_then_is_not_the_same_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], object]
) -> None:
    """Equal tensors are not enough where the file says how they are used."""
    monkeypatch.setattr(MLPClassifier, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "MLPClassifier", MLPClassifier, raising=False)
    path = _export(tmp_path, form="module")
    module = torch.load(path, weights_only=False)
    change(module)
    torch.save(module, path)

    assert not is_same_head(path, tmp_path / "head.safetensors")


def test_exported_best_head_then_its_epoch_is_the_best_one(fit: Fit, tmp_path: Path) -> None:
    """Not the last one, whose weights it does not have."""
    trained = _fit_wide(fit, replace(OVERFITS, save_best=True))
    save_head(tmp_path / "head.safetensors", trained)

    content = load_restricted(_export(tmp_path))
    assert isinstance(content, dict)
    assert content["epoch"] == trained.best_epoch < trained.epochs_run


def test_export_of_another_width_then_error(fit: Fit, tmp_path: Path) -> None:
    """The predictor would refuse it later and less clearly."""
    save_head(tmp_path / "head.safetensors", fit())

    with pytest.raises(CheckpointError, match=r"expected 2048 .*got 12 features"):
        _export(tmp_path, "x.pth")
    assert not (tmp_path / "x.pth").exists()
