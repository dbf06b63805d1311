"""What a side brings in place of what would be made here, and what must be said about it.

A head or predictions from elsewhere can be judged, but where they were trained is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.config import GateConfig, ModelConfig
from harness.errors import MissingInput
from harness.pipeline.vectors import SIDES, Side
from harness.training import load_head
from harness.training.foreign import load_virnucpro
from harness.training.head import Head

__all__ = ["brought_files", "load_brought_head", "require_brought", "warn_of_brought"]

# In which direction a head that has seen the test rows moves the drop.
_CONSEQUENCES: dict[Side, str] = {
    "baseline": "its accuracy, and with it the drop, would then be too large",
    "candidate": "its accuracy would then be too large, and the drop too small",
}


def require_brought(path: Path) -> Path:
    """Return the path of a file that the settings name.

    Raises
    ------
    MissingInput
        If it is not there.
    """
    if not path.is_file():
        raise MissingInput(
            f"{path}: no such file", remedy="Put it there, or correct the path in gate.toml"
        )
    return path


def load_brought_head(path: Path, *, n_features: int) -> Head:
    """Read a head that was trained elsewhere: one of this project's, or of VirNucPro's own.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` checkpoint of this project; anything else is read as VirNucPro's
        ``.pth``, in either form.
    n_features : int
        The width of the features that it is to judge.

    Raises
    ------
    DataError, CheckpointError
        If it cannot be read, holds no head, or one of another width.
    """
    read = load_head if path.suffix == ".safetensors" else load_virnucpro
    return read(path, n_features=n_features)


def brought_files(config: GateConfig) -> dict[str, Path]:
    """Return the files that the sides bring, by their names among the artifacts."""
    return {
        f"{side} {kind}": path
        for side in SIDES
        for kind in ("checkpoint", "predictions", "metrics")
        if (path := getattr(getattr(config, side), kind)) is not None
    }


def warn_of_brought(config: GateConfig, *, sides: Iterable[Side] = SIDES) -> tuple[str, ...]:
    """Say which heads were trained elsewhere, and what follows if they have seen the test rows."""
    brought = {side: _brought_scores(getattr(config, side)) for side in sides}
    return tuple(
        f"The {side}'s head was not trained here ({path.name}): it may have seen the test rows; "
        f"{_CONSEQUENCES[side]}"
        for side, path in brought.items()
        if path is not None
    )


def _brought_scores(settings: ModelConfig) -> Path | None:
    return settings.predictions or settings.checkpoint
