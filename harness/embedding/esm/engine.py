"""Runs ESM2's encoder over any sequences: end to end, in equal lengths, or padded.

Half precision on a GPU is computed end to end without padding, everything else in batches of equal
lengths; padding is the plain way, there to be timed and compared with. The layouts say who attends
to whom, and which tokens a vector is the mean of: the residues of its sequence, without the
beginning and end marks, in float32. Which sequences go together, and what happens where memory does
not suffice, is known in ``harness.embedding.devices``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from harness.embedding.devices import (
    BatchRunner,
    batches_in_order,
    equal_length_batches,
    fitting_budget,
    packed_batches,
    require_device,
    to_device,
)
from harness.embedding.esm.alphabet import TOKENS, token_lengths, tokenise
from harness.embedding.esm.checkpoint import EsmCheckpoint, table_name
from harness.embedding.esm.encoder import (
    PLAIN,
    Encoder,
    Layer,
    Linear,
    Norm,
    Rotation,
    Slopes,
    rotate,
    unrounded_frequencies,
)
from harness.errors import DeviceError

__all__ = [
    "Engine",
    "EqualLengths",
    "Layout",
    "Packed",
    "assemble_engine",
    "build_encoder",
    "build_engine",
]


class Layout(Protocol):
    """One way to lay out the sequences of a batch."""

    def attend(self, qkv: torch.Tensor, positions: Rotation | Slopes) -> torch.Tensor:
        """Return attention within each sequence, (token, head, channel).

        ``qkv`` holds queries, keys and values, (token, 3, head, channel), and may be written over.
        Queries and keys are turned by their positions first, or scores fall with their distance.
        """

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean hidden state (token, dim), float32 (sequence, dim), marks left out."""


class Packed:
    """Sequences of any lengths end to end, through a kernel for NVIDIA GPUs.

    Parameters
    ----------
    lengths : int array, (sequence,)
        Tokens of each sequence, both marks included.
    device : torch device
        A GPU.
    n_marks : int
        Tokens at each end of a sequence that its vector leaves out.
    """

    def __init__(
        self, lengths: npt.NDArray[np.int64], device: torch.device, *, n_marks: int = 1
    ) -> None:
        self._longest = int(lengths.max())
        starts = np.cumsum([0, *lengths], dtype=np.int32)
        self._starts = to_device(starts, device)  # (sequence + 1,)
        # Each sequence is three segments: its beginning mark, its residues, its end mark.
        marks = np.full_like(lengths, n_marks)
        segments = np.stack([marks, lengths - 2 * marks, marks], axis=1)
        self._segments = to_device(segments.reshape(-1), device)  # (3 x sequence,)

    def attend(self, qkv: torch.Tensor, positions: Rotation | Slopes) -> torch.Tensor:
        """Return attention within each sequence."""
        from harness.embedding.esm import kernels

        return kernels.attend(qkv, positions, self._starts, self._longest)

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean over residues."""
        means = torch.segment_reduce(hidden.float(), "mean", lengths=self._segments, unsafe=True)
        return means[1::3]


class EqualLengths:
    """Sequences of one length.

    Parameters
    ----------
    n_sequences : int
    n_marks : int
        Tokens at each end of a sequence that its vector leaves out.
    """

    def __init__(self, n_sequences: int, *, n_marks: int = 1) -> None:
        self._n_sequences = n_sequences
        self._n_marks = n_marks

    def attend(self, qkv: torch.Tensor, positions: Rotation | Slopes) -> torch.Tensor:
        """Return attention within each sequence."""
        return _attend_in_rows(_in_rows(qkv, self._n_sequences), positions)

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean over residues."""
        rows = _in_rows(hidden, self._n_sequences)  # (sequence, token, dim)
        return rows[:, self._n_marks : rows.shape[1] - self._n_marks].float().mean(dim=1)


