"""The folder of one training: state, history, and in the end the heads."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import ArtifactError
from harness.training.checkpoints import save_head
from harness.training.history import write_history
from harness.training.snapshot import Snapshot, load_snapshot, save_snapshot
from harness.training.trained import Choice, TrainedHead

__all__ = ["TrainingFolder"]

_STATE = "state.safetensors"
_HISTORY = "training.jsonl"


class TrainingFolder:
    """Reads and writes what a training leaves behind.

    Parameters
    ----------
    path : Path
        Created when first written to.
    origin : str
        Digest of what is being trained: a state of something else is refused.
    """

    def __init__(self, path: Path, *, origin: str) -> None:
        self.path = path
        self._origin = origin

    def load(self) -> Snapshot | None:
        """Return the state of an interrupted training; None if there is none.

        Raises
        ------
        CheckpointError
            If it cannot be read.
        ArtifactError
            If it belongs to another training.
        """
        return load_snapshot(self.path / _STATE, origin=self._origin)

    def save(self, snapshot: Snapshot) -> None:
        """Write the state and the history; the ones before stay until the new ones are whole.

        Raises
        ------
        ArtifactError
            If they cannot be written.
        """
        with _explained(self.path):
            save_snapshot(self.path / _STATE, snapshot, origin=self._origin)
            write_history(self.path / _HISTORY, snapshot.history)

    def save_heads(self, trained: TrainedHead, metadata: Mapping[str, Any]) -> None:
        """Write ``final.safetensors``, and ``best.safetensors`` where the best one was kept.

        Raises
        ------
        ArtifactError
            If they cannot be written.
        """
        kept: tuple[Choice, ...] = ("final", "best") if trained.best else ("final",)
        with _explained(self.path):
            for which in kept:
                save_head(self.path / f"{which}.safetensors", trained, metadata, which=which)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "Free some space" if error.errno == errno.ENOSPC else "Correct this"
        raise ArtifactError(
            f"{folder}: cannot be written to ({error.strerror or error}); what was saved before is "
            f"untouched. {remedy}, and train again with this folder to go on from there"
        ) from error
