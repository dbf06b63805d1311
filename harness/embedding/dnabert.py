"""DNABERT-S as an embedder, computed here from its weights and by no foreign code.

The architecture is MosaicBERT's, which DNABERT-2 has as well: post-norm layers, attention whose
scores fall with the distance of two tokens (ALiBi), a gated feed-forward part. A vector is the mean
over all tokens, the special ones included, as VirNucPro takes it. Layouts and kernels are those of
the packed engine (``esm.engine``), batches are ``batching``'s business, files those of
``dnabert_checkpoint``. ``embed_plainly`` is the same function written out: what the fast way is
held to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from harness.artifacts import digest_file, digest_json
from harness.embedding.devices import (
    BatchRunner,
    equal_length_batches,
    fitting_budget,
    gpu_memory_bytes,
    measure_product_rate,
    packed_batches,
    require_device,
    to_device,
)
from harness.embedding.dnabert_checkpoint import open_dnabert
from harness.embedding.embedder import Counts, Facts
from harness.embedding.esm.checkpoint import is_untrained
from harness.embedding.esm.encoder import (
    PLAIN,
    Arithmetic,
    Attend,
    Linear,
    Norm,
    Slopes,
)
from harness.embedding.esm.engine import ACTIVATIONS, DTYPES, EqualLengths, Packed
from harness.errors import DataError, DeviceError

__all__ = [
    "DnabertEmbedder",
    "DnabertEncoder",
    "alibi_slopes",
    "embed_plainly",
]

Weights = Mapping[str, torch.Tensor]
Vectors = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]  # (token,)

# Raised when the vectors of the same weights change by more than rounding.
ENGINE_VERSION = 1

# Sequences that are tokenised at a time, while a device computes those before: many batches.
PART = 4_096
# A letter more makes about so many tokens more, where nothing was counted yet: DNABERT-2's authors
# found sequences five times as long as their tokens.
TOKENS_PER_LETTER = 0.2


def alibi_slopes(n_heads: int) -> list[float]:
    """Return by how much each head's scores fall from a token to the next (Press et al. 2022).

    Examples
    --------
    >>> alibi_slopes(4)
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    power = 2 ** int(math.log2(n_heads))
    slopes = [2.0 ** (-8 * (head + 1) / power) for head in range(power)]
    return slopes if power == n_heads else slopes + alibi_slopes(2 * power)[::2][: n_heads - power]


class _Layer(NamedTuple):
    qkv: Linear  # dim to 3 x dim: queries, keys, values
    attended: Linear  # dim to dim
    attention_norm: Norm
    gated: Linear  # dim to 2 x feed-forward width
    narrow: Linear  # feed-forward width to dim
    norm: Norm


