"""ESM2 and FastESM2 checkpoints: from a transformers folder or a cached hub id to a checked model.

Owns what such a folder may hold, in every form that transformers writes: configuration, files and
their shards, names and shapes of the weights. Names are those of transformers' ``EsmModel``, alone
or behind ``esm.``; heads are passed over by name, and what else does not fit is named before
anything is read. Nothing in the folder is executed. Where the weights come from is found out in
``origin``; what is computed with them, in ``encoder``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from safetensors import SafetensorError, safe_open

from harness.artifacts import digest_file, digest_json
from harness.data.unpickle import load_restricted, refuse_lfs_pointer
from harness.documents import read_json, read_text
from harness.embedding.esm.alphabet import TOKENS
from harness.errors import CheckpointError, MissingInput

__all__ = [
    "ROTARY_BASE",
    "STAND_IN_MARK",
    "EsmCheckpoint",
    "expected_shapes",
    "find_checkpoint",
    "is_untrained",
    "open_checkpoint",
    "read_config",
    "require_epsilon",
    "require_sizes",
    "stand_in_of",
    "table_name",
]


Shape: TypeAlias = tuple[int, ...]

# In config.json of a checkpoint that stands in for another model, and says so: a rehearsal.
STAND_IN_MARK = "virnucpro_harness_stand_in"

NAMED_PROBLEMS = 10
MOST_LAYERS, MOST_SIZE = 1_000, 10_000_000
ROTARY_BASE = 10_000.0

# In checkpoints, not part of the encoder: what transformers attaches to one, and learnt positions,
# of which a rotary model makes no use.
_HEADS = re.compile(
    r"(lm_head|classifier|qa_outputs|pooler|contact_head)\..*"
    r"|embeddings\.(position_ids|position_embeddings\.weight)"
)
# Transformers kept a rotary table in each layer, then one for all; 5.23 writes that one as
# "encoder.layer.*.attention...", with the asterisk.
_TABLE = "rotary_embeddings.inv_freq"
_SHARED_TABLES = (f"encoder.layer.*.attention.self.{_TABLE}", _TABLE)
# Older and some newer versions of transformers call a normalisation's weight and bias so.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def expected_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Return name and shape of each weight of an encoder.

    Parameters
    ----------
    config : mapping
        With hidden_size, intermediate_size, num_hidden_layers and vocab_size.
    """
    dim, wide = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, Shape] = {"embeddings.word_embeddings.weight": (config["vocab_size"], dim)}
    linear = {
        "attention.self.query": (dim, dim),
        "attention.self.key": (dim, dim),
        "attention.self.value": (dim, dim),
        "attention.output.dense": (dim, dim),
        "intermediate.dense": (wide, dim),
        "output.dense": (dim, wide),
    }
    for number in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{number}"
        for name, shape in linear.items():
            shapes[f"{prefix}.{name}.weight"] = shape
            shapes[f"{prefix}.{name}.bias"] = shape[:1]
        shapes |= _norm(f"{prefix}.attention.LayerNorm", dim) | _norm(f"{prefix}.LayerNorm", dim)
    return shapes | _norm("encoder.emb_layer_norm_after", dim)


def table_name(layer: int) -> str:
    """Return what a layer's rotary table is called: its channels' inverse frequencies."""
    return f"encoder.layer.{layer}.attention.self.{_TABLE}"


class _Tensor(NamedTuple):
    """One tensor in a file, read when it is called for."""

    shape: Shape
    read: Callable[[], torch.Tensor]


def _contents(files: Sequence[Path]) -> dict[str, _Tensor]:
    """Return what the files hold, by today's names; only their tables of contents are read."""
    contents: dict[str, _Tensor] = {}
    for path in files:
        held = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
        for stored_name, tensor in held.items():
            name = _encoder_name(stored_name)
            if name in contents:
                raise CheckpointError(
                    f"{path}: {stored_name} is there under another name, too, so which of them "
                    "counts is unknown. Download the checkpoint again"
                )
            contents[name] = tensor
    return contents