class Padded:
    """Sequences filled up to the longest.

    Parameters
    ----------
    lengths : int array, (sequence,)
        Tokens of each sequence, both marks included.
    device : torch device
    """

    def __init__(self, lengths: npt.NDArray[np.int64], device: torch.device) -> None:
        numbers = np.arange(lengths.max())
        self._is_token = to_device(numbers < lengths[:, None], device)  # (sequence, token)
        is_residue = (numbers > 0) & (numbers < lengths[:, None] - 1)
        self._is_residue = to_device(is_residue, device)  # (sequence, token)

    def attend(self, qkv: torch.Tensor, positions: Rotation | Slopes) -> torch.Tensor:
        """Return attention within each sequence, padding left out."""
        mask = self._is_token[:, None, None, :]  # (sequence, head, query, key)
        return _attend_in_rows(_in_rows(qkv, len(self._is_token)), positions, mask)

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean over residues."""
        rows = _in_rows(hidden, len(self._is_token)).float()  # (sequence, token, dim)
        weights = self._is_residue[..., None]  # (sequence, token, 1)
        pooled: torch.Tensor = (rows * weights).sum(dim=1) / weights.sum(dim=1)
        return pooled


def _attend_in_rows(
    qkv: torch.Tensor, positions: Rotation | Slopes, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return attention within the rows of (sequence, token, 3, head, channel)."""
    query_key, value = qkv[:, :, :2], qkv[:, :, 2]
    if isinstance(positions, Rotation):
        query_key = _turn(query_key, positions)
    else:
        bias = positions.bias(qkv.shape[1], qkv.dtype)  # (head, query, key)
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    query, key = query_key.transpose(1, 3).unbind(2)
    attended = functional.scaled_dot_product_attention(
        query, key, value.transpose(1, 2), attn_mask=mask
    )  # (sequence, head, token, channel)
    return attended.transpose(1, 2).flatten(0, 1)


def _turn(states: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Turn each pair of channels (..., token, part, head, channel) by its position, in float32."""
    n_tokens = states.shape[1]
    cos, sin = (table[:n_tokens, None, None] for table in rotation)  # (token, 1, 1, channel / 2)
    first, second = states.float().chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(states.dtype)


def _in_rows(tensor: torch.Tensor, n_sequences: int) -> torch.Tensor:
    """Return (token, ...) as (sequence, token, ...)."""
    return tensor.view(n_sequences, -1, *tensor.shape[1:])


PADDING = TOKENS.index("<pad>")


class Engine(BatchRunner):
    """An encoder on a device.

    Parameters
    ----------
    encoder : Encoder
    device : torch device
        Where its weights are.
    is_packed : bool
        Lay sequences end to end rather than in batches of equal lengths.
    token_budget : int
        Most tokens in a batch.
    """

    def __init__(
        self, encoder: Encoder, *, device: torch.device, is_packed: bool, token_budget: int
    ) -> None:
        divide = packed_batches if is_packed else equal_length_batches
        super().__init__(device=device, token_budget=token_budget, divide=divide)
        self.encoder = encoder
        self.is_packed = is_packed

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the mean hidden state of each sequence's residues, float32 (n_sequences, dim)."""
        return self.run(
            token_lengths(sequences),
            lambda rows: self._embed_batch([sequences[row] for row in rows]),
            dim=self.encoder.dim,
            token_budget=token_budget,
            on_progress=on_progress,
        )

    def embed_padded(self, sequences: Sequence[str], batch_size: int) -> npt.NDArray[np.float32]:
        """Return the same, in padded batches in the order given."""
        lengths = token_lengths(sequences)
        budget = batch_size * int(lengths.max(initial=1))
        plain = BatchRunner(device=self.device, token_budget=budget, divide=batches_in_order)
        return plain.run(
            lengths,
            lambda rows: self._embed_padded_batch([sequences[row] for row in rows]),
            dim=self.encoder.dim,
        )

    def _embed_batch(self, sequences: list[str]) -> torch.Tensor:
        tokenised = tokenise(sequences)
        lengths = tokenised.lengths
        layout = Packed(lengths, self.device) if self.is_packed else EqualLengths(len(lengths))
        return self._encode(tokenised.tokens, layout)

    def _embed_padded_batch(self, sequences: list[str]) -> torch.Tensor:
        tokenised = tokenise(sequences)
        lengths = tokenised.lengths
        is_token = np.arange(lengths.max()) < lengths[:, None]  # (sequence, token)
        tokens = np.full(is_token.shape, PADDING, dtype=np.int32)
        tokens[is_token] = tokenised.tokens
        return self._encode(tokens.reshape(-1), Padded(lengths, self.device))

    def _encode(self, tokens: npt.NDArray[np.int32], layout: Layout) -> torch.Tensor:
        return layout.pool(self.encoder(to_device(tokens, self.device), layout.attend))


DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# A layer's parameters, as their names end.
KINDS = ("weight", "bias")

# What the activations of one token take, in multiples of the model's width, with room to spare: 12
# were seen on a GPU, in bfloat16.
ACTIVATIONS = 20


def build_engine(
    checkpoint: EsmCheckpoint, *, dtype: str, device: str, token_budget: int | None = None
) -> Engine:
    """Load a checkpoint's weights onto a device, ready to embed.

    Parameters
    ----------
    checkpoint : EsmCheckpoint
    dtype : str
        float32, bfloat16 or float16.
    device : str
        A torch device.
    token_budget : int, optional
        Most tokens in a batch; chosen for the device if not given.

    Raises
    ------
    MissingInput
        If the device is not there, or cannot compute in that dtype.
    CheckpointError
        If the weights do not fit the configuration.
    DeviceError
        If the device's memory does not suffice for the weights.
    """
    require_device(device, dtype)
    try:
        weights = checkpoint.read_weights(dtype=DTYPES[dtype], device=torch.device(device))
        return assemble_engine(
            weights, checkpoint.shape, dtype=dtype, device=device, token_budget=token_budget
        )
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"{device}: memory does not suffice for the weights in {checkpoint.folder}. "
            "Use a GPU with more memory, or end what else runs on this one"
        ) from error


