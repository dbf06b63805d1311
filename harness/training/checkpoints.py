"""What training leaves on disk: finished heads, and the state of a training under way.

Both are safetensors files with everything that is known about them as JSON in one metadata key,
written atomically; the same content gives the same bytes. VirNucPro's own files are read elsewhere
(``foreign``).
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

import harness
from harness.artifacts import digest_json, explain_full_disk, write_atomically
from harness.config import TrainingConfig
from harness.data.unpickle import refuse_lfs_pointer
from harness.documents import exact_number, parse_json
from harness.errors import ArtifactError, CheckpointError
from harness.training.features import (
    Features,
    LabelledRows,
    TrainingData,
    explain_widths,
    read_rows,
)
from harness.training.head import Head, Seeds, head_from_weights
from harness.training.history import EpochRecord, digest_history, write_history

__all__ = [
    "Snapshot",
    "TrainedHead",
    "checked_head",
    "fingerprint",
    "load_head",
    "load_snapshot",
    "read_metadata",
    "save_head",
    "save_snapshot",
    "write_tensors",
]


_KEY = "harness"


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors, from any device, and JSON values."""
    text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"), allow_nan=False)
    # Views of common memory would be refused, so each tensor becomes one of its own.
    dense = torch.contiguous_format
    copies = {k: v.detach().cpu().clone(memory_format=dense) for k, v in tensors.items()}
    write_atomically(path, save(copies, {_KEY: text}))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read back what ``write_tensors`` wrote, on the CPU.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is a safetensors file of another kind.
    """
    with _opened(path) as file:
        metadata = _metadata(path, file)
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - no dict


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the JSON values alone.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is a safetensors file of another kind.
    """
    with _opened(path) as file:
        return _metadata(path, file)


def _opened(path: Path) -> safe_open:
    if path.is_file():
        refuse_lfs_pointer(path)
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def _metadata(path: Path, file: safe_open) -> dict[str, Any]:
    text = (file.metadata() or {}).get(_KEY)  # type: ignore[no-untyped-call] # has no stub
    if text is None:
        raise CheckpointError(
            f"{path}: was not written by this harness: it has no metadata key {_KEY!r}"
        )
    try:
        metadata = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: its metadata cannot be read: {error}") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: expected an object as metadata, got {metadata!r:.40}")
    return metadata


