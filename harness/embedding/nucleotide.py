"""k-mer profiles: a nucleotide embedding that needs no model.

Stands in for DNABERT-S where its weights cannot be had, as in the tiny profile.

DNABERT-S from its checkpoint: the mean over all tokens, as VirNucPro takes it.

A checkpoint that brings its own code: what decides its vectors, and how it is loaded.

Its code runs here, with the rights of this process. Whether it may is decided in ``remote_code``.

Models whose code comes with their checkpoint: run only with leave, from a pinned revision.

DNABERT-S is such a model: transformers has no class for it, its checkpoint holds Python files. They
run with the rights of whoever starts the gate, so nothing of them is imported without an explicit
setting, and only code that was downloaded beforehand ever runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.artifacts import digest_file, digest_json
from harness.embedding.embedder import Facts
from harness.errors import CheckpointError, DataError, MissingInput

if TYPE_CHECKING:
    import torch

__all__ = [
    "WITHOUT",
    "DnabertEmbedder",
    "KmerProfile",
    "RemoteCheckpoint",
    "load_dnabert",
    "open_remote_checkpoint",
]


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

        from harness.data.unpickle import load_restricted, refuse_lfs_pointer

        path = self._weight_file()
        refuse_lfs_pointer(path)
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


_COMMIT_HASH = re.compile(r"[0-9a-f]{40}")


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
            f"trust_remote_code = true{pin} in [nucleotide]. {WITHOUT}",
        )
    if not is_folder and not _COMMIT_HASH.fullmatch(revision or ""):
        raise MissingInput(
            f"[nucleotide] revision is {revision!r}: a branch or a tag can be moved to other code "
            f"than what you have read, so {model!r} is not run from it",
            remedy=f"Give the full commit hash (40 hexadecimal digits) as revision. {WITHOUT}",
        )


def _cached(model: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise MissingInput(
            f"No folder {model!r} and no cached download of the model of that name at {revision}",
            remedy=f"Run `hf download {model} --revision {revision}`. {WITHOUT}",
        ) from error


def _check_code(folder: Path, model: str) -> None:
    """Refuse code that would come from elsewhere, where the revision does not pin it."""
    maps = [_auto_map(folder / name) for name in ("config.json", "tokenizer_config.json")]
    if not isinstance(maps[0].get("AutoModel"), str):
        raise CheckpointError(
            f"{folder / 'config.json'}: names no code of its own (auto_map.AutoModel), so this is "
            f"not DNABERT-S. {WITHOUT}"
        )
    named = [str(name) for auto_map in maps for name in auto_map.values()]
    others = {name.partition("--")[0] for name in named if "--" in name} - {model}
    if others:
        raise CheckpointError(
            f"{folder}: takes code from another repository ({', '.join(sorted(others))}), which "
            "its revision does not pin. Put those .py files into a copy of the folder, take the "
            f"names before '--' out of auto_map, and name that folder as model. {WITHOUT}"
        )


def _auto_map(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("auto_map") or {}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a readable JSON object: {error}") from error
    return found if isinstance(found, dict) else {"tokeniser": found}


# Tokens in one batch; a window of 500 bases has about a hundred.
TOKENS_PER_BATCH = 8192


class DnabertEmbedder:
    """Embeds nucleotides with a BERT-like encoder whose code comes with its checkpoint.

    Parameters
    ----------
    checkpoint : RemoteCheckpoint
        Code, tokeniser and weights.
    device : str
        A torch device.

    Notes
    -----
    A vector is the mean of the last hidden states over all tokens, the special ones included, in
    float32. Sequences with equally many tokens go together, so nothing is padded and a vector does
    not depend on its neighbours.
    """

    def __init__(self, checkpoint: RemoteCheckpoint, *, device: str = "cpu") -> None:
        import torch

        from harness.embedding.devices import require_device

        require_device(device)
        self._device = torch.device(device)
        self._tokenise = checkpoint.load_tokeniser()
        self._model = checkpoint.load_model().to(self._device)
        self.name = checkpoint.model
        self.dim = int(self._model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.dtype = "float32"
        self.facts = Facts(engine="the checkpoint's own code")
        self.code_sha256 = checkpoint.code_digest()
        self.digest = digest_json(
            {"files": checkpoint.digest(), "dtype": "float32", "pooling": "mean over tokens"}
        )

    def gpu_memory_bytes(self) -> int | None:
        """Return the most that tensors took on its GPU since that was last reset; None on a CPU."""
        from harness.embedding.devices import gpu_memory_bytes

        return gpu_memory_bytes(str(self._device))

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the embeddings, float32 of shape (n_sequences, dim).

        Raises
        ------
        DataError
            If a sequence is empty; the message gives its position.
        """
        import torch

        tokens = [self._token_ids(text, row) for row, text in enumerate(sequences)]
        embeddings = np.empty((len(tokens), self.dim), dtype=np.float32)
        for rows in _equal_lengths([len(ids) for ids in tokens], token_budget or TOKENS_PER_BATCH):
            batch = torch.tensor([tokens[row] for row in rows], device=self._device)
            with torch.inference_mode():
                # Called as VirNucPro calls it; a tuple or an output whose first part is the states.
                hidden = self._model(batch, attention_mask=torch.ones_like(batch))[0]
                pooled = hidden.float().mean(dim=1)  # (batch, token, dim) to (batch, dim)
            embeddings[rows] = pooled.cpu().numpy()
            if on_progress is not None:
                on_progress(len(rows))
        return embeddings

    def _token_ids(self, sequence: str, row: int) -> list[int]:
        if not sequence:
            raise DataError(f"sequence {row} (counted from 0) is empty; remove its record")
        return self._tokenise(sequence)["input_ids"]


