"""The state of an unfinished training, on disk: enough to go on bit for bit where it stopped.

Learning rate and patience follow from the history (``schedule``), the order of the rows from the
seed and the epoch (``seeds``); only what cannot be computed again is kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from harness.artifacts import digest_json
from harness.config import TrainingConfig
from harness.errors import ArtifactError
from harness.training.checkpoints import plain_recipe
from harness.training.features import LabelledRows, TrainingData, read_rows
from harness.training.history import EpochRecord
from harness.training.tensor_files import read_tensors, write_tensors

__all__ = ["Snapshot", "fingerprint", "load_snapshot", "save_snapshot"]

_KIND = "training state"
_OWN = ("momentum", "losses", "dropout_state")
SAMPLED_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Where a training stands.

    Attributes
    ----------
    weights : dict of Tensor
        The head's parameters and running statistics.
    best_weights : dict of Tensor
        Those of the best epoch; empty unless they are kept.
    momentum : Tensor, (n_parameters,)
    losses : Tensor, (n_steps,)
        Of the epoch under way; meaningful for its first ``steps_done`` steps.
    dropout_state : Tensor
        What the masks of the next steps depend on.
    steps_done : int
        Of the epoch under way.
    trained_seconds : float
        Spent on them.
    history : tuple of EpochRecord
        The epochs before.
    """

    weights: dict[str, torch.Tensor]
    best_weights: dict[str, torch.Tensor]
    momentum: torch.Tensor
    losses: torch.Tensor
    dropout_state: torch.Tensor
    steps_done: int
    trained_seconds: float
    history: tuple[EpochRecord, ...]


def save_snapshot(path: Path, snapshot: Snapshot, *, origin: str) -> None:
    """Write a snapshot; the one before stays until the new one is whole.

    Parameters
    ----------
    origin : str
        The fingerprint of what is being trained.
    """
    tensors = {name: getattr(snapshot, name) for name in _OWN}
    tensors |= {f"weights.{name}": tensor for name, tensor in snapshot.weights.items()}
    tensors |= {f"best_weights.{name}": tensor for name, tensor in snapshot.best_weights.items()}
    facts = {
        "kind": _KIND,
        "origin": origin,
        "steps_done": snapshot.steps_done,
        "trained_seconds": snapshot.trained_seconds,
        "history": [asdict(record) for record in snapshot.history],
    }
    write_tensors(path, tensors, facts)


def load_snapshot(path: Path, *, origin: str) -> Snapshot | None:
    """Read a snapshot; None if there is none.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    ArtifactError
        If it belongs to another training: other rows, recipe, seed or device.
    """
    if not path.exists():
        return None
    tensors, facts = read_tensors(path)
    if facts.get("kind") != _KIND or facts["origin"] != origin:
        raise ArtifactError(
            f"{path}: belongs to another training (other rows, recipe, seed or device). "
            f"Use another folder, or delete {path} to train anew"
        )
    return Snapshot(
        weights=_under("weights.", tensors),
        best_weights=_under("best_weights.", tensors),
        **{name: tensors[name] for name in _OWN},
        steps_done=facts["steps_done"],
        trained_seconds=facts["trained_seconds"],
        history=tuple(EpochRecord(**record) for record in facts["history"]),
    )


def fingerprint(data: TrainingData, recipe: TrainingConfig, seed: int, device: str) -> str:
    """Return a digest of everything that a training depends on.

    Of the features only some rows are looked at, since reading all of them can take minutes; whose
    they are is the caller's knowledge.
    """
    return digest_json(
        {
            "train": _digest_rows(data.train),
            "validation": _digest_rows(data.validation),
            "recipe": plain_recipe(recipe),
            "seed": seed,
            "device": device,
        }
    )


def _digest_rows(rows: LabelledRows) -> str:
    n_sampled = min(len(rows), SAMPLED_ROWS)
    sampled = torch.arange(n_sampled) * len(rows) // n_sampled
    digest = hashlib.sha256(repr((len(rows), rows.n_features)).encode())
    digest.update(rows.labels.numpy().tobytes())
    digest.update(read_rows(rows.features, sampled).cpu().numpy().tobytes())
    return digest.hexdigest()


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
