"""Models whose code comes with their checkpoint: run only with leave, from a pinned revision.

DNABERT-S is such a model: transformers has no class for it, its checkpoint holds Python files. They
run with the rights of whoever starts the gate, so nothing of them is imported without an explicit
setting, and only code that was downloaded beforehand ever runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import digest_file, digest_json
from harness.errors import CheckpointError, MissingInput

if TYPE_CHECKING:
    import torch

__all__ = ["RemoteCheckpoint", "open_remote_checkpoint"]

Tokeniser = Callable[[str], Mapping[str, list[int]]]

_COMMIT_HASH = re.compile(r"[0-9a-f]{40}")
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_DECISIVE = ("*.py", "*.json", "*.txt")
# In checkpoints or in the model, but without a part in its hidden states.
_NOT_USED = re.compile(r"(cls|pooler|classifier)\..*|.*\bposition_ids")

_WITHOUT = (
    'To do without it, set embeddings = "folder of *_DNABERT_S.pt" (as VirNucPro wrote them), or '
    'kind = "kmer"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCheckpoint:
    """A checkpoint on disk whose code may run.

    Attributes
    ----------
    model : str
        Hub id or folder, as transformers is asked for it.
    revision : str or None
        Commit hash of the hub id; None for a folder.
    folder : Path
        Where its files lie.
    """

    model: str
    revision: str | None
    folder: Path

    def digest(self) -> str:
        """Return the sha256 (hex) of everything that decides the vectors: code, weights, tables."""
        files = {path for pattern in _DECISIVE for path in self.folder.glob(pattern)}
        return digest_json(_digests({*files, self._weight_file()}))

    def code_digest(self) -> str:
        """Return the sha256 (hex) of its Python files."""
        return digest_json(_digests(set(self.folder.glob("*.py"))))

    def load_tokeniser(self) -> Tokeniser:
        """Return its tokeniser: text to ``input_ids``, with the special tokens."""
        from transformers import AutoTokenizer

        with self._named_errors("tokeniser"):
            tokeniser: Tokeniser = AutoTokenizer.from_pretrained(
                self.model, trust_remote_code=True, **self._pinned()
            )
        return tokeniser

    def load_model(self) -> torch.nn.Module:
        """Return the encoder in float32 on the CPU, in evaluation mode.

        The class is built as its code says and then filled, so that tables that it computes for
        itself stay what they are.

        Raises
        ------
        CheckpointError
            If its code fails, or weights are missing, unexpected or of another shape.
        """
        from transformers import AutoConfig
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        with self._named_errors("model"):
            config = AutoConfig.from_pretrained(
                self.model, trust_remote_code=True, **self._pinned()
            )
            built = get_class_from_dynamic_module(
                config.auto_map["AutoModel"], self.model, **self._pinned()
            )
            model: torch.nn.Module = built(config)
        _fill(model, self._read_weights(), self.folder)
        return model.float().eval()

    def _pinned(self) -> dict[str, Any]:
        """Return what keeps transformers to this very revision, of weights and code alike."""
        pin = {"revision": self.revision} if self.revision else {}
        return {"local_files_only": True, **pin}

    def _weight_file(self) -> Path:
        for name in _WEIGHT_FILES:
            if (self.folder / name).is_file():
                return self.folder / name
        raise MissingInput(
            f"{self.folder} holds neither {_WEIGHT_FILES[0]} nor {_WEIGHT_FILES[1]}",
            remedy="Download the checkpoint's weights into it",
        )

    def _read_weights(self) -> dict[str, torch.Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from harness.data.formats.unpickle import load_restricted

        path = self._weight_file()
        try:
            loaded = load_file(path) if path.suffix == ".safetensors" else load_restricted(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
        if not isinstance(loaded, dict):
            raise CheckpointError(
                f"{path}: expected a dict of weights, got {type(loaded).__name__}"
            )
        return loaded

    @contextmanager
    def _named_errors(self, part: str) -> Iterator[None]:
        """Turn whatever foreign code raises into an error that names it."""
        try:
            yield
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{self.model}: its {part} does not load with what is installed here "
                f"({type(error).__name__}: {said}). {_WITHOUT}"
            ) from error


def open_remote_checkpoint(
    model: str | None, *, revision: str | None, trust_remote_code: bool
) -> RemoteCheckpoint:
    """Return a checkpoint whose code the settings allow to run; runs none of it yet.

    Parameters
    ----------
    model : str or None
        Hub id, or a checkpoint's folder.
    revision : str or None
        The commit hash of a hub id, 40 hexadecimal digits; not needed for a folder.
    trust_remote_code : bool
        Whether its code may run.

    Raises
    ------
    MissingInput
        If no model is named, the leave is not given, or the files are not there.
    CheckpointError
        If the checkpoint brings no code, or takes it from another repository.
    """
    if model is None:
        raise MissingInput(
            "[nucleotide] names nothing that embeds the nucleotides",
            remedy='Set embeddings = "folder of *_DNABERT_S.pt", a model, or kind = "kmer"; or '
            "give both sides `features`",
        )
    is_folder = Path(model).is_dir()
    _require_leave(model, revision, trust_remote_code=trust_remote_code, is_folder=is_folder)
    folder = Path(model) if is_folder else _cached(model, str(revision))
    _check_code(folder, model)
    return RemoteCheckpoint(model=model, revision=None if is_folder else revision, folder=folder)


def _require_leave(
    model: str, revision: str | None, *, trust_remote_code: bool, is_folder: bool
) -> None:
    pin = "" if is_folder else ' and revision = "<the commit hash, 40 digits>"'
    if not trust_remote_code:
        raise MissingInput(
            f"[nucleotide] model {model!r} brings Python code of its own, which would run here "
            "with all your rights, so it is not run without your leave",
            remedy="Read its .py files, as they are at the revision that you pin; then set "
            f"trust_remote_code = true{pin} in [nucleotide]. {_WITHOUT}",
        )
    if not is_folder and not _COMMIT_HASH.fullmatch(revision or ""):
        raise MissingInput(
            f"[nucleotide] revision is {revision!r}: a branch or a tag can be moved to other code "
            f"than what you have read, so {model!r} is not run from it",
            remedy=f"Give the full commit hash (40 hexadecimal digits) as revision. {_WITHOUT}",
        )


def _cached(model: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise MissingInput(
            f"No folder {model!r} and no cached download of the model of that name at {revision}",
            remedy=f"Run `hf download {model} --revision {revision}`. {_WITHOUT}",
        ) from error


def _check_code(folder: Path, model: str) -> None:
    """Refuse code that would come from elsewhere, where the revision does not pin it."""
    maps = [_auto_map(folder / name) for name in ("config.json", "tokenizer_config.json")]
    if not isinstance(maps[0].get("AutoModel"), str):
        raise CheckpointError(
            f"{folder / 'config.json'}: names no code of its own (auto_map.AutoModel), so this is "
            f"not DNABERT-S. {_WITHOUT}"
        )
    named = [str(name) for auto_map in maps for name in auto_map.values()]
    others = {name.partition("--")[0] for name in named if "--" in name} - {model}
    if others:
        raise CheckpointError(
            f"{folder}: takes code from another repository ({', '.join(sorted(others))}), which "
            "its revision does not pin. Put those .py files into a copy of the folder, take the "
            f"names before '--' out of auto_map, and name that folder as model. {_WITHOUT}"
        )


def _auto_map(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("auto_map") or {}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a readable JSON object: {error}") from error
    return found if isinstance(found, dict) else {"tokeniser": found}


def _fill(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    named = {name.removeprefix(prefix): value for name, value in weights.items()}
    expected = model.state_dict()
    problems = [f"missing {name}" for name in expected.keys() - named.keys()]
    problems += [f"unexpected {name}" for name in named.keys() - expected.keys()]
    problems = [text for text in problems if not _NOT_USED.fullmatch(text.partition(" ")[2])]
    shared = {name: value for name, value in named.items() if name in expected}
    problems += [
        f"{name} has shape {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
        for name, value in shared.items()
        if value.shape != expected[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"{folder}: {len(problems)} weights do not fit its code: "
            f"{'; '.join(sorted(problems)[:10])}. Download the checkpoint again"
        )
    model.load_state_dict(shared, strict=False)


def _digests(files: set[Path]) -> dict[str, str]:
    return {path.name: digest_file(path) for path in sorted(files)}
