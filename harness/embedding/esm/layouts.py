"""How the sequences of a batch lie: who attends to whom, and which tokens a vector is the mean of.

Three layouts of the same tokens: end to end (half precision on a GPU), equal lengths (everywhere),
and padded (the plain way, there to be timed and compared with). A vector is the mean over the
residues of its sequence, without the beginning and end marks, in float32.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from harness.embedding.esm.encoder import Rotation

__all__ = ["EqualLengths", "Layout", "Packed", "Padded", "to_device"]


class Layout(Protocol):
    """One way to lay out the sequences of a batch."""

    def attend(self, qkv: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """Return attention within each sequence, (token, head, channel).

        ``qkv`` holds queries, keys and values, (token, 3, head, channel), and may be written over;
        queries and keys are turned by their positions first.
        """

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean hidden state (token, dim) over residues, float32 (sequence, dim)."""


class Packed:
    """Sequences of any lengths end to end, through a kernel for NVIDIA GPUs.

    Parameters
    ----------
    lengths : int array, (sequence,)
        Tokens of each sequence, both marks included.
    device : torch device
        A GPU.
    """

    def __init__(self, lengths: npt.NDArray[np.int64], device: torch.device) -> None:
        self._longest = int(lengths.max())
        starts = np.cumsum([0, *lengths], dtype=np.int32)
        self._starts = to_device(starts, device)  # (sequence + 1,)
        # Each sequence is three segments: its beginning mark, its residues, its end mark.
        segments = np.stack([np.ones_like(lengths), lengths - 2, np.ones_like(lengths)], axis=1)
        self._segments = to_device(segments.reshape(-1), device)  # (3 x sequence,)

    def attend(self, qkv: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """Return attention within each sequence."""
        from harness.embedding.esm import fused

        return fused.attend(qkv, rotation, self._starts, self._longest)

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean over residues."""
        means = torch.segment_reduce(hidden.float(), "mean", lengths=self._segments, unsafe=True)
        return means[1::3]


class EqualLengths:
    """Sequences of one length.

    Parameters
    ----------
    n_sequences : int
    """

    def __init__(self, n_sequences: int) -> None:
        self._n_sequences = n_sequences

    def attend(self, qkv: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """Return attention within each sequence."""
        return _attend_in_rows(_in_rows(qkv, self._n_sequences), rotation)

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean over residues."""
        rows = _in_rows(hidden, self._n_sequences)  # (sequence, token, dim)
        return rows[:, 1:-1].float().mean(dim=1)


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

    def attend(self, qkv: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """Return attention within each sequence, padding left out."""
        mask = self._is_token[:, None, None, :]  # (sequence, head, query, key)
        return _attend_in_rows(_in_rows(qkv, len(self._is_token)), rotation, mask)

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean over residues."""
        rows = _in_rows(hidden, len(self._is_token)).float()  # (sequence, token, dim)
        weights = self._is_residue[..., None]  # (sequence, token, 1)
        pooled: torch.Tensor = (rows * weights).sum(dim=1) / weights.sum(dim=1)
        return pooled


def _attend_in_rows(
    qkv: torch.Tensor, rotation: Rotation, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return attention within the rows of (sequence, token, 3, head, channel)."""
    query_key, value = qkv[:, :, :2], qkv[:, :, 2]
    query, key = _turn(query_key, rotation).transpose(1, 3).unbind(2)
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


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on a device, copied without waiting for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
