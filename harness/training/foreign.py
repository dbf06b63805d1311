"""Heads that VirNucPro's own tools wrote: read without running anything of them, and written.

Both forms are read and written: the dict with ``model_state_dict`` and a version, and the module
that was pickled whole, which the published ``prediction.py`` loads with ``torch.load``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Literal

import torch

from harness.artifacts import write_atomically
from harness.data.unpickle import load_restricted
from harness.errors import CheckpointError
from harness.training.checkpoints import checked_head, load_head, read_metadata
from harness.training.head import N_CLASSES, NORM_EPSILON, Head

__all__ = ["Form", "Provenance", "export_virnucpro", "is_same_head", "load_virnucpro"]

# VirNucPro's predictor refuses versions below 2 and every merged width but this.
CHECKPOINT_VERSION = "2.0"
NUCLEOTIDE_DIM = 768
PROTEIN_DIM = 1280
MERGED_DIM = NUCLEOTIDE_DIM + PROTEIN_DIM

MODEL_TYPES = {"FastESM2_650": "fastesm650"}  # VirNucPro's names, where it has one

_LAYERS = ("hidden_layer", "bn1", "output_layer")
# What a pickled module may hold besides empty tables: what is compared, and plain numbers.
_COMPARED = {"_parameters", "_buffers", "_modules"}
_NUMBERS = {"in_features", "out_features", "num_features", "momentum", "p"}
_FIXED = {"eps": NORM_EPSILON, "affine": True, "track_running_stats": True, "inplace": False}


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


Form = Literal["checkpoint", "module"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What an exported head says of the verdict on it.

    Attributes
    ----------
    verdict_sha256, head_sha256 : str
        Digests of the verdict, and of the head that it judged; "" of a head that none authorises.
    model, model_sha256, dtype : str
        The protein embedder whose features the head was judged on.
    """

    verdict_sha256: str = ""
    head_sha256: str = ""
    model: str = "unknown"
    model_sha256: str = "unknown"
    dtype: str = "unknown"


def export_virnucpro(
    checkpoint: Path,
    target: Path,
    *,
    training_date: str,
    provenance: Provenance | None = None,
    form: Form = "checkpoint",
) -> None:
    """Write a head in a form that VirNucPro takes.

    Parameters
    ----------
    checkpoint : Path
        What ``save_head`` wrote.
    target : Path
        The ``.pth`` file.
    training_date : str
        ISO date of the training.
    provenance : Provenance, optional
        Of a head that a verdict authorises; without it the file says that it is unjudged.
    form : {"checkpoint", "module"}
        The dict with a version, or a whole pickled module, which ``torch.load`` gives back as the
        ``MLPClassifier`` of the script that calls it.

    Raises
    ------
    CheckpointError
        If the head cannot be read, or has a width that the predictor refuses.
    """
    head, facts = load_head(checkpoint, n_features=MERGED_DIM), read_metadata(checkpoint)
    is_best, known = facts["which"] == "best", provenance or Provenance()
    name = PurePath(known.model).name
    metadata = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "model_type": MODEL_TYPES.get(name, name),
        "huggingface_model_id": known.model,
        "dna_dim": NUCLEOTIDE_DIM,
        "protein_dim": PROTEIN_DIM,
        "merged_dim": MERGED_DIM,
        "input_dim": head.n_features,
        "hidden_dim": head.hidden_dim,
        "num_class": N_CLASSES,
        "training_date": training_date,
        "pytorch_version": facts["libraries"]["torch"],
        "judged": provenance is not None,
        "verdict_sha256": known.verdict_sha256,
        "judged_head_sha256": known.head_sha256,
        "model_sha256": known.model_sha256,
        "dtype": known.dtype,
    }
    content = {
        "epoch": facts["best_epoch"] if is_best else facts["epochs_run"],
        "model_state_dict": dict(head.state_dict()),
        "optimizer_state_dict": {},
        "best_loss": facts["best_validation_loss"],
        "metadata": metadata,
    }
    buffer = io.BytesIO()
    if form == "checkpoint":
        torch.save(content, buffer)
    else:
        _save_module(head, metadata, buffer)
    write_atomically(target, buffer.getvalue())


def _save_module(head: Head, metadata: Mapping[str, Any], buffer: BinaryIO) -> None:
    """Pickle a head as ``__main__.MLPClassifier``, the class of VirNucPro's scripts."""
    upstream = type("MLPClassifier", (torch.nn.Module,), {"__module__": "__main__"})
    module = upstream()
    for name, layer in {**dict(head.named_children()), "relu": torch.nn.ReLU()}.items():
        module.add_module(name, layer)
    module.eval().metadata = dict(metadata)
    main = sys.modules["__main__"]
    former = vars(main).get("MLPClassifier")
    vars(main)["MLPClassifier"] = upstream  # pickle looks a class up where it says it stands
    try:
        torch.save(module, buffer)
    finally:
        del vars(main)["MLPClassifier"]
        if former is not None:
            vars(main)["MLPClassifier"] = former


def is_same_head(exported: Path, judged: Path) -> bool:
    """Whether an exported ``.pth``, in either form, computes what a judged head computes.

    Every tensor is compared, and of a pickled module everything else that it holds.

    Raises
    ------
    DataError, CheckpointError
        If one of them cannot be read, or holds no head.
    """
    content = load_restricted(exported, allowed=_ALLOWED)
    found, expected = _find_weights(content), load_head(judged).state_dict()
    return (
        found.keys() == expected.keys()
        and all(_is_same(found[name], tensor) for name, tensor in expected.items())
        and (not isinstance(content, _Stored) or _computes_plainly(content))
    )


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _computes_plainly(module: _Stored) -> bool:
    """Whether nothing in a pickled module replaces a method, hooks in, or differs from a head."""
    layers = vars(module).get("_modules", {})
    return not layers.keys() - {*_LAYERS, "dropout", "relu"} and all(
        _is_plain(name, value)
        for part in (module, *layers.values())
        for name, value in vars(part).items()
        if not (part is module and name == "metadata")
    )


def _is_plain(name: str, value: object) -> bool:
    if name in _FIXED:
        return value == _FIXED[name]
    is_known = name in _COMPARED or (name in _NUMBERS and isinstance(value, int | float))
    return is_known or (not value and not isinstance(value, _Stored))


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
