"""ESM2 and FastESM2 checkpoints: from a transformers folder or a cached hub id to a checked model.

Nothing in the folder is executed: configuration and weights are data, and FastESM2's weights are
those of ESM2's architecture. What is in the weight files is read in ``weights``.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import digest_file, digest_json
from harness.embedding.esm.alphabet import TOKENS
from harness.embedding.esm.random_weights import RANDOM_MARK
from harness.errors import CheckpointError, MissingInput

if TYPE_CHECKING:
    import torch

__all__ = ["EsmCheckpoint", "find_checkpoint", "open_checkpoint"]

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
        from harness.embedding.esm.weights import expected_shapes

        return sum(math.prod(shape) for shape in expected_shapes(self.shape).values())

    def read_weights(self, *, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
        """Return the encoder's weights by transformers' names, on the device.

        Raises
        ------
        CheckpointError
            If a weight is missing, unexpected or has another shape; all are named.
        """
        from harness.embedding.esm.weights import check_weights, read_weights

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
