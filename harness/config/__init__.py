"""The settings of one gate run: what ``gate.toml`` and the tiny profile may say."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from harness.config.settings import (
    DataConfig,
    GateConfig,
    ModelConfig,
    NucleotideConfig,
    RandomWeights,
    Thresholds,
    TimingConfig,
    TrainingConfig,
)
from harness.errors import ConfigError

__all__ = [
    "DataConfig",
    "GateConfig",
    "ModelConfig",
    "NucleotideConfig",
    "RandomWeights",
    "Thresholds",
    "TimingConfig",
    "TrainingConfig",
    "load_config",
]


def load_config(path: Path) -> GateConfig:
    """Read a gate's settings from a TOML file, or from the JSON that a run keeps of them.

    Raises
    ------
    ConfigError
        If the file cannot be read, is neither, or holds unknown keys or unusable values.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML or JSON: {error}") from error
    try:
        return GateConfig.from_dict(table, folder=path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
