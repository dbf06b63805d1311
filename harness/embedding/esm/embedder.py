"""ESM2-shaped protein language models as embedders: equal lengths together, so no padding.

Pooling is the mean over residues, without the beginning and end marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.artifacts import digest_json
from harness.embedding.esm.alphabet import TOKENS, tokenise
from harness.embedding.esm.checkpoint import EsmCheckpoint, find_checkpoint, open_checkpoint
from harness.errors import MissingInput

if TYPE_CHECKING:
    import torch

__all__ = ["EsmEmbedder", "load_embedder"]

# Tokens in one batch: large enough to keep the cores busy, small enough to stay in their caches.
TOKENS_PER_BATCH = 2048
PADDING = TOKENS.index("<pad>")


class EsmEmbedder:
    """Embeds proteins with an ESM2-shaped encoder.

    Parameters
    ----------
    checkpoint : EsmCheckpoint
        The weights.
    dtype : str
        float32, bfloat16 or float16: what the encoder computes in.
    device : str
        A torch device.

    Raises
    ------
    MissingInput
        If the device is not there.
    """

    def __init__(
        self, checkpoint: EsmCheckpoint, *, dtype: str = "float32", device: str = "cpu"
    ) -> None:
        import torch

        require_device(device)
        self.name = checkpoint.folder.name
        self.dim = checkpoint.dim
        self.dtype = dtype
        self.device = device
        self.weights_sha256 = checkpoint.digest()
        self.digest = digest_json(
            {"weights": self.weights_sha256, "dtype": dtype, "pooling": "mean over residues"}
        )
        self.is_random = checkpoint.random_seed is not None
        self._checkpoint = checkpoint
        self._device = torch.device(device)
        self._model = checkpoint.load().to(device=self._device, dtype=getattr(torch, dtype))
        self.n_parameters = sum(p.numel() for p in self._model.parameters())

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the embeddings, float32 of shape (n_sequences, dim).

        Raises
        ------
        DataError
            If a protein is empty; the message gives its position.
        """
        import torch

        tokens = tokenise(sequences).tokens
        embeddings = np.empty((len(tokens), self.dim), dtype=np.float32)
        for rows in _equal_length_batches([len(ids) for ids in tokens]):
            batch = torch.from_numpy(np.stack([tokens[row] for row in rows]))  # (batch, token)
            embeddings[rows] = self._pooled(batch.to(self._device)).numpy()
            if on_progress is not None:
                on_progress(len(rows))
        return embeddings

    def embed_padded(
        self, sequences: Sequence[str], *, batch_size: int = 16
    ) -> npt.NDArray[np.float32]:
        """Return the same embeddings the plain way: batches in the order given, padded.

        Slower where lengths differ; it exists to be timed against :meth:`embed`.
        """
        tokens = tokenise(sequences).tokens
        embeddings = np.empty((len(tokens), self.dim), dtype=np.float32)
        for start in range(0, len(tokens), batch_size):
            rows = slice(start, start + batch_size)
            embeddings[rows] = self._pooled_padded(tokens[rows]).numpy()
        return embeddings

    def in_dtype(self, dtype: str) -> EsmEmbedder:
        """Return an embedder of the same weights and device that computes in another dtype."""
        if dtype == self.dtype:
            return self
        return EsmEmbedder(self._checkpoint, dtype=dtype, device=self.device)

    def _pooled(self, tokens: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            hidden = self._model(tokens).last_hidden_state  # (batch, token, dim)
            pooled: torch.Tensor = hidden[:, 1:-1].float().mean(dim=1)  # (batch, dim)
        return pooled.cpu()

    def _pooled_padded(self, tokens: Sequence[npt.NDArray[np.int64]]) -> torch.Tensor:
        import torch

        padded = torch.nn.utils.rnn.pad_sequence(
            [torch.from_numpy(ids) for ids in tokens], batch_first=True, padding_value=PADDING
        ).to(self._device)  # (batch, token)
        is_token = padded != PADDING  # (batch, token)
        is_residue = is_token[:, 2:, None]  # (batch, token - 2, 1): a further token follows
        with torch.inference_mode():
            hidden = self._model(padded, attention_mask=is_token.long()).last_hidden_state
            residues = hidden[:, 1:-1].float() * is_residue  # (batch, token - 2, dim)
            pooled: torch.Tensor = residues.sum(dim=1) / is_residue.sum(dim=1)  # (batch, dim)
        return pooled.cpu()


def load_embedder(
    model: str, *, revision: str | None = None, dtype: str = "float32", device: str = "cpu"
) -> EsmEmbedder:
    """Load a protein embedder from a checkpoint folder or a cached hub id.

    Parameters
    ----------
    model : str
        Folder of a transformers checkpoint of ESM2 or FastESM2, or the hub id of one that has been
        downloaded. No code from it is run.
    revision : str, optional
        Of the hub id.
    dtype : str
        float32, bfloat16 or float16.
    device : str
        A torch device, such as ``cpu`` or ``cuda``.

    Raises
    ------
    MissingInput
        If the weights or the device are not there.
    CheckpointError
        If the weights do not fit the configuration.
    """
    checkpoint = open_checkpoint(find_checkpoint(model, revision))
    return EsmEmbedder(checkpoint, dtype=dtype, device=device)


def require_device(device: str) -> None:
    """Raise MissingInput unless torch can use the device; nothing falls back silently."""
    import torch

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise MissingInput(
            f"The device {device!r} is not there: torch {torch.__version__} finds no GPU",
            remedy='Run on a machine with a GPU, or set device = "cpu" if that is where the model '
            "will be deployed",
        )


def _equal_length_batches(lengths: Sequence[int]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield row numbers of equally long sequences, at most a token budget at a time."""
    order = np.argsort(lengths, kind="stable")
    ordered = np.asarray(lengths)[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    for rows in np.split(order, starts[1:]):
        step = max(1, TOKENS_PER_BATCH // lengths[rows[0]]) if len(rows) else 1
        for start in range(0, len(rows), step):
            yield rows[start : start + step]
