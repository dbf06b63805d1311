"""Heads that VirNucPro's own tools wrote: read without running anything of them, and written.

Two forms are read: the dict with ``model_state_dict``, and the older module that was pickled
whole. The dict is what its predictor takes today, so that is what is written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from harness.artifacts import write_atomically
from harness.data.unpickle import load_restricted
from harness.errors import CheckpointError
from harness.training.checkpoints import checked_head, load_head, read_head_metadata
from harness.training.head import N_CLASSES, Head

__all__ = ["export_virnucpro", "load_virnucpro"]

# VirNucPro's predictor refuses versions below 2 and every merged width but this.
CHECKPOINT_VERSION = "2.0"
NUCLEOTIDE_DIM = 768
PROTEIN_DIM = 1280
MERGED_DIM = NUCLEOTIDE_DIM + PROTEIN_DIM

_LAYERS = ("hidden_layer", "bn1", "output_layer")


class _Stored:
    """Stands in for every class of a pickled head: holds its values and runs none of its code."""


# All that a pickled head names besides tensors.
_ALLOWED: Mapping[str, Callable[..., object]] = {
    "__main__.MLPClassifier": _Stored,
    "torch.nn.modules.linear.Linear": _Stored,
    "torch.nn.modules.batchnorm.BatchNorm1d": _Stored,
    "torch.nn.modules.dropout.Dropout": _Stored,
    "torch.nn.modules.activation.ReLU": _Stored,
}


def load_virnucpro(path: Path, *, n_features: int | None = None) -> Head:
    """Read one of VirNucPro's ``.pth`` heads, on the CPU and ready to predict.

    Parameters
    ----------
    path : Path
        Either form.
    n_features : int, optional
        The width that is needed.

    Raises
    ------
    MissingInput
        If the file is not there.
    DataError
        If it names any class but those of a head; nothing of it is run.
    CheckpointError
        If it holds no head, or one of another width.
    """
    weights = _find_weights(load_restricted(path, allowed=_ALLOWED))
    if not weights:
        raise CheckpointError(
            f"{path}: holds no head of VirNucPro. Expected a dict with 'model_state_dict', or a "
            f"pickled MLPClassifier, with the layers {', '.join(_LAYERS)}"
        )
    return checked_head(path, weights, n_features=n_features)


def export_virnucpro(
    checkpoint: Path,
    target: Path,
    *,
    training_date: str,
    model_type: str = "fastesm650",
    protein_model: str = "Synthyra/FastESM2_650",
) -> None:
    """Write a checkpoint in the form that VirNucPro's predictor takes.

    Parameters
    ----------
    checkpoint : Path
        What ``save_head`` wrote.
    target : Path
        The ``.pth`` file.
    training_date : str
        ISO date of the training.
    model_type, protein_model : str
        VirNucPro's name and the hub id of the protein embedder.

    Raises
    ------
    CheckpointError
        If the head cannot be read, or has a width that the predictor refuses.
    """
    head, facts = load_head(checkpoint, n_features=MERGED_DIM), read_head_metadata(checkpoint)
    is_best = facts["which"] == "best"
    content = {
        "epoch": facts["best_epoch"] if is_best else facts["epochs_run"],
        "model_state_dict": dict(head.state_dict()),
        "optimizer_state_dict": {},
        "best_loss": facts["best_validation_loss"],
        "metadata": {
            "checkpoint_version": CHECKPOINT_VERSION,
            "model_type": model_type,
            "huggingface_model_id": protein_model,
            "dna_dim": NUCLEOTIDE_DIM,
            "protein_dim": PROTEIN_DIM,
            "merged_dim": MERGED_DIM,
            "input_dim": head.n_features,
            "hidden_dim": head.hidden_dim,
            "num_class": N_CLASSES,
            "training_date": training_date,
            "pytorch_version": facts["libraries"]["torch"],
        },
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(target, buffer.getvalue())


def _find_weights(content: object) -> dict[str, torch.Tensor]:
    """Return a head's tensors by name, from either form; empty if there are none."""
    if isinstance(content, _Stored):
        return _weights_of_module(content)
    if not isinstance(content, dict):
        return {}
    found = content.get("model_state_dict", content)
    if not isinstance(found, dict):
        return {}
    return {str(k): v for k, v in found.items() if isinstance(v, torch.Tensor)}


def _weights_of_module(module: _Stored) -> dict[str, torch.Tensor]:
    layers = _part(module, "_modules")
    return {
        f"{layer}.{name}": tensor.detach()
        for layer in _LAYERS
        for kind in ("_parameters", "_buffers")
        for name, tensor in _part(layers.get(layer), kind).items()
        if isinstance(tensor, torch.Tensor)
    }


def _part(stored: object, name: str) -> dict[str, Any]:
    """Return a table that a stored module holds by this name; empty if it holds none."""
    found = vars(stored).get(name) if isinstance(stored, _Stored) else None
    return found if isinstance(found, dict) else {}