def _safetensors(path: Path) -> dict[str, _Tensor]:
    try:
        file: Any = safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
    return {
        name: _Tensor(tuple(file.get_slice(name).get_shape()), partial(file.get_tensor, name))
        for name in file.keys()  # noqa: SIM118 - it is no dict
    }


def _pickled(path: Path) -> dict[str, _Tensor]:
    loaded = load_restricted(path, is_mapped=True)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected a dict of weights, got {type(loaded).__name__}")
    return {
        str(name): _Tensor(tuple(value.shape), value.detach)
        for name, value in loaded.items()
        if isinstance(value, torch.Tensor)
    }


def _problems(contents: Mapping[str, _Tensor], config: Mapping[str, Any]) -> list[str]:
    """Name each tensor that does not fit the configuration."""
    expected = expected_shapes(config)
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    tables = [table_name(number) for number in range(config["num_hidden_layers"])]
    wanted = expected | dict.fromkeys((*tables, *_SHARED_TABLES), (half,))
    required = list(expected)
    if any(name in contents for name in tables) and not _shared_table(contents):
        required += tables  # all layers have one, or none
    wrong = [
        f"{name} has shape {tensor.shape}, expected {wanted[name]}"
        for name, tensor in contents.items()
        if name in wanted and tensor.shape != wanted[name]
    ]
    extras = [name for name in contents if name not in wanted and not _HEADS.fullmatch(name)]
    return [
        *(f"missing {name}" for name in required if name not in contents),
        *wrong,
        *(f"unexpected {name}" for name in extras),
    ]


def _shared_table(contents: Mapping[str, _Tensor]) -> _Tensor | None:
    return next((contents[name] for name in _SHARED_TABLES if name in contents), None)


def _norm(name: str, dim: int) -> dict[str, Shape]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _encoder_name(name: str) -> str:
    """Return a tensor's name as today's ``EsmModel`` has it."""
    name = name.removeprefix("esm.")
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


_MODEL_TYPES = ("esm", "fast_esm")
_FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.bin",
    "*.bin.index.json",
)

