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

__all__ = ["EqualLengths", "Layout", "Packed", "Padded", "to_device"]


class Layout(Protocol):
    """One way to lay out the sequences of a batch."""

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return attention within each sequence; all of shape (token, head, channel)."""

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean hidden state (token, dim) over residues, float32 (sequence, dim)."""


class Packed:
    """Sequences of any lengths end to end, through torch's variable-length attention.

    Parameters
    ----------
    lengths : int array, (sequence,)
        Tokens of each sequence, both marks included.
    device : torch device
        A GPU; torch offers this attention there, in bfloat16 and float16.
    """

    def __init__(self, lengths: npt.NDArray[np.int64], device: torch.device) -> None:
        self._longest = int(lengths.max())
        self._ends = to_device(np.cumsum(lengths, dtype=np.int32), device)  # (sequence,)
        # Each sequence is three segments: its beginning mark, its residues, its end mark.
        segments = np.stack([np.ones_like(lengths), lengths - 2, np.ones_like(lengths)], axis=1)
        self._segments = to_device(segments.reshape(-1), device)  # (3 x sequence,)
        self._offsets = functional.pad(self._ends, (1, 0))  # (sequence + 1,)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return attention within each sequence."""
        from torch.nn.attention.varlen import varlen_attn

        offsets, longest = self._offsets, self._longest
        attended = varlen_attn(query, key, value, offsets, offsets, longest, longest)
        if isinstance(attended, tuple):  # only where more than the attention was asked for
            return attended[0]
        return attended

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

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return attention within each sequence."""
        return _attend_in_rows(query, key, value, self._n_sequences)

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

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return attention within each sequence, padding left out."""
        mask = self._is_token[:, None, None, :]  # (sequence, head, query, key)
        return _attend_in_rows(query, key, value, len(self._is_token), mask)

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean over residues."""
        rows = _in_rows(hidden, len(self._is_token)).float()  # (sequence, token, dim)
        weights = self._is_residue[..., None]  # (sequence, token, 1)
        pooled: torch.Tensor = (rows * weights).sum(dim=1) / weights.sum(dim=1)
        return pooled


def _attend_in_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    n_sequences: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    query, key, value = (
        _in_rows(tensor, n_sequences).transpose(1, 2)  # (sequence, head, token, channel)
        for tensor in (query, key, value)
    )
    attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).flatten(0, 1)  # (token, head, channel)


def _in_rows(tensor: torch.Tensor, n_sequences: int) -> torch.Tensor:
    """Return (token, ...) as (sequence, token, ...)."""
    return tensor.view(n_sequences, -1, *tensor.shape[1:])


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on a device, copied without waiting for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