def load_dnabert(
    model: str | None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> DnabertEmbedder:
    """Load DNABERT-S, running the code in its checkpoint if, and only if, that is allowed.

    Parameters
    ----------
    model : str or None
        Hub id, such as ``zhihan1996/DNABERT-S``, or a checkpoint's folder.
    revision : str, optional
        The commit hash of a hub id.
    trust_remote_code : bool
        Whether the code in the checkpoint may run, with the rights of this process.
    device : str
        A torch device, such as ``cpu`` or ``cuda``.

    Raises
    ------
    MissingInput
        If the code may not run, or files or the device are not there.
    CheckpointError
        If the checkpoint cannot be used.
    """
    checkpoint = open_remote_checkpoint(
        model, revision=revision, trust_remote_code=trust_remote_code
    )
    return DnabertEmbedder(checkpoint, device=device)


def _equal_lengths(lengths: Sequence[int], budget: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield rows with equally many tokens, at most a token budget at a time."""
    for length in np.unique(lengths):
        rows = np.flatnonzero(np.asarray(lengths) == length)
        step = max(1, budget // int(length))
        yield from np.split(rows, range(step, len(rows), step))


_CODE_OF_BYTE = np.full(256, -1, dtype=np.int16)
_CODE_OF_BYTE[np.frombuffer(b"ACGT", dtype=np.uint8)] = np.arange(4)


class KmerProfile:
    """Embeds nucleotides as standardised counts of their k-mers, on the strand as given.

    Parameters
    ----------
    k : int
        Length of the words; ``4**k`` features.

    Notes
    -----
    With n = length - k + 1 words, a count c becomes (c - n/4**k) / sqrt(n/4**k): its distance from
    that of a random sequence, in Poisson standard deviations.
    """

    def __init__(self, k: int = 4) -> None:
        self.k = k
        self.name = f"{k}-mer profile"
        self.dim = 4**k
        self.dtype = "float32"
        self.facts = Facts(engine="k-mer counts")
        self.digest = digest_json({"embedder": "kmer", "k": k, "version": 1})

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,  # noqa: ARG002 - there are no batches
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the profiles, float32 of shape (n_sequences, 4**k).

        Raises
        ------
        DataError
            If a sequence is shorter than k or holds a letter other than A, C, G, T.
        """
        profiles = np.empty((len(sequences), self.dim), dtype=np.float32)
        for row, sequence in enumerate(sequences):
            profiles[row] = self._profile(sequence, row)
            if on_progress is not None:
                on_progress(1)
        return profiles

    def _profile(self, sequence: str, row: int) -> npt.NDArray[np.float64]:
        letters = np.frombuffer(sequence.encode("utf-8"), dtype=np.uint8)
        codes = _CODE_OF_BYTE[letters].astype(np.int64)
        n_words = len(codes) - self.k + 1
        if n_words < 1 or codes.min() < 0:
            raise DataError(
                f"sequence {row} (counted from 0): expected at least {self.k} letters, all of "
                f"ACGT, got {sequence[:40]!r} ({len(sequence)} letters)"
            )
        words = np.zeros(n_words, dtype=np.int64)
        for offset in range(self.k):
            words = words * 4 + codes[offset : offset + n_words]
        expected = n_words / self.dim
        counts = np.bincount(words, minlength=self.dim)
        return np.asarray((counts - expected) / np.sqrt(expected))
