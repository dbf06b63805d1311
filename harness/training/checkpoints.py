"""Heads on disk: safetensors with everything that is known about them as metadata.

Foreign files are read elsewhere (``foreign``), and the state of an unfinished training is no
checkpoint either (``snapshot``).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

import harness
from harness.config import TrainingConfig
from harness.errors import CheckpointError
from harness.training.head import Head, head_from_weights
from harness.training.history import digest_history
from harness.training.tensor_files import read_metadata, read_tensors, write_tensors
from harness.training.trained import Choice, TrainedHead
from harness.training.widths import explain_widths

__all__ = ["checked_head", "load_head", "plain_recipe", "read_head_metadata", "save_head"]

_KIND = "head"


def save_head(
    path: Path,
    trained: TrainedHead,
    metadata: Mapping[str, Any] | None = None,
    *,
    which: Choice | None = None,
) -> None:
    """Write a head as safetensors; equal heads and metadata give equal bytes.

    Parameters
    ----------
    path : Path
        The file; it appears whole or not at all.
    trained : TrainedHead
        The result of training.
    metadata : mapping of JSON values, optional
        What else is known, kept under ``about``: digests of the split and the features, metrics.
    which : ``final`` or ``best``, optional
        By default the one that is to be evaluated.

    Raises
    ------
    ValueError
        If the best one is asked for but was not kept.
    """
    choice = which or trained.evaluated
    head = trained.final if choice == "final" else trained.best
    if head is None:
        raise ValueError("the best head was not kept: train with save_best = true")
    facts = {
        "kind": _KIND,
        "n_features": head.n_features,
        "hidden_dim": head.hidden_dim,
        "recipe": plain_recipe(trained.recipe),
        "which": choice,
        "evaluated": trained.evaluated,
        "epochs_run": trained.epochs_run,
        "best_epoch": trained.best_epoch,
        "best_validation_loss": trained.history[trained.best_epoch - 1].validation_loss,
        "validation": {
            name: getattr(trained.epoch_of(choice), f"validation_{name}")
            for name in ("loss", "accuracy", "precision", "recall")
        },
        "history_sha256": digest_history(trained.history),
        "seed": trained.seed,
        "seeds": asdict(trained.seeds),
        "libraries": _library_versions(),
        "threads": torch.get_num_threads(),
        "about": dict(metadata or {}),
    }
    write_tensors(path, head.state_dict(), facts)


def load_head(path: Path, *, n_features: int | None = None) -> Head:
    """Read a head that ``save_head`` wrote, on the CPU and ready to predict.

    Parameters
    ----------
    path : Path
        The checkpoint.
    n_features : int, optional
        The width that is needed.

    Raises
    ------
    CheckpointError
        If it cannot be read, holds no head, or a head of another width.
    """
    tensors, facts = read_tensors(path)
    if facts.get("kind") != _KIND:
        raise CheckpointError(f"{path}: holds no head but {facts.get('kind')!r}")
    dropout = float(Fraction(facts["recipe"]["dropout"]))
    return checked_head(path, tensors, dropout=dropout, n_features=n_features)


def checked_head(
    path: Path,
    weights: Mapping[str, torch.Tensor],
    *,
    dropout: float = 0.5,
    n_features: int | None = None,
) -> Head:
    """Return the head with the weights that a file holds.

    Raises
    ------
    CheckpointError
        If they are not those of a head, or of one of another width than ``n_features``.
    """
    try:
        head = head_from_weights(weights, dropout=dropout)
    except ValueError as error:
        raise CheckpointError(f"{path}: its weights are not those of a head: {error}") from error
    if n_features not in (None, head.n_features):
        widths = explain_widths(expected=int(n_features or 0), found=head.n_features)
        raise CheckpointError(f"{path}: {widths}")
    return head


def read_head_metadata(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says about itself.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    return read_metadata(path)


def plain_recipe(recipe: TrainingConfig) -> dict[str, Any]:
    """Return a recipe as JSON values, with exact numbers as text."""
    return {
        name: str(value) if isinstance(value, Fraction) else value
        for name, value in asdict(recipe).items()
    }


def _library_versions() -> dict[str, str]:
    return {
        "harness": harness.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "safetensors": safetensors.__version__,
        "torch": torch.__version__,
    }
