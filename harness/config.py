"""The settings of one gate run: what ``gate.toml`` and the tiny profile may say.

Owns names, types, ranges and defaults, and the way from a parsed file to typed settings and back:
exact numbers stay exact, paths are resolved against the file's own folder. Limits of a deployment
stand here and nowhere else. Whether what is named exists is found out by the stage that needs it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import types
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from harness.documents import exact_number, parse_json, parse_toml, read_text
from harness.errors import ConfigError

__all__ = [
    "GateConfig",
    "ModelConfig",
    "RandomWeights",
    "Thresholds",
    "TrainingConfig",
    "from_table",
    "load_config",
]


def from_table(cls: Any, table: Any, *, where: str, folder: Path) -> Any:
    """Build a dataclass from a table of plain values.

    Parameters
    ----------
    cls : dataclass
        What to build; its field types say what is allowed.
    table : dict
        The values; None counts as absent.
    where : str
        Name of the table, for messages.
    folder : Path
        What paths are relative to.

    Raises
    ------
    ConfigError
        For an unknown key, a missing one, or a value of the wrong type.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"[{where}] must be a table, got {table!r}")
    hints = get_type_hints(cls)
    if unknown := sorted(set(table) - set(hints)):
        place = f" in [{where}]" if where else ""
        raise ConfigError(f"unknown key {unknown[0]!r}{place}; known: {', '.join(sorted(hints))}")
    prefix = f"{where}." if where else ""
    values = {
        name: _convert(hints[name], value, where=prefix + name, folder=folder)
        for name, value in table.items()
        if value is not None
    }
    if missing := [f.name for f in dataclasses.fields(cls) if _is_needed(f, values)]:
        raise ConfigError(f"missing key {prefix + missing[0]!r}")
    return cls(**values)


def _is_needed(item: dataclasses.Field[Any], values: dict[str, Any]) -> bool:
    has_default = (item.default, item.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    return item.name not in values and not has_default


def _convert(hint: Any, value: Any, *, where: str, folder: Path) -> Any:
    if isinstance(hint, types.UnionType):
        hint = next(choice for choice in get_args(hint) if choice is not types.NoneType)
    if dataclasses.is_dataclass(hint):
        return from_table(hint, value, where=where, folder=folder)
    if hint is Fraction:
        return _exact(value, where)
    if hint == tuple[Path, ...]:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list of paths, got {value!r}")
        return tuple(_convert(Path, item, where=where, folder=folder) for item in value)
    if hint is Path:
        return _path(_checked(str, value, where), folder, where)
    checked = _checked(hint, value, where)
    return _local_folder(checked, folder, where) if where.endswith(".model") else checked


LONGEST_NAME = 255  # bytes, on the file systems in use


def _path(text: str, folder: Path, where: str) -> Path:
    path = folder / os.path.expanduser(text)  # noqa: PTH111 - never raises
    if any(len(part.encode(errors="replace")) > LONGEST_NAME for part in path.parts):
        raise ConfigError(f"{where}: no file has a name so long: {text[:40]!r}... Correct the path")
    return path


def _local_folder(model: str, folder: Path, where: str) -> str:
    """Take a model for a folder beside the config if there is one of that name, else a hub id."""
    local = _path(model, folder, where)
    return str(local) if local.is_dir() else model


def _checked(expected: type, value: Any, where: str) -> Any:
    if type(value) is not expected:
        raise ConfigError(f"{where}: expected {expected.__name__}, got {value!r}")
    return value


def _exact(value: Any, where: str) -> Fraction:
    """Thresholds and rates are compared exactly, so a float is refused."""
    if isinstance(value, float):
        raise ConfigError(f'{where}: write the number as text, "{value}", so that it stays exact')
    try:
        return exact_number(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}: expected a number as text, got {value!r:.60}: {error}"
        ) from error


