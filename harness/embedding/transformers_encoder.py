"""Any encoder that transformers implements itself as an embedder: ProtT5, Ankh, ProtBERT, ESM.

Weights are read as data and put into transformers' own class; no code from a checkpoint runs. A
vector is the mean over residues, without the marks that the tokeniser adds. Batches are
``batching``'s business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.artifacts import digest_file, digest_json
from harness.data.unpickle import load_restricted
from harness.documents import read_json
from harness.embedding.devices import (
    BatchRunner,
    Rows,
    fitting_budget,
    padded_batches,
    require_device,
    to_device,
)
from harness.embedding.embedder import MAX_RESIDUES, Counts, Facts, published_as
from harness.embedding.esm.checkpoint import (
    find_checkpoint,
    is_untrained,
    require_sizes,
    stand_in_of,
)
from harness.errors import CheckpointError, DataError, DeviceError, HarnessError, MissingInput

__all__ = ["TransformersEmbedder", "find_weight_files", "read_weights"]

# Raised when the vectors of the same weights change by more than rounding.
VERSION = 1

# What the activations of one token take, in multiples of the model's width, with room to spare:
# attention's weights are not counted, as they are not kept.
ACTIVATIONS = 60

RESIDUES = "ACDEFGHIKLMNPQRSTVWYX"
_NO_RESIDUE = re.compile(f"[^{RESIDUES}]")  # U, Z, O and B as well: ProtT5's authors read them as X

_TOKENISER_FILES = (
    *("tokenizer.json", "spiece.model", "vocab.txt", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json"),
)
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "pytorch_model*.bin")  # the first is taken
# In a model, but without a part in its last hidden states; or a table that follows from the config.
_NOT_USED = re.compile(r"(pooler|contact_head)\..*|.*(position_ids|inv_freq)")


class TransformersEmbedder(BatchRunner):
    """Embeds proteins with an encoder of transformers; a vector is the mean over residues.

    Parameters
    ----------
    model : str
        Folder of a checkpoint, or the hub id of one that has been downloaded.
    revision : str, optional
        Of the hub id.
    dtype : str
        float32, bfloat16 or float16: what the encoder computes in.
    device : str
        A torch device.

    Raises
    ------
    MissingInput
        If the weights, the device or the tokeniser's library are not there.
    CheckpointError
        If it is no encoder of transformers, or weights are missing or of another shape.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        require_device(device)
        folder = find_checkpoint(model, revision)
        config = _read_config(folder)
        weight_files = find_weight_files(folder)
        place = torch.device(device)
        self._spelling = _Spelling(folder, config)
        self.tokenise, self.count = self._spelling.tokenise, self._spelling.count
        self._encoder = _load_encoder(folder, config, weight_files, dtype, place)
        self.name = Path(model).name
        self.dim = int(config.hidden_size)
        self.dtype = dtype
        files = {path.name: digest_file(path) for path in weight_files}
        self.facts = Facts(
            engine="transformers",
            weights_sha256=digest_json(sorted(files.values())),
            n_parameters=sum(value.numel() for value in self._encoder.parameters()),
            is_random=is_untrained(self._encoder.named_parameters()),
            stand_in=stand_in_of(read_json(folder / "config.json")),
            published_as=published_as(files.values()),
            files_sha256=files,
        )
        tables = (folder / name for name in ("config.json", *_TOKENISER_FILES))
        self.digest = digest_json(
            {
                "weights": self.facts.weights_sha256,
                "tables": {path.name: digest_file(path) for path in tables if path.is_file()},
                "dtype": dtype,
                "pooling": "mean over residues",
                "engine": f"transformers {VERSION}",
            }
        )
        bytes_per_token = ACTIVATIONS * self.dim * self._encoder.dtype.itemsize
        budget = fitting_budget(place, bytes_per_token)
        super().__init__(device=place, token_budget=budget, divide=padded_batches)

    @staticmethod
    def describe(model: str, *, revision: str | None, dtype: str) -> str:
        """Say what a checkpoint is; only its configuration is read."""
        folder = find_checkpoint(model, revision)
        config = _read_config(folder)
        gigabytes = sum(path.stat().st_size for path in find_weight_files(folder)) / 1e9
        return (
            f"{folder}, type {config.model_type}, width {config.hidden_size}, {gigabytes:.2g} GB "
            f"of files, embedded by transformers in {dtype}"
        )

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
            If a protein is empty; the message gives its position.
        DeviceError
            If the device's memory does not suffice for a single protein.
        """
        tokens = self.tokenise(sequences)
        lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
        return self.run(
            lengths,
            lambda rows: self._embed_batch([tokens[row] for row in rows], lengths[rows]),
            dim=self.dim,
            token_budget=token_budget,
            on_progress=on_progress,
        )

    def _embed_batch(self, tokens: list[list[int]], lengths: Rows) -> torch.Tensor:
        number = np.arange(lengths.max())
        is_token = number < lengths[:, None]  # (sequence, token)
        ids = np.full(is_token.shape, self._spelling.padding, dtype=np.int64)
        ids[is_token] = np.concatenate([np.asarray(row) for row in tokens])
        first, n_after = self._spelling.n_before, self._spelling.n_after
        is_residue = (number >= first) & (number < lengths[:, None] - n_after)
        hidden = self._encoder(
            input_ids=to_device(ids, self.device),
            attention_mask=to_device(is_token.astype(np.int64), self.device),
        ).last_hidden_state.float()  # (sequence, token, dim)
        weights = to_device(is_residue, self.device)[..., None]  # (sequence, token, 1)
        # Padding may hold anything, NaN too, which no weight of 0 would take away.
        pooled: torch.Tensor = hidden.masked_fill(~weights, 0).sum(dim=1) / weights.sum(dim=1)
        return pooled


class _Spelling:
    """How a tokeniser wants proteins: what stands between residues, and which marks it adds."""

    def __init__(self, folder: Path, config: Any) -> None:
        self._tokeniser = _load_tokeniser(folder)
        self._join = self._choose(folder)
        bare = self._ids([RESIDUES], has_marks=False)[0]
        whole = self._ids([RESIDUES])[0]
        starts = range(len(whole) - len(bare) + 1)
        self.n_before = next(n for n in starts if whole[n : n + len(bare)] == bare)
        self.n_after = len(whole) - len(bare) - self.n_before
        self.padding = int(self._tokeniser.pad_token_id or config.pad_token_id or 0)
        self._n_marks = self.n_before + self.n_after
        # Learned positions may begin behind that of padding, as RoBERTa's and ESM's do.
        positions = getattr(config, "max_position_embeddings", None) or MAX_RESIDUES * 2
        self._longest = min(MAX_RESIDUES, positions - self.padding - 1 - self._n_marks)

    def tokenise(self, proteins: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each protein, marks included."""
        if not len(proteins):
            return []
        if empty := [row for row, protein in enumerate(proteins) if not protein]:
            raise DataError(f"protein {empty[0]} (counted from 0) is empty; remove its record")
        residues = [_NO_RESIDUE.sub("X", protein[: self._longest]) for protein in proteins]
        ids = self._ids(residues)
        for row, (text, tokens) in enumerate(zip(residues, ids, strict=True)):
            if len(tokens) != len(text) + self._n_marks:
                raise DataError(
                    f"protein {row} (counted from 0) of {len(text)} residues became {len(tokens)} "
                    f"tokens, expected {len(text) + self._n_marks}: the tokeniser joins residues, "
                    "so it is none for proteins. Name another model"
                )
        return ids

    def count(self, proteins: Sequence[str]) -> Counts:
        """Return tokens, cuts and replacements of proteins."""
        cut = [protein[: self._longest] for protein in proteins]
        return Counts(
            n_tokens=sum(map(len, cut)) + self._n_marks * len(cut),
            n_truncated=sum(len(protein) > self._longest for protein in proteins),
            n_replaced=sum(len(_NO_RESIDUE.findall(protein)) for protein in cut),
        )

    def _choose(self, folder: Path) -> Callable[[str], str | list[str]]:
        """Return the first spelling that makes each residue one known token of its own."""
        unknown = self._tokeniser.unk_token_id
        spellings: tuple[Callable[[str], str | list[str]], ...] = ("".join, " ".join, list)
        for spelling in spellings:
            self._join = spelling
            ids = self._ids([RESIDUES], has_marks=False)[0]
            if len(set(ids)) == len(ids) == len(RESIDUES) and unknown not in ids:
                return spelling
        raise CheckpointError(
            f"{folder}: its tokeniser does not know the residues {RESIDUES} as tokens, neither "
            "side by side nor with blanks between them. Name a model of proteins"
        )

    def _ids(self, residues: Sequence[str], *, has_marks: bool = True) -> list[list[int]]:
        texts = [self._join(protein) for protein in residues]
        found: list[list[int]] = self._tokeniser(
            texts,
            add_special_tokens=has_marks,
            is_split_into_words=self._join is list,
            verbose=False,
        )["input_ids"]
        return found