# What the encoder computes. FastESM2's configuration leaves these to its own defaults.
_ARCHITECTURE = {
    "emb_layer_norm_before": False,
    "position_embedding_type": "rotary",
    "rope_theta": ROTARY_BASE,
    "token_dropout": True,
}
_SHAPE_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EsmCheckpoint:
    """An ESM2-shaped checkpoint on disk, with its configuration read and checked.

    Attributes
    ----------
    folder : Path
        Where it lies.
    model_type : str
        ``esm`` or ``fast_esm``.
    shape : dict
        hidden_size, intermediate_size, num_attention_heads, num_hidden_layers, vocab_size,
        max_position_embeddings, layer_norm_eps.
    weight_files : tuple of Path
        The files that hold the weights.
    stand_in : str or None
        For what it stands in, where it says that it does.
    """

    folder: Path
    model_type: str
    shape: dict[str, Any]
    weight_files: tuple[Path, ...]
    stand_in: str | None

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return int(self.shape["hidden_size"])

    def file_digests(self) -> dict[str, str]:
        """Return the sha256 (hex) of each weight file, by its name."""
        with ThreadPoolExecutor() as threads:  # large files, and hashing leaves the interpreter
            digests = threads.map(digest_file, self.weight_files)
            return {p.name: d for p, d in zip(self.weight_files, digests, strict=True)}

    def digest(self, file_digests: Mapping[str, str] | None = None) -> str:
        """Return the sha256 (hex) of shape and weights, whatever the files are called."""
        files = self.file_digests() if file_digests is None else file_digests
        return digest_json({"shape": self.shape, "weights": sorted(files.values())})

    @property
    def n_parameters(self) -> int:
        """Number of weights that the encoder uses."""
        return sum(math.prod(shape) for shape in expected_shapes(self.shape).values())

    def is_untrained(self) -> bool:
        """Whether every bias is 0 and every normalisation's weight 1, as a model starts out.

        Read are vectors alone, and of a trained model no more than the first.
        """
        contents = self._checked_contents()
        shapes = expected_shapes(self.shape).items()
        return is_untrained(
            (name, contents[name].read()) for name, size in shapes if len(size) == 1
        )

    def read_weights(self, *, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
        """Return the encoder's weights by transformers' names, one after the other put on a device.

        Where the files have rotary tables, each layer's is among them (see :func:`table_name`), in
        float32 whatever the dtype: published ones are rounded to half precision, and the model was
        trained with that.

        Raises
        ------
        CheckpointError
            If a weight is missing, unexpected or has another shape (all are named), or a rotary
            table is not finite.
        """
        contents = self._checked_contents()
        weights = {
            name: contents[name].read().to(device).to(dtype) for name in expected_shapes(self.shape)
        }
        shared = _shared_table(contents)
        for name in map(table_name, range(self.shape["num_hidden_layers"])):
            if (table := contents.get(name, shared)) is not None:
                weights[name] = table.read().to(device).float()
                if not weights[name].isfinite().all():
                    raise CheckpointError(
                        f"{self.folder}: {name} is not finite. Download the checkpoint again"
                    )
        return weights

    def _checked_contents(self) -> dict[str, _Tensor]:
        contents = _contents(self.weight_files)
        if problems := _problems(contents, self.shape):
            listed = "; ".join(sorted(problems)[:NAMED_PROBLEMS])
            raise CheckpointError(
                f"{self.folder}: {len(problems)} weights do not fit the configuration: {listed}. "
                "Download the checkpoint again, or name the revision it belongs to"
            )
        return contents


def is_untrained(weights: Iterable[tuple[str, torch.Tensor]]) -> bool:
    """Whether every bias is 0 and every other vector 1, as a model starts out."""
    return all(
        bool((value == (0 if name.endswith("bias") else 1)).all())
        for name, value in weights
        if value.ndim == 1
    )


def stand_in_of(config: Mapping[str, Any]) -> str | None:
    """Return what a configuration says that its model stands in for; None if nothing."""
    mark = config.get(STAND_IN_MARK)
    return None if mark is None else str(mark)


def find_checkpoint(model: str, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint: the one named, or a hub id's in the local cache.

    Raises
    ------
    MissingInput
        If there is neither; the remedy is the command that downloads it.
    CheckpointError
        If a folder is named together with a revision that is not the folder's own name: which one
        it holds, only the hub knows.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision not in (None, folder.name):
            raise CheckpointError(
                f"{folder} is a folder, which has no revision {revision!r}. Name the hub id, or "
                "leave `revision` out"
            )
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        cached = snapshot_download(
            model, revision=revision, allow_patterns=list(_FILES), local_files_only=True
        )
    except (HFValidationError, LocalEntryNotFoundError) as error:
        version = f" --revision {revision}" if revision else ""
        raise MissingInput(
            f"No folder {model!r} and no cached download of the model of that name",
            remedy=f"Run `hf download {model}{version}`, or name the checkpoint's folder",
        ) from error
    return Path(cached)


def open_checkpoint(folder: Path) -> EsmCheckpoint:
    """Read a checkpoint's configuration and find its weights; nothing large is read yet.

    Raises
    ------
    MissingInput
        If the folder holds no weights.
    CheckpointError
        If it is no ESM2 or FastESM2 checkpoint, or uses another alphabet.
    """
    config = read_config(folder / "config.json")
    model_type = config.get("model_type")
    if model_type not in _MODEL_TYPES:
        raise CheckpointError(f"{folder}: model_type is {model_type!r}; expected {_MODEL_TYPES}")
    require_sizes(folder / "config.json", config, _SHAPE_KEYS)
    _check_architecture(config, folder)
    if config["hidden_size"] % (2 * config["num_attention_heads"]):
        raise CheckpointError(
            f"{folder / 'config.json'}: a hidden_size of {config['hidden_size']} cannot be divided "
            f"into {config['num_attention_heads']} heads of pairs of channels. Is this another "
            "model?"
        )
    if config["vocab_size"] < len(TOKENS):
        raise CheckpointError(
            f"{folder / 'config.json'}: vocab_size is {config['vocab_size']}; ESM2 has "
            f"{len(TOKENS)} tokens. Is this another model?"
        )
    _check_vocabulary(folder)
    defaults = {"max_position_embeddings": 1026, "layer_norm_eps": 1e-5}
    shape = {key: config[key] for key in _SHAPE_KEYS}
    shape |= {key: config.get(key, default) for key, default in defaults.items()}
    require_sizes(folder / "config.json", shape, ["max_position_embeddings"])
    require_epsilon(folder / "config.json", shape["layer_norm_eps"])
    return EsmCheckpoint(
        folder=folder,
        model_type=model_type,
        shape=shape,
        weight_files=_weight_files(folder),
        stand_in=stand_in_of(config),
    )


def require_sizes(path: Path, config: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raise CheckpointError unless a configuration has these sizes, each of a model that exists."""
    for key in keys:
        most, found = (MOST_LAYERS if "layers" in key else MOST_SIZE), config.get(key)
        if type(found) is not int or not 1 <= found <= most:
            raise CheckpointError(
                f"{path}: {key} must be a whole number from 1 to {most:,}, is {found!r:.40}. "
                "Download the checkpoint again"
            )


def require_epsilon(path: Path, found: object) -> None:
    """Raise CheckpointError unless a configuration's ``layer_norm_eps`` is a positive number."""
    if not isinstance(found, float | int) or not 0 < found < 1:
        raise CheckpointError(
            f"{path}: layer_norm_eps must be a number between 0 and 1, is {found!r:.40}. Download "
            "the checkpoint again"
        )


def _weight_files(folder: Path) -> tuple[Path, ...]:
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if (folder / single).is_file():
            return _whole((folder / single,))
        if (folder / index).is_file():
            return _whole(_sharded_files(folder / index))
    raise MissingInput(
        f"{folder} holds neither model.safetensors nor pytorch_model.bin",
        remedy="Download the checkpoint's weights into it",
    )


def _whole(files: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in files:
        refuse_lfs_pointer(path)
    return files


def _sharded_files(index: Path) -> tuple[Path, ...]:
    listed = read_config(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(v, str) and v for v in listed.values()):
        raise CheckpointError(
            f"{index}: expected a weight_map of names to files. Download the checkpoint again"
        )
    names = sorted({Path(name).name for name in listed.values()})
    files = tuple(index.parent / name for name in names)
    if missing := sorted({*names} - {path.name for path in index.parent.iterdir()}):
        raise MissingInput(
            f"{index} names {len(missing)} files that are not there: {', '.join(missing[:5])}",
            remedy="Download the missing shards into the same folder",
        )
    return files


def _check_architecture(config: dict[str, Any], folder: Path) -> None:
    for key, expected in _ARCHITECTURE.items():
        found = config.get(key)
        if found is not None and found != expected:
            raise CheckpointError(
                f"{folder / 'config.json'}: {key} is {found!r}; ESM2 and FastESM2 have "
                f"{expected!r}. Is this another model?"
            )


def _check_vocabulary(folder: Path) -> None:
    for name, read in (("vocab.txt", _listed_tokens), ("tokenizer.json", _numbered_tokens)):
        path = folder / name
        if path.is_file() and (tokens := read(path)) != TOKENS:
            different = [t for t in (*tokens, *TOKENS) if (t in tokens) != (t in TOKENS)]
            raise CheckpointError(
                f"{path}: is not ESM2's vocabulary; differs in {different[:5] or 'order'}. "
                "Is this another model, or another revision?"
            )


def _listed_tokens(path: Path) -> tuple[str, ...]:
    try:
        return tuple(read_text(path).split())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable list of tokens: {error}") from error


def _numbered_tokens(path: Path) -> tuple[str, ...]:
    try:
        numbers: dict[str, int] = read_config(path)["model"]["vocab"]
        return tuple(sorted(numbers, key=numbers.__getitem__))
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: holds no vocabulary ({error!r})") from error


def read_config(
    path: Path, *, remedy: str = "Name the folder of a transformers checkpoint"
) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    MissingInput
        If the file is not there; with the remedy.
    CheckpointError
        If it cannot be read, or holds something else.
    """
    try:
        loaded = read_json(path)
    except FileNotFoundError as error:
        raise MissingInput(f"{path} is not there", remedy=remedy) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected an object, got {type(loaded).__name__}")
    return loaded
