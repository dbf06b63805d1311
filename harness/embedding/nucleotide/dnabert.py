"""DNABERT-S from its checkpoint: the mean over all tokens, as VirNucPro takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from harness.artifacts import digest_json
from harness.embedding.nucleotide.remote_checkpoint import RemoteCheckpoint
from harness.embedding.nucleotide.remote_code import open_remote_checkpoint
from harness.errors import DataError

__all__ = ["DnabertEmbedder", "load_dnabert"]

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

        from harness.embedding.esm.device import require_device  # imports torch

        require_device(device)
        self._device = torch.device(device)
        self._tokenise = checkpoint.load_tokeniser()
        self._model = checkpoint.load_model().to(self._device)
        self.name = checkpoint.model
        self.dim = int(self._model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.code_sha256 = checkpoint.code_digest()
        self.digest = digest_json(
            {"files": checkpoint.digest(), "dtype": "float32", "pooling": "mean over tokens"}
        )

    def gpu_memory_bytes(self) -> int | None:
        """Return the most that tensors took on its GPU since that was last reset; None on a CPU."""
        from harness.embedding.esm.device import gpu_memory_bytes

        return gpu_memory_bytes(str(self._device))

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
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
        for rows in _equal_lengths([len(ids) for ids in tokens]):
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


def _equal_lengths(lengths: Sequence[int]) -> Iterator[npt.NDArray[np.intp]]:
    """Yield rows with equally many tokens, at most a token budget at a time."""
    for length in np.unique(lengths):
        rows = np.flatnonzero(np.asarray(lengths) == length)
        step = max(1, TOKENS_PER_BATCH // int(length))
        yield from np.split(rows, range(step, len(rows), step))