def _load_tokeniser(folder: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # As tokenizer.json says: a model's own class may put another pre-tokeniser in its place.
    is_whole = (folder / "tokenizer.json").is_file()
    if not is_whole and (folder / "spiece.model").is_file() and not find_spec("sentencepiece"):
        raise MissingInput(
            f"{folder / 'spiece.model'} is a tokeniser of SentencePiece, which is not installed",
            remedy="Run `pip install sentencepiece`, or put the model's tokenizer.json beside it",
        )
    with naming_errors(folder, "tokeniser"):
        if is_whole:
            return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _read_config(folder: Path) -> Any:
    """Return the configuration of an encoder that transformers implements itself."""
    import transformers
    from transformers import CONFIG_MAPPING, AutoConfig

    path = folder / "config.json"
    try:
        table = read_json(path)
        kind, classes = table["model_type"], table.get("architectures") or []
    except FileNotFoundError as error:
        raise MissingInput(
            f"{path} is not there", remedy="Name the folder of a transformers checkpoint"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: names no model_type ({error!r})") from error
    require_sizes(path, table, (key for key in table if key.endswith("_layers")))
    foreign = [name for name in classes if not hasattr(transformers, str(name))]
    if kind not in CONFIG_MAPPING or foreign:
        own = " It brings code of its own, which is not run." if "auto_map" in table else ""
        raise CheckpointError(
            f"{path}: transformers {transformers.__version__} has no "
            f"{', '.join(map(str, foreign)) or kind!r} of its own.{own} Name an encoder that it "
            "implements, such as t5, bert or esm"
        )
    with naming_errors(folder, "configuration"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _encoder_class(config, path)
    return config


def _encoder_class(config: Any, path: Path) -> Any:
    """Return transformers' class of the encoder alone, without decoder and heads."""
    from transformers.models.auto import modeling_auto as auto

    kind = type(config)
    if kind in auto.MODEL_FOR_TEXT_ENCODING_MAPPING:
        return auto.MODEL_FOR_TEXT_ENCODING_MAPPING[kind]
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING and not config.is_encoder_decoder:
        return auto.MODEL_MAPPING[kind]
    raise CheckpointError(
        f"{path}: {config.model_type} is no encoder, each of whose tokens sees all others. Name "
        "one, such as t5, bert or esm"
    )


def find_weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a checkpoint's weights, safetensors before pickles.

    Raises
    ------
    MissingInput
        If there are none.
    """
    for pattern in _WEIGHTS:
        if files := sorted(folder.glob(pattern)):
            return files
    raise MissingInput(
        f"{folder} holds neither model.safetensors nor pytorch_model.bin",
        remedy="Download the checkpoint's weights into it",
    )


def read_weights(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return all tensors in weight files by name, on the CPU; nothing in the files is run.

    Raises
    ------
    CheckpointError
        If a file cannot be read, or holds no weights.
    """
    weights: dict[str, torch.Tensor] = {}
    for path in files:
        try:
            is_safe = path.suffix == ".safetensors"
            loaded = load_file(path) if is_safe else load_restricted(path, is_mapped=True)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
        if not isinstance(loaded, dict):
            found = type(loaded).__name__
            raise CheckpointError(f"{path}: expected a dict of weights, got {found}")
        weights |= {str(n): value for n, value in loaded.items() if isinstance(value, torch.Tensor)}
    return weights


def _load_encoder(
    folder: Path, config: Any, files: Sequence[Path], dtype: str, device: torch.device
) -> Any:
    """Return the encoder on its device, all of whose weights are the checkpoint's."""
    built = _encoder_class(config, folder / "config.json")
    has_pooler = config.model_type in ("bert", "esm", "roberta")
    with naming_errors(folder, "model"), _silenced():
        encoder, found = built.from_pretrained(
            None,
            config=config,
            state_dict=read_weights(files),
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **({"add_pooling_layer": False} if has_pooler else {}),
        )
    _check_weights(folder, found, prefix=f"{built.base_model_prefix}.")
    try:
        return encoder.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"{device}: memory does not suffice for the weights in {folder}. Use a GPU with more "
            "memory, or end what else runs on this one"
        ) from error


def _check_weights(folder: Path, found: dict[str, Any], *, prefix: str) -> None:
    """Raise CheckpointError unless all weights are there and the encoder takes all of its own."""
    extras = [str(name).removeprefix(prefix) for name in found["unexpected_keys"]]
    problems = {
        "missing": [str(name) for name in found["missing_keys"]],
        "of another shape": [str(item[0]) for item in found["mismatched_keys"]],
        "unexpected": [name for name in extras if name.startswith(("encoder.", "embeddings."))],
    }
    listed = [
        f"{problem}: {name}"
        for problem, names in problems.items()
        for name in sorted(names)
        if not _NOT_USED.fullmatch(name)
    ]
    if listed:
        raise CheckpointError(
            f"{folder}: {len(listed)} weights do not fit the configuration: "
            f"{'; '.join(listed[:10])}. Download the checkpoint again, or name the revision it "
            "belongs to"
        )


@contextmanager
def naming_errors(model: Path | str, part: str) -> Iterator[None]:
    """Turn whatever foreign code raises into an error that names the checkpoint."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{model}: its {part} does not load with what is installed here "
            f"({type(error).__name__}: {said}). Download the checkpoint again, whole"
        ) from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep transformers from printing what is checked here, and a progress bar of its own."""
    from transformers.utils import logging

    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()