def to_table(value: Any) -> Any:
    """Return a dataclass as plain JSON values, with exact numbers and paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_table(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [to_table(item) for item in value]
    return str(value) if isinstance(value, Fraction | Path) else value


# The limits that a deployment is judged by; looser ones make a run that authorises nothing.
# "Accuracy drop below 5%", read as percentage points, strictly; "at most half the time", inclusive.
DEPLOYMENT_DROP_POINTS = Fraction(5)
# A class may lose twice as much: on balanced classes that is what one loses alone at the limit.
DEPLOYMENT_CLASS_DROP_POINTS = Fraction(10)
DEPLOYMENT_TIME_RATIO = Fraction(1, 2)
DEPLOYMENT_RUNS = 3
DEPLOYMENT_SEEDS = 3  # heads a side, as many as timed runs
DEPLOYMENT_ATTEMPTS = 3  # at most
DEPLOYMENT_SEQUENCES = 1000  # or all of the test set, if it has fewer

SAMPLING_UNITS = ("record", "window", "genome", "lineage")
DTYPES = ("float32", "bfloat16", "float16")
STORE_DTYPES = ("float32", "float16", "bfloat16")
NUCLEOTIDE_KINDS = ("model", "embeddings", "kmer")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where the records come from and how the test set is drawn."""

    viral: tuple[Path, ...]  # FASTA pairs, genomes, record tables, folders, globs
    nonviral: tuple[Path, ...]  # as viral
    taxonomy: Path | None = None  # accession, lineage[, genome[, source kind]]
    windows: tuple[Path, ...] = ()  # genomes or *_chunkedN.fa, where the records are FASTA pairs
    test_fraction: Fraction = Fraction(1, 10)  # of each class
    sampling_unit: str = "record"  # what a part of the split gets whole
    test_ids: Path | None = None  # a test set that is brought; or "virnucpro", its own split
    max_uncovered: Fraction = Fraction(1, 20)  # share of records without a vector that is brought

    def __post_init__(self) -> None:
        _require(bool(self.viral and self.nonviral), "data", "name at least one file per class")
        _require(0 < self.test_fraction < 1, "data.test_fraction", "must lie between 0 and 1")
        _require(0 <= self.max_uncovered < 1, "data.max_uncovered", "must lie in [0, 1)")
        _require_one_of(self.sampling_unit, SAMPLING_UNITS, "data.sampling_unit")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWeights:
    """The shape of an ESM2 model that gets seeded random weights: for rehearsals only."""

    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    seed: int = 0  # weights are the same for the same seed

    def __post_init__(self) -> None:
        sizes = (self.layers, self.hidden_size, self.heads, self.intermediate_size)
        _require(min(sizes) > 0, "random_weights", "sizes must be positive")
        _require(self.seed >= 0, "random_weights.seed", f"must not be negative, got {self.seed}")
        _require(
            self.hidden_size % (2 * self.heads) == 0,
            "random_weights.hidden_size",
            f"{self.hidden_size} must be an even multiple of heads = {self.heads}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One side of the comparison: a protein embedder, or what it already produced."""

    name: str  # what the reports call it
    kind: str = "esm"  # or "transformers", or that of another package's embedder
    model: str | None = None  # a downloaded hub id, or a checkpoint folder
    revision: str | None = None  # commit of the download
    dtype: str = "float32"  # what it computes in
    random_weights: RandomWeights | None = None
    features: Path | None = None  # a folder of merged .pt files
    embeddings: Path | None = None  # a folder of *_ESM.pt or *_fastesm.pt files
    predictions: Path | None = None  # id, score; or prediction_results.txt
    metrics: Path | None = None  # accuracy, n (JSON); a baseline's only
    checkpoint: Path | None = None  # a head that was trained elsewhere

    def __post_init__(self) -> None:
        _require_one_of(self.dtype, DTYPES, f"dtype of {self.name}")
        _require(
            not (self.model and self.random_weights),
            self.name,
            "give a model or random_weights, not both",
        )
        _require(
            self.kind == "esm" or not self.random_weights,
            f"kind of {self.name}",
            f'random_weights are of kind "esm"; got {self.kind!r}',
        )
        _require(
            not (self.features and self.embeddings),
            self.name,
            "give features (nucleotide and protein together) or embeddings, not both",
        )
        brought = (self.predictions, self.metrics, self.checkpoint)
        _require(
            sum(path is not None for path in brought) <= 1,
            self.name,
            "give predictions, metrics or a checkpoint: one of them",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NucleotideConfig:
    """What embeds the nucleotides, the same for both sides."""

    kind: str = "model"  # which of them the key below names
    model: str | None = None  # DNABERT-S or DNABERT-2: a downloaded hub id, or a folder
    revision: str | None = None  # commit of the download
    dtype: str = "float32"  # what it computes in
    embeddings: Path | None = None  # a folder of *_DNABERT_S.pt files
    k: int = 4  # length of the k-mers that are counted

    def __post_init__(self) -> None:
        _require_one_of(self.kind, NUCLEOTIDE_KINDS, "nucleotide.kind")
        _require_one_of(self.dtype, DTYPES, "nucleotide.dtype")
        _require(
            (self.model is not None) + (self.embeddings is not None) + (self.kind == "kmer") <= 1,
            "nucleotide",
            'give a model, embeddings or kind = "kmer": one of them',
        )
        _require(
            self.kind != "embeddings" or self.embeddings is not None,
            "nucleotide.embeddings",
            "name the folder of *_DNABERT_S.pt files",
        )
        _require(1 <= self.k <= 6, "nucleotide.k", "must lie between 1 and 6")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """The head's recipe; the defaults are those of VirNucPro's train.py."""

    epochs: int = 200  # at most
    batch_size: int = 32
    hidden_dim: int = 512  # width of the head's hidden layer
    dropout: Fraction = Fraction(1, 2)  # share of the hidden layer
    learning_rate: Fraction = Fraction("0.0002")  # of SGD, in the first epoch
    momentum: Fraction = Fraction("0.9")  # of SGD
    lr_step: int = 10  # epochs after which the rate falls
    lr_gamma: Fraction = Fraction("0.85")  # what it is multiplied by then
    patience: int = 5  # epochs without improvement before it stops
    min_improvement: Fraction = Fraction(0)  # of the validation loss
    validation_fraction: Fraction = Fraction(1, 10)  # of what is not tested on
    save_best: bool = False  # keep the best epoch's weights instead of the last one's
    seeds: int = DEPLOYMENT_SEEDS  # heads a side: the run's, which ships, and the next

    def __post_init__(self) -> None:
        for name in ("epochs", "hidden_dim", "lr_step", "patience", "seeds"):
            _require(getattr(self, name) > 0, f"training.{name}", "must be positive")
        _require(self.batch_size > 1, "training.batch_size", "must be at least 2 (BatchNorm)")
        _require(self.learning_rate > 0, "training.learning_rate", "must be positive")
        _require(0 <= self.momentum < 1, "training.momentum", "must lie in [0, 1)")
        _require(0 <= self.dropout < 1, "training.dropout", "must lie in [0, 1)")
        _require(0 < self.lr_gamma <= 1, "training.lr_gamma", "must lie in (0, 1]")
        _require(
            0 < self.validation_fraction < 1,
            "training.validation_fraction",
            "must lie between 0 and 1",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingConfig:
    """How the embedding time is measured."""

    runs: int = DEPLOYMENT_RUNS  # timed rounds of each side
    sequences: int = DEPLOYMENT_SEQUENCES  # of the test set, in each round
    attempts: int = 1  # measurements, of which more than half must agree

    def __post_init__(self) -> None:
        _require(self.runs >= DEPLOYMENT_RUNS, "timing.runs", "must be at least 3")
        for name in ("sequences", "attempts"):
            _require(getattr(self, name) > 0, f"timing.{name}", "must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The limits of the two headline criteria."""

    max_accuracy_drop_points: Fraction = DEPLOYMENT_DROP_POINTS  # of all rows, shown to be below
    max_class_drop_points: Fraction = DEPLOYMENT_CLASS_DROP_POINTS  # of either class
    max_time_ratio: Fraction = DEPLOYMENT_TIME_RATIO  # of the baseline's time

    def __post_init__(self) -> None:
        for name in ("max_accuracy_drop_points", "max_class_drop_points"):
            _require(0 < getattr(self, name) <= 100, f"thresholds.{name}", "must lie in (0, 100]")
        _require(self.max_time_ratio > 0, "thresholds.max_time_ratio", "must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """All settings of one gate run."""

    seed: int = 42  # of the split, the heads and all that is drawn
    device: str = "cuda"  # "cpu", "cuda" or one GPU, such as "cuda:1"
    threads: int | None = None  # compute threads on the CPU; left out: as many as torch chooses
    store_dtype: str = "float32"  # of embeddings on disk, both sides' and the nucleotides' alike
    data: DataConfig
    baseline: ModelConfig
    candidate: ModelConfig
    nucleotide: NucleotideConfig = field(default_factory=NucleotideConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    timing: TimingConfig = field(default_factory=TimingConfig)
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", f"must not be negative, got {self.seed}")
        _require(
            re.fullmatch(r"cpu|cuda(:\d+)?", self.device) is not None,
            "device",
            f"expected 'cpu', 'cuda' or one GPU, such as 'cuda:1'; got {self.device!r}",
        )
        _require_one_of(self.store_dtype, STORE_DTYPES, "store_dtype")
        _require(self.threads is None or self.threads > 0, "threads", "must be positive")
        _require(self.candidate.metrics is None, "candidate.metrics", "only a baseline may have it")

    def looser_than_deployment(self) -> tuple[str, ...]:
        """Say which settings are looser than a deployment allows; empty if none is."""
        limits, timing = self.thresholds, self.timing
        loose = {
            "max_accuracy_drop_points": limits.max_accuracy_drop_points > DEPLOYMENT_DROP_POINTS,
            "max_class_drop_points": limits.max_class_drop_points > DEPLOYMENT_CLASS_DROP_POINTS,
            "max_time_ratio": limits.max_time_ratio > DEPLOYMENT_TIME_RATIO,
            "training.seeds": self.training.seeds < DEPLOYMENT_SEEDS,
            "timing.attempts": timing.attempts > DEPLOYMENT_ATTEMPTS,
            "timing.sequences": timing.sequences < DEPLOYMENT_SEQUENCES,
        }
        return tuple(name for name, is_loose in loose.items() if is_loose)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with exact numbers as text."""
        plain: dict[str, Any] = to_table(self)
        return plain

    @classmethod
    def from_dict(cls, table: dict[str, Any], *, folder: Path = Path()) -> Self:
        """Build from plain values, such as a parsed TOML file; paths are relative to ``folder``.

        Raises
        ------
        ConfigError
            For an unknown key, a missing one, or a value of the wrong type or range.
        """
        config: Self = from_table(cls, table, where="", folder=folder)
        return config


def _require(condition: bool, where: str, problem: str) -> None:
    if not condition:
        raise ConfigError(f"{where}: {problem}")


def _require_one_of(value: str, allowed: tuple[str, ...], where: str) -> None:
    _require(value in allowed, where, f"expected one of {', '.join(allowed)}; got {value!r}")


MAX_BYTES = 1 << 20


def load_config(path: Path) -> GateConfig:
    """Read a gate's settings from a TOML file, or from the JSON that a run keeps of them.

    Raises
    ------
    ConfigError
        If the file cannot be read, is neither, or holds unknown keys or unusable values.
    """
    try:
        text = read_text(path, most_bytes=MAX_BYTES)
        table = parse_json(text) if path.suffix == ".json" else parse_toml(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML or JSON: {error}") from error
    try:
        return GateConfig.from_dict(table, folder=path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
