"""ESM2 and FastESM2 checkpoints: from a transformers folder or a cached hub id to a checked model.

Nothing in the folder is executed: configuration and weights are data, and FastESM2's weights are
those of ESM2's architecture. What is in the weight files is read in ``weights``.

The weights of a checkpoint: their names and shapes, and reading them onto a device.

Names are those of transformers' ``EsmModel``, which ESM2's checkpoints carry as they are and
FastESM2's behind ``esm.``. What does not fit the configuration is named before anything is read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open

from harness.artifacts import digest_file, digest_json
from harness.data.unpickle import load_restricted
from harness.embedding.esm.alphabet import TOKENS
from harness.embedding.esm.random_weights import RANDOM_MARK
from harness.errors import CheckpointError, MissingInput

if TYPE_CHECKING:
    import torch

__all__ = [
    "EsmCheckpoint",
    "check_weights",
    "expected_shapes",
    "find_checkpoint",
    "open_checkpoint",
    "read_weights",
]


Shape: TypeAlias = tuple[int, ...]

NAMED_PROBLEMS = 10

# In checkpoints, not part of the encoder: heads, pooler, tables that follow from the config.
# Where such a table stands has changed with transformers' versions, so none is asked for.
_KNOWN_EXTRAS = re.compile(
    r"(lm_head|pooler|contact_head)\..*"
    r"|embeddings\.(position_ids|position_embeddings\.weight)"
    r"|(encoder\.layer\.\d+\.attention\.self\.)?rotary_embeddings\.inv_freq"
)


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


def check_weights(files: Sequence[Path], config: Mapping[str, Any], folder: Path) -> None:
    """Raise CheckpointError unless the files hold the encoder's weights; all problems are named.

    Only the files' tables of contents are read.
    """
    found: dict[str, Shape] = {}
    for path in files:
        with _opened(path) as tensors:
            found |= {_encoder_name(name): tensors.shape(name) for name in tensors.names}
    expected = expected_shapes(config)
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [
        f"{name} has shape {shape}, expected {expected[name]}"
        for name, shape in found.items()
        if name in expected and shape != expected[name]
    ]
    extras = [name for name in found if name not in expected]
    problems += [f"unexpected {name}" for name in extras if not _KNOWN_EXTRAS.fullmatch(name)]
    if problems:
        listed = "; ".join(sorted(problems)[:NAMED_PROBLEMS])
        raise CheckpointError(
            f"{folder}: {len(problems)} weights do not fit the configuration: {listed}. "
            "Download the checkpoint again, or name the revision it belongs to"
        )


def read_weights(
    files: Sequence[Path],
    config: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, torch.Tensor]:
    """Return the encoder's weights by name, one after the other put on the device.

    Parameters
    ----------
    files : sequence of Path
        As checked by :func:`check_weights`.
    config : mapping
        As for :func:`expected_shapes`.
    """
    expected = expected_shapes(config)
    weights: dict[str, torch.Tensor] = {}
    for path in files:
        with _opened(path) as tensors:
            for name in tensors.names:
                if _encoder_name(name) in expected:
                    weights[_encoder_name(name)] = tensors.read(name).to(device).to(dtype)
    return weights


class _Safetensors:
    def __init__(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")
        self.names: list[str] = list(file.keys())
        self._file = file

    def shape(self, name: str) -> Shape:
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor


class _Pickled:
    def __init__(self, path: Path) -> None:
        loaded = load_restricted(path, is_mapped=True)
        if not isinstance(loaded, dict):
            found = type(loaded).__name__
            raise CheckpointError(f"{path}: expected a dict of weights, got {found}")
        self._tensors: dict[str, torch.Tensor] = {
            name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)
        }
        self.names = list(self._tensors)

    def shape(self, name: str) -> Shape:
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> torch.Tensor:
        return self._tensors[name]


@contextmanager
def _opened(path: Path) -> Iterator[_Safetensors | _Pickled]:
    try:
        yield _Safetensors(path) if path.suffix == ".safetensors" else _Pickled(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error


def _norm(name: str, dim: int) -> dict[str, Shape]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _encoder_name(name: str) -> str:
    return name.removeprefix("esm.")


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
    random_seed : int or None
        The seed, where the weights are random.
    """

    folder: Path
    model_type: str
    shape: dict[str, Any]
    weight_files: tuple[Path, ...]
    random_seed: int | None

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return int(self.shape["hidden_size"])

    def digest(self) -> str:
        """Return the sha256 (hex) of shape and weights, whatever the files are called."""
        with ThreadPoolExecutor() as threads:  # large files, and hashing leaves the interpreter
            files = sorted(threads.map(digest_file, self.weight_files))
        return digest_json({"shape": self.shape, "weights": files})

    @property
    def n_parameters(self) -> int:
        """Number of weights that the encoder uses."""
        pass  # MERGED

        return sum(math.prod(shape) for shape in expected_shapes(self.shape).values())

    def read_weights(self, *, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
        """Return the encoder's weights by transformers' names, on the device.

        Raises
        ------
        CheckpointError
            If a weight is missing, unexpected or has another shape; all are named.
        """
        pass  # MERGED

        check_weights(self.weight_files, self.shape, self.folder)
        return read_weights(self.weight_files, self.shape, dtype=dtype, device=device)


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
    config = _read_json(folder / "config.json")
    model_type = config.get("model_type")
    if model_type not in _MODEL_TYPES:
        raise CheckpointError(f"{folder}: model_type is {model_type!r}; expected {_MODEL_TYPES}")
    if missing := [key for key in _SHAPE_KEYS if not isinstance(config.get(key), int)]:
        raise CheckpointError(f"{folder / 'config.json'}: {missing[0]} must be a whole number")
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
    shape = {key: config[key] for key in _SHAPE_KEYS} | {
        "max_position_embeddings": config.get("max_position_embeddings", 1026),
        "layer_norm_eps": config.get("layer_norm_eps", 1e-5),
    }
    return EsmCheckpoint(
        folder=folder,
        model_type=model_type,
        shape=shape,
        weight_files=_weight_files(folder),
        random_seed=config.get(RANDOM_MARK),
    )


def _weight_files(folder: Path) -> tuple[Path, ...]:
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if (folder / single).is_file():
            return (folder / single,)
        if (folder / index).is_file():
            return _sharded_files(folder / index)
    raise MissingInput(
        f"{folder} holds neither model.safetensors nor pytorch_model.bin",
        remedy="Download the checkpoint's weights into it",
    )


def _sharded_files(index: Path) -> tuple[Path, ...]:
    names = sorted(set(_read_json(index).get("weight_map", {}).values()))
    files = tuple(index.parent / Path(name).name for name in names)
    if missing := [path.name for path in files if not path.is_file()]:
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
    return tuple(path.read_text(encoding="utf-8").split())


def _numbered_tokens(path: Path) -> tuple[str, ...]:
    try:
        numbers: dict[str, int] = _read_json(path)["model"]["vocab"]
        return tuple(sorted(numbers, key=numbers.__getitem__))
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: holds no vocabulary ({error!r})") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingInput(
            f"{path} is not there", remedy="Name the folder of a transformers checkpoint"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected an object, got {type(loaded).__name__}")
    return loaded