Choice = Literal["final", "best"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedHead:
    """A head after training.

    Attributes
    ----------
    final : Head
        As the last epoch left it.
    best : Head or None
        A copy from the best epoch on validation, where the recipe says ``save_best``.
    history : tuple of EpochRecord
    best_epoch : int
        Counted from 1.
    recipe : TrainingConfig
    seed : int
        The user's.
    seeds : Seeds
        What was derived from it.
    n_train, n_validation : int
        Rows.
    """

    final: Head
    best: Head | None
    history: tuple[EpochRecord, ...]
    best_epoch: int
    recipe: TrainingConfig
    seed: int
    seeds: Seeds
    n_train: int
    n_validation: int

    @property
    def evaluated(self) -> Choice:
        """Which one is to be evaluated: ``best`` if it was kept, else ``final``."""
        return "final" if self.best is None else "best"

    @property
    def head(self) -> Head:
        """The one to be evaluated."""
        return self.best or self.final

    def epoch_of(self, which: Choice) -> EpochRecord:
        """Return the epoch that a head is from."""
        return self.history[-1 if which == "final" else self.best_epoch - 1]

    @property
    def epochs_run(self) -> int:
        """How many epochs there were."""
        return len(self.history)

    @property
    def stopped_early(self) -> bool:
        """Whether the patience ended before the epochs did."""
        return self.epochs_run < self.recipe.epochs

    def predict(self, features: Features) -> npt.NDArray[np.float32]:
        """Return the probability of the viral class, as ``Head.predict`` does."""
        return self.head.predict(features)

    def to_dict(self) -> dict[str, Any]:
        """Return what is reported of the training, as JSON values."""
        return {
            "evaluated": self.evaluated,
            "epochs_run": self.epochs_run,
            "best_epoch": self.best_epoch,
            "stopped_early": self.stopped_early,
            "n_train": self.n_train,
            "n_validation": self.n_validation,
            "seed": self.seed,
            "seeds": asdict(self.seeds),
            "history": [asdict(record) for record in self.history],
        }

    def summary(self) -> dict[str, Any]:
        """Return what is reported of one seed among others: the evaluated head on validation."""
        record = self.epoch_of(self.evaluated)
        return {
            "seed": self.seed,
            "evaluated": self.evaluated,
            "epochs_run": self.epochs_run,
            "best_epoch": self.best_epoch,
            "stopped_early": self.stopped_early,
            "validation_loss": record.validation_loss,
            "validation_accuracy": record.validation_accuracy,
        }


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
    try:
        dropout = float(exact_number(facts["recipe"]["dropout"]))
        if not 0 <= dropout < 1:
            raise ValueError(f"a dropout of {dropout}")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: states no recipe with a dropout ({error!r})") from error
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
    _check_values(path, weights)
    if n_features not in (None, head.n_features):
        widths = explain_widths(expected=int(n_features or 0), found=head.n_features)
        raise CheckpointError(f"{path}: {widths}")
    return head


def _check_values(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights and statistics of which no score can be computed."""
    for name, tensor in weights.items():
        if tensor.is_complex() or not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path}: {name} holds values that are no finite numbers, so the head gives no "
                "scores. Train it again, or name another file"
            )
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise CheckpointError(
                f"{path}: {name} holds a negative variance, which no training leaves. Train the "
                "head again, or name another file"
            )


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


_STATE, _HISTORY = "state.safetensors", "training.jsonl"
_SNAPSHOT_KIND = "training state"
SAMPLED_ROWS = 1024

Weights: TypeAlias = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Where a training stands: what cannot be computed again from seeds, recipe and histories.

    Attributes
    ----------
    weights : dict of dict of Tensor
        Each head's parameters and running statistics, by its seed.
    best_weights : dict of dict of Tensor
        Those of its best epoch, where they are kept.
    momenta : dict of Tensor
        Of the heads that are still trained.
    losses : Tensor, (n_heads, n_steps)
        Of the epoch under way; meaningful for its first ``steps_done`` steps.
    steps_done : int
        Of the epoch under way.
    trained_seconds : float
        Spent on them.
    histories : dict of tuple of EpochRecord
        The epochs before, by seed.
    """

    weights: dict[int, Weights]
    best_weights: dict[int, Weights]
    momenta: Weights
    losses: torch.Tensor
    steps_done: int
    trained_seconds: float
    histories: dict[int, tuple[EpochRecord, ...]]


def save_snapshot(folder: Path, snapshot: Snapshot, *, origin: str) -> None:
    """Write a snapshot and the histories; the ones before stay until the new ones are whole.

    Parameters
    ----------
    folder : Path
        Created if it is not there.
    snapshot : Snapshot
    origin : str
        The fingerprint of what is being trained.

    Raises
    ------
    ArtifactError
        If it cannot be written to.
    """
    tensors = {"losses": snapshot.losses}
    tensors |= {f"momenta.{name}": tensor for name, tensor in snapshot.momenta.items()}
    for kind in ("weights", "best_weights"):
        for seed, weights in getattr(snapshot, kind).items():
            tensors |= {f"{kind}.{seed}.{name}": tensor for name, tensor in weights.items()}
    facts = {
        "kind": _SNAPSHOT_KIND,
        "origin": origin,
        "steps_done": snapshot.steps_done,
        "trained_seconds": snapshot.trained_seconds,
        "histories": {
            str(seed): [asdict(record) for record in history]
            for seed, history in snapshot.histories.items()
        },
    }
    needed_bytes = sum(tensor.nbytes for tensor in tensors.values())
    with _explained(folder), explain_full_disk(folder, needed_bytes):
        write_tensors(folder / _STATE, tensors, facts)
        write_history(folder / _HISTORY, snapshot.histories)


def load_snapshot(folder: Path, *, origin: str) -> Snapshot | None:
    """Read what ``save_snapshot`` wrote; None if there is nothing.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    ArtifactError
        If it belongs to another training: other rows, recipe, seeds or device.
    """
    path = folder / _STATE
    if not path.exists():
        return None
    tensors, facts = read_tensors(path)
    if facts.get("kind") != _SNAPSHOT_KIND or facts.get("origin") != origin:
        raise ArtifactError(
            f"{path}: belongs to another training (other rows, recipe, seeds or device). "
            f"Use another folder, or delete {path} to train anew"
        )
    histories = {int(seed): rows for seed, rows in facts["histories"].items()}
    weights, best = (
        {seed: _under(f"{kind}.{seed}.", tensors) for seed in histories}
        for kind in ("weights", "best_weights")
    )
    return Snapshot(
        weights=weights,
        best_weights=best,
        momenta=_under("momenta.", tensors),
        losses=tensors["losses"],
        steps_done=facts["steps_done"],
        trained_seconds=facts["trained_seconds"],
        histories={
            seed: tuple(EpochRecord(**record) for record in rows)
            for seed, rows in histories.items()
        },
    )


def fingerprint(
    data: TrainingData, recipe: TrainingConfig, seeds: Sequence[int], device: str
) -> str:
    """Return a digest of everything that a training depends on.

    Of the features only some rows are looked at, since reading all of them can take minutes; whose
    they are is the caller's knowledge.
    """
    return digest_json(
        {
            "train": _digest_rows(data.train),
            "validation": _digest_rows(data.validation),
            "recipe": plain_recipe(recipe),
            "seeds": list(seeds),
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


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{folder}: cannot be written to ({error.strerror or error}); what was saved before is "
            "untouched. Correct this, and train again with this folder to go on from there"
        ) from error