class DnabertEncoder:
    """DNABERT-S's encoder over sequences laid end to end.

    Parameters
    ----------
    weights : mapping of name to float32 tensor
        As ``DnabertCheckpoint.read_weights`` returns them.
    shape : mapping
        As a checkpoint's ``shape``.
    dtype : torch dtype
        What it computes in.
    device : torch device
    is_fused : bool
        Compute with kernels for NVIDIA GPUs; normalisations then keep float32 weights.
    """

    def __init__(
        self,
        weights: Weights,
        shape: Mapping[str, Any],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device,
        is_fused: bool = False,
    ) -> None:
        self.dim = int(shape["hidden_size"])
        self._n_heads = int(shape["num_attention_heads"])
        self._slopes = Slopes(torch.tensor(alibi_slopes(self._n_heads), device=device))
        self._arithmetic = _choose_arithmetic(is_fused=is_fused)
        eps = shape["layer_norm_eps"]

        def linear(name: str) -> Linear:
            bias = weights.get(f"{name}.bias")
            weight = weights[f"{name}.weight"].to(device, dtype)
            return Linear(weight, None if bias is None else bias.to(device, dtype))

        def added(name: str, norm: str) -> tuple[Linear, Norm]:
            """Return a product that is added to hidden states, and the norm that follows it."""
            kept = torch.float32 if is_fused else dtype
            scale, bias = (weights[f"{norm}.{kind}"].to(device, kept) for kind in _KINDS)
            if not is_fused:
                return linear(name), Norm(scale, bias, eps)
            shift = weights[f"{name}.bias"].to(device)  # would cost a pass of its own
            return linear(name)._replace(bias=None), Norm(scale, bias, eps, shift)

        # What the encoder sees of a token depends on nothing else, so it is computed in advance.
        words = _first_states(weights, weights["embeddings.word_embeddings.weight"], eps)
        self._embedding = words.to(device, dtype)
        self._layers = [
            _Layer(
                linear(f"{layer}.attention.self.Wqkv"),
                *added(f"{layer}.attention.output.dense", f"{layer}.attention.output.LayerNorm"),
                linear(f"{layer}.mlp.gated_layers"),
                *added(f"{layer}.mlp.wo", f"{layer}.mlp.layernorm"),
            )
            for layer in map("encoder.layer.{}".format, range(shape["num_hidden_layers"]))
        ]

    @torch.no_grad()
    def __call__(self, tokens: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Return the last hidden states, (token, dim), in the encoder's dtype.

        Parameters
        ----------
        tokens : integer tensor, (token,)
            Token ids of all sequences, one after the other.
        attend : callable
            Attention within each sequence.
        """
        hidden = functional.embedding(tokens, self._embedding)  # (token, dim)
        for layer in self._layers:
            hidden = self._attend(hidden, layer, attend)
            hidden = self._feed_forward(hidden, layer)
        return hidden

    def _attend(self, hidden: torch.Tensor, layer: _Layer, attend: Attend) -> torch.Tensor:
        do = self._arithmetic
        qkv = do.multiply(hidden, layer.qkv).view(len(hidden), 3, self._n_heads, -1)
        attended = attend(qkv, self._slopes).flatten(1)  # (token, dim)
        added = do.add_product(hidden, attended, layer.attended)
        return do.normalise(added, layer.attention_norm)

    def _feed_forward(self, hidden: torch.Tensor, layer: _Layer) -> torch.Tensor:
        do = self._arithmetic
        wide = do.gate(do.multiply(hidden, layer.gated))
        return do.normalise(do.add_product(hidden, wide, layer.narrow), layer.norm)


_KINDS = ("weight", "bias")


def _choose_arithmetic(*, is_fused: bool) -> Arithmetic:
    if not is_fused:
        return PLAIN
    from harness.embedding.esm import kernels

    return kernels.FUSED


def _first_states(weights: Weights, words: torch.Tensor, eps: float) -> torch.Tensor:
    """Return tokens' hidden states before the first layer, (token, dim), from their vectors."""
    types = weights["embeddings.token_type_embeddings.weight"]
    scale, bias = (weights[f"embeddings.LayerNorm.{kind}"] for kind in _KINDS)
    return functional.layer_norm(words + types[0], (words.shape[-1],), scale, bias, eps)


@torch.no_grad()
def embed_plainly(weights: Weights, shape: Mapping[str, Any], tokens: torch.Tensor) -> torch.Tensor:
    """Return vectors of equally long sequences, (sequence, dim), step by step: the reference.

    Parameters
    ----------
    weights : mapping of name to tensor
        As ``DnabertCheckpoint.read_weights`` returns them; their dtype and device decide what is
        computed in, and where.
    shape : mapping
        As a checkpoint's ``shape``.
    tokens : integer tensor, (sequence, token)
        Special ones included.
    """
    dim, n_heads, eps = shape["hidden_size"], shape["num_attention_heads"], shape["layer_norm_eps"]

    def linear(inputs: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(inputs, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(inputs: torch.Tensor, name: str) -> torch.Tensor:
        scale, bias = (weights[f"{name}.{kind}"] for kind in _KINDS)
        return functional.layer_norm(inputs, (dim,), scale, bias, eps)

    words = weights["embeddings.word_embeddings.weight"]
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    distances = (positions[:, None] - positions).abs().to(words.dtype)  # (query, key)
    slopes = torch.tensor(alibi_slopes(n_heads), dtype=words.dtype, device=tokens.device)
    hidden = _first_states(weights, words[tokens], eps)  # (sequence, token, dim)
    for layer in map("encoder.layer.{}".format, range(shape["num_hidden_layers"])):
        qkv = linear(hidden, f"{layer}.attention.self.Wqkv")
        query, key, value = qkv.view(*tokens.shape, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / (dim // n_heads) ** 0.5  # (..., head, query, key)
        shares = (scores - slopes[:, None, None] * distances).softmax(dim=-1)
        attended = (shares @ value).transpose(1, 2).flatten(2)  # (sequence, token, dim)
        added = linear(attended, f"{layer}.attention.output.dense") + hidden
        hidden = norm(added, f"{layer}.attention.output.LayerNorm")
        first, second = linear(hidden, f"{layer}.mlp.gated_layers").chunk(2, dim=-1)
        narrow = linear(functional.gelu(first) * second, f"{layer}.mlp.wo")
        hidden = norm(narrow + hidden, f"{layer}.mlp.layernorm")
    return hidden.mean(dim=1)


class DnabertEmbedder:
    """Embeds nucleotides with DNABERT-S; a vector is the mean over all tokens.

    Parameters
    ----------
    model : str or None
        Folder of a checkpoint of DNABERT-S or DNABERT-2, or the hub id of one that has been
        downloaded. No code from it is run.
    revision : str, optional
        Of the hub id.
    dtype : str
        float32, bfloat16 or float16: what the encoder computes in.
    device : str
        A torch device.

    Raises
    ------
    MissingInput
        If files or the device are not there.
    CheckpointError
        If it is another model, or the weights do not fit the configuration.
    """

    def __init__(
        self,
        model: str | None,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self._checkpoint = checkpoint = open_dnabert(model, revision)
        require_device(device, dtype)
        self._device = torch.device(device)
        self._tokeniser = checkpoint.load_tokeniser()
        weights = checkpoint.read_weights()
        self._runner = _Runner(weights, checkpoint.shape, dtype=dtype, device=self._device)
        self._kept: tuple[list[str], list[Tokens]] = ([], [])
        self._tokens_per_letter = TOKENS_PER_LETTER
        self.name = checkpoint.folder.name
        self.dim = int(checkpoint.shape["hidden_size"])
        self.dtype = dtype
        self.facts = Facts(
            engine="packed DNABERT-S encoder",
            weights_sha256=digest_json(sorted(map(digest_file, checkpoint.weight_files))),
            n_parameters=checkpoint.n_parameters,
            is_random=is_untrained(weights.items()),
        )
        self.digest = digest_json(
            {
                "shape": checkpoint.shape,
                "weights": self.facts.weights_sha256,
                "tokeniser": digest_file(checkpoint.folder / "tokenizer.json"),
                "dtype": dtype,
                "pooling": "mean over tokens",
                "engine": ENGINE_VERSION,
            }
        )

    @staticmethod
    def describe(model: str | None, *, revision: str | None, dtype: str) -> str:
        """Say what a checkpoint is; only its configuration is read."""
        checkpoint = open_dnabert(model, revision)
        gigabytes = checkpoint.n_parameters * DTYPES[dtype].itemsize / 1e9
        shape = checkpoint.shape
        return (
            f"DNABERT-S's architecture in {checkpoint.folder}, layers: "
            f"{shape['num_hidden_layers']}, width {shape['hidden_size']}, {gigabytes:.2g} GB of "
            f"weights in {dtype}"
        )

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch: halved each time that the device's memory did not suffice."""
        return self._runner.token_budget

    @property
    def n_out_of_memory(self) -> int:
        """How often the device's memory did not suffice."""
        return self._runner.n_out_of_memory

    def gpu_memory_bytes(self) -> int | None:
        """Return the most that tensors took on its GPU since that was last reset; None on a CPU."""
        return gpu_memory_bytes(str(self._device))

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Vectors:
        """Return the embeddings, float32 of shape (n_sequences, dim).

        Raises
        ------
        DataError
            If a sequence is empty; the message gives its position.
        DeviceError
            If the device's memory does not suffice for a single sequence.
        """
        vectors = [np.empty((0, self.dim), dtype=np.float32)]
        for tokens in self._tokens_by_part(list(sequences)):
            vectors.append(self._runner.embed(tokens, token_budget, on_progress))
        return np.concatenate(vectors)

    def tokenise(self, sequences: Sequence[str]) -> list[Tokens]:
        """Return each sequence's token ids, special ones included."""
        return [tokens for part in self._tokens_by_part(list(sequences)) for tokens in part]

    def _tokens_by_part(self, texts: list[str]) -> Iterator[list[Tokens]]:
        """Yield the tokens of some sequences at a time, while those of the next are made.

        What was asked for last is kept: sequences are embedded and counted.
        """
        if self._kept[0] == texts:
            yield self._kept[1]
            return
        if "" in texts:
            raise DataError(
                f"sequence {texts.index('')} (counted from 0) is empty; remove its record"
            )
        parts = [texts[first : first + PART] for first in range(0, len(texts), PART)]
        made: list[Tokens] = []
        with ThreadPoolExecutor(1) as ahead:
            for tokens in ahead.map(self._encode, parts):
                made += tokens
                yield tokens
        self._kept = texts, made

    def _encode(self, texts: list[str]) -> list[Tokens]:
        encoded = self._tokeniser.encode_batch_fast(texts)
        return [np.array(each.ids, dtype=np.int32) for each in encoded]

    def count(self, sequences: Sequence[str]) -> Counts:
        """Return tokens of sequences, and how many of them stand for letters that are unknown."""
        tokens = self.tokenise(sequences)
        unknown = self._tokeniser.token_to_id("[UNK]")
        n_tokens = sum(map(len, tokens))
        self._tokens_per_letter = n_tokens / max(1, sum(map(len, sequences)))
        return Counts(
            n_tokens=n_tokens,
            n_replaced=sum(int(np.count_nonzero(ids == unknown)) for ids in tokens),
        )

    def flop(self, n_letters: npt.ArrayLike) -> float:
        """Return the floating-point operations of embedding sequences of so many letters.

        Notes
        -----
        Tokens are as many a letter as in what was counted last. A multiplication and an addition
        count as two: for n tokens of width d in a layer with feed-forward width f, the linear
        layers take 2n(4d² + 3df) and attention takes 4n²d; the rest is left out.
        """
        tokens = np.asarray(n_letters, dtype=np.float64) * self._tokens_per_letter
        shape = self._checkpoint.shape
        dim, wide = shape["hidden_size"], shape["intermediate_size"]
        linear = 2 * (4 * dim**2 + 3 * dim * wide) * tokens.sum()
        return float(shape["num_hidden_layers"] * (linear + 4 * dim * (tokens**2).sum()))

    def peak_flops(self) -> float | None:
        """Return the device's measured rate of a large matrix product; None if it has none."""
        return measure_product_rate(str(self._device), self.dtype)

    def reference(self, sequences: Sequence[str]) -> tuple[Vectors, Vectors]:
        """Return the same embeddings in float32, by this engine and by :func:`embed_plainly`."""
        tokens, shape, place = self.tokenise(sequences), self._checkpoint.shape, self._device
        weights = self._checkpoint.read_weights()
        found = _Runner(weights, shape, dtype="float32", device=place).embed(tokens)
        placed = {name: value.to(place) for name, value in weights.items()}
        rows = [embed_plainly(placed, shape, to_device(ids[None], place)) for ids in tokens]
        return found, torch.cat(rows).cpu().numpy()


class _Runner(BatchRunner):
    """Token ids through an encoder: end to end in half precision on a GPU, else equal lengths."""

    def __init__(
        self, weights: Weights, shape: Mapping[str, Any], *, dtype: str, device: torch.device
    ) -> None:
        self._is_packed = is_packed = device.type == "cuda" and dtype != "float32"
        kind = DTYPES[dtype]
        super().__init__(
            device=device,
            token_budget=fitting_budget(device, ACTIVATIONS * shape["hidden_size"] * kind.itemsize),
            divide=packed_batches if is_packed else equal_length_batches,
        )
        try:
            self._encoder = DnabertEncoder(
                weights, shape, dtype=kind, device=device, is_fused=is_packed
            )
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{device}: memory does not suffice for the weights of DNABERT-S. Use a GPU with "
                "more memory, or end what else runs on this one"
            ) from error

    def embed(
        self,
        tokens: Sequence[Tokens],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Vectors:
        """Return the mean hidden state of each sequence's tokens, float32 (n_sequences, dim)."""
        lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))

        def compute(rows: npt.NDArray[np.int64]) -> torch.Tensor:
            layout = (
                Packed(lengths[rows], self.device, n_marks=0)
                if self._is_packed
                else EqualLengths(len(rows), n_marks=0)
            )
            flat = np.concatenate([tokens[row] for row in rows])
            return layout.pool(self._encoder(to_device(flat, self.device), layout.attend))

        return self.run(
            lengths,
            compute,
            dim=self._encoder.dim,
            token_budget=token_budget,
            on_progress=on_progress,
        )