def assemble_engine(
    weights: dict[str, torch.Tensor],
    config: Mapping[str, Any],
    *,
    dtype: str,
    device: str,
    token_budget: int | None = None,
) -> Engine:
    """Put an engine together from weights that are on the device already.

    Parameters
    ----------
    weights : dict of name to tensor
        By transformers' names, in the dtype to compute in. Is emptied, so that memory holds no
        more than one layer twice.
    config : mapping
        With hidden_size, num_hidden_layers, num_attention_heads and layer_norm_eps.
    dtype, device, token_budget
        As for :func:`build_engine`.
    """
    place = torch.device(device)
    is_fused = place.type == "cuda" and dtype != "float32"
    encoder = build_encoder(weights, config, is_fused=is_fused)
    bytes_per_token = ACTIVATIONS * encoder.dim * DTYPES[dtype].itemsize
    return Engine(
        encoder,
        device=place,
        is_packed=is_fused,
        token_budget=token_budget or fitting_budget(place, bytes_per_token),
    )


def build_encoder(
    weights: dict[str, torch.Tensor],
    config: Mapping[str, Any],
    *,
    is_fused: bool = False,
) -> Encoder:
    """Put an encoder together from weights by transformers' names.

    Parameters
    ----------
    weights, config
        As for :func:`assemble_engine`.
    is_fused : bool
        Compute with kernels for NVIDIA GPUs.
    """

    def linear(*names: str) -> Linear:
        """Return one linear layer whose outputs are those of several, one after the other."""
        weight, bias = (_joined([weights.pop(f"{n}.{kind}") for n in names]) for kind in KINDS)
        return Linear(weight, bias)

    def norm(name: str) -> Norm:
        weight, bias = (weights.pop(f"{name}.{kind}") for kind in KINDS)
        return Norm(weight, bias, config["layer_norm_eps"])

    rotations: dict[tuple[float, ...], Rotation] = {}  # most often one for all layers

    def rotation(number: int) -> Rotation:
        table = weights.pop(table_name(number), None)
        if table is None:
            n_channels = config["hidden_size"] // config["num_attention_heads"]
            table = unrounded_frequencies(n_channels, embedding.device)
        return rotations.setdefault(tuple(table.tolist()), rotate(table))

    def layer(number: int) -> Layer:
        prefix = f"encoder.layer.{number}"
        heads = f"{prefix}.attention.self"
        return Layer(
            attention_norm=norm(f"{prefix}.attention.LayerNorm"),
            qkv=linear(f"{heads}.query", f"{heads}.key", f"{heads}.value"),
            attended=linear(f"{prefix}.attention.output.dense"),
            norm=norm(f"{prefix}.LayerNorm"),
            widen=linear(f"{prefix}.intermediate.dense"),
            narrow=linear(f"{prefix}.output.dense"),
            rotation=rotation(number),
        )

    embedding = weights.pop("embeddings.word_embeddings.weight")
    layers = [layer(number) for number in range(config["num_hidden_layers"])]
    last_norm = norm("encoder.emb_layer_norm_after")
    arithmetic = PLAIN
    if is_fused:
        from harness.embedding.esm import kernels

        layers, last_norm = kernels.put_off_biases(layers, last_norm)
        arithmetic = kernels.FUSED
    return Encoder(
        embedding,
        layers,
        last_norm,
        n_heads=config["num_attention_heads"],
        arithmetic=arithmetic,
    )


def _joined(tensors: list[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
