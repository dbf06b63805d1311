"""A checkpoint that brings its own code: what decides its vectors, and how it is loaded.

Its code runs here, with the rights of this process. Whether it may is decided in ``remote_code``.
"""

from __future__ import annotations

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

__all__ = ["WITHOUT", "RemoteCheckpoint"]

Tokeniser = Callable[[str], Mapping[str, list[int]]]

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_DECISIVE = ("*.py", "*.json", "*.txt")
# In checkpoints or in the model, but without a part in its hidden states.
_NOT_USED = re.compile(r"(cls|pooler|classifier)\..*|.*\bposition_ids")

# What ends every error: nobody has to run it.
WITHOUT = (
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
                f"({type(error).__name__}: {said}). {WITHOUT}"
            ) from error


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
