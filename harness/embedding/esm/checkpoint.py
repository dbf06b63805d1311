"""ESM2 and FastESM2 checkpoints: from a transformers folder or a cached hub id to a checked model.

Nothing in the folder is executed: the configuration and the weights are data, and the code is
transformers' own ``EsmModel``, whose weights FastESM2 shares. Embedding is not done here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import digest_file, digest_json
from harness.embedding.esm.alphabet import TOKENS
from harness.embedding.esm.random_weights import RANDOM_MARK
from harness.errors import CheckpointError, MissingInput

if TYPE_CHECKING:
    import torch
    from transformers import EsmModel

__all__ = ["EsmCheckpoint", "find_checkpoint", "open_checkpoint"]

_MODEL_TYPES = ("esm", "fast_esm")
_FILES = (
    "config.json",
    "vocab.txt",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.bin",
    "*.bin.index.json",
)

# In checkpoints, not part of the encoder: heads, pooler, tables that follow from the config.
# Where such a table stands has changed with transformers' versions, so none is asked for.
_KNOWN_EXTRAS = re.compile(
    r"(lm_head|pooler|contact_head)\..*"
    r"|embeddings\.(position_ids|position_embeddings\.weight)"
    r"|(encoder\.layer\.\d+\.attention\.self\.)?rotary_embeddings\.inv_freq"
)

# FastESM2's configuration leaves these to its own defaults, which differ from EsmConfig's.
_ARCHITECTURE = {
    "emb_layer_norm_before": False,
    "is_folding_model": False,
    "position_embedding_type": "rotary",
    "token_dropout": True,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "mask_token_id": TOKENS.index("<mask>"),
    "pad_token_id": TOKENS.index("<pad>"),
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
        files = sorted(digest_file(path) for path in self.weight_files)
        return digest_json({"shape": self.shape, "weights": files})

    def load(self) -> EsmModel:
        """Return the encoder in float32 on the CPU, in evaluation mode.

        Raises
        ------
        CheckpointError
            If a weight is missing, unexpected or has another shape; all are named.
        """
        from transformers import EsmConfig, EsmModel

        config = EsmConfig(**self.shape, **_ARCHITECTURE, attn_implementation="sdpa")
        model = EsmModel(config, add_pooling_layer=False)
        _fill(model, self._read_weights(), self.folder)
        model.eval()
        return model

    def _read_weights(self) -> dict[str, torch.Tensor]:
        weights: dict[str, torch.Tensor] = {}
        for path in self.weight_files:
            weights |= {_encoder_name(name): value for name, value in _read_tensors(path).items()}
        return weights


def find_checkpoint(model: str, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint: the one named, or a hub id's in the local cache.

    Raises
    ------
    MissingInput
        If there is neither; the remedy is the command that downloads it.
    """
    folder = Path(model)
    if folder.is_dir():
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


def _fill(model: EsmModel, weights: dict[str, torch.Tensor], folder: Path) -> None:
    expected = {
        name: value.shape
        for name, value in model.state_dict().items()
        if not _KNOWN_EXTRAS.fullmatch(name)
    }
    problems = [f"missing {name}" for name in expected if name not in weights]
    problems += [
        f"{name} has shape {tuple(value.shape)}, expected {tuple(expected[name])}"
        for name, value in weights.items()
        if name in expected and value.shape != expected[name]
    ]
    extras = [name for name in weights if name not in expected]
    problems += [f"unexpected {name}" for name in extras if not _KNOWN_EXTRAS.fullmatch(name)]
    if problems:
        listed = "; ".join(sorted(problems)[:10])
        raise CheckpointError(
            f"{folder}: {len(problems)} weights do not fit the configuration: {listed}. "
            "Download the checkpoint again, or name the revision it belongs to"
        )
    model.load_state_dict({name: weights[name] for name in expected}, strict=False)


def _encoder_name(name: str) -> str:
    return name.removeprefix("esm.")


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors: dict[str, torch.Tensor] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
        return tensors
    from harness.data.formats.unpickle import load_restricted

    loaded = load_restricted(path)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected a dict of weights, got {type(loaded).__name__}")
    return loaded


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
    for key in ("position_embedding_type", "emb_layer_norm_before", "token_dropout"):
        found = config.get(key)
        if found is not None and found != _ARCHITECTURE[key]:
            raise CheckpointError(
                f"{folder / 'config.json'}: {key} is {found!r}; ESM2 and FastESM2 have "
                f"{_ARCHITECTURE[key]!r}. Is this another model?"
            )


def _check_vocabulary(folder: Path) -> None:
    path = folder / "vocab.txt"
    if not path.is_file():
        return
    tokens = tuple(path.read_text(encoding="utf-8").split())
    if tokens != TOKENS:
        different = [t for t in (*tokens, *TOKENS) if (t in tokens) != (t in TOKENS)]
        raise CheckpointError(
            f"{path}: is not ESM2's vocabulary; differs in {different[:5] or 'order'}"
        )


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
