"""ESM2-shaped protein language models as embedders: strings on the host in, vectors out.

What a model is called and made of stands here; how it is computed, in ``engine``. Torch is imported
when a model is loaded, not before.

How many floating-point operations an encoder needs: what rates are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.artifacts import digest_json
from harness.embedding.esm.alphabet import MAX_RESIDUES, as_proteins
from harness.embedding.esm.checkpoint import EsmCheckpoint, find_checkpoint, open_checkpoint
from harness.embedding.esm.origin import published_as

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EsmEmbedder",
    "encoder_flop",
    "load_embedder",
]


def encoder_flop(config: Mapping[str, Any], n_residues: npt.ArrayLike) -> float:
    """Return the floating-point operations of embedding proteins.

    Parameters
    ----------
    config : mapping
        With hidden_size, intermediate_size and num_hidden_layers.
    n_residues : int array, (sequence,)

    Notes
    -----
    A multiplication and an addition count as two. For n tokens of width d in a layer with feed-
    forward width f, the linear layers take 2n(4d² + 2df) and attention takes 4n²d; normalisation
    and activation are left out.
    """
    tokens = np.minimum(np.asarray(n_residues, dtype=np.float64), MAX_RESIDUES) + 2
    dim, wide = config["hidden_size"], config["intermediate_size"]
    linear = 2 * (4 * dim**2 + 2 * dim * wide) * tokens.sum()
    attention = 4 * dim * (tokens**2).sum()
    return float(config["num_hidden_layers"] * (linear + attention))


# Raised when the vectors of the same weights change by more than rounding.
ENGINE_VERSION = 3


class EsmEmbedder:
    """Embeds proteins with an ESM2-shaped encoder; a vector is the mean over residues.

    Parameters
    ----------
    checkpoint : EsmCheckpoint
        The weights.
    dtype : str
        float32, bfloat16 or float16: what the encoder computes in. Or float8: bfloat16, with the
        linear layers in float8, on GPUs that multiply it.
    device : str
        A torch device.
    token_budget : int, optional
        Most tokens in a batch; chosen for the device if not given.

    Raises
    ------
    MissingInput
        If the device is not there.
    CheckpointError
        If the weights do not fit the configuration.
    """

    def __init__(
        self,
        checkpoint: EsmCheckpoint,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        token_budget: int | None = None,
    ) -> None:
        from harness.embedding.esm.engine import build_engine

        self._engine = build_engine(
            checkpoint, dtype=dtype, device=device, token_budget=token_budget
        )
        self.name = checkpoint.folder.name
        self.dim = checkpoint.dim
        self.dtype = dtype
        self.device = device
        self.files_sha256 = checkpoint.file_digests()
        self.weights_sha256 = checkpoint.digest(self.files_sha256)
        self.digest = digest_json(
            {
                "weights": self.weights_sha256,
                "dtype": dtype,
                "pooling": "mean over residues",
                "engine": ENGINE_VERSION,
            }
        )
        self.published_as = published_as(self.files_sha256.values())
        self.is_random = checkpoint.is_untrained()
        self.stand_in = checkpoint.stand_in
        self.n_parameters = checkpoint.n_parameters
        self._checkpoint = checkpoint

    @property
    def origin(self) -> str:
        """Where the weights come from: ``official``, ``untrained`` or ``unknown``."""
        if self.is_random:
            return "untrained"
        return "official" if self.published_as else "unknown"

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch: halved each time that the device's memory did not suffice."""
        return self._engine.token_budget

    def limit_tokens(self, token_budget: int) -> None:
        """Let no batch hold more tokens than this; a smaller budget stays."""
        self._engine.token_budget = min(self._engine.token_budget, token_budget)

    @property
    def n_out_of_memory(self) -> int:
        """How often the device's memory did not suffice."""
        return self._engine.n_out_of_memory

    def gpu_memory_bytes(self) -> int | None:
        """Return the most that tensors took on its GPU since that was last reset; None on a CPU."""
        from harness.embedding.devices import gpu_memory_bytes

        return gpu_memory_bytes(self.device)

    def embed(
        self,
        sequences: Sequence[str] | pd.Series[str],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the embeddings, float32 of shape (n_sequences, dim), by position.

        Case, blanks, line ends and a stop at the end count as they do in files.

        Raises
        ------
        DataError
            If a protein is empty, or holds what is no residue.
        DeviceError
            If the device's memory does not suffice for a single protein.
        """
        return self._engine.embed(as_proteins(sequences), on_progress)

    def embed_padded(
        self, sequences: Sequence[str] | pd.Series[str], *, batch_size: int = 16
    ) -> npt.NDArray[np.float32]:
        """Return the same embeddings the plain way: batches in the order given, padded.

        Slower where lengths differ; it exists to be timed against :meth:`embed`.
        """
        return self._engine.embed_padded(as_proteins(sequences), batch_size)

    def in_dtype(self, dtype: str) -> EsmEmbedder:
        """Return an embedder of the same weights and device that computes in another dtype."""
        if dtype == self.dtype:
            return self
        return EsmEmbedder(self._checkpoint, dtype=dtype, device=self.device)

    def flop(self, n_residues: npt.ArrayLike) -> float:
        """Return the floating-point operations of embedding proteins of so many residues."""
        return encoder_flop(self._checkpoint.shape, n_residues)

    def peak_flops(self) -> float | None:
        """Return the device's measured rate of a large matrix product; None if it has none.

        As a CPU has none, nor a GPU without memory for it.
        """
        from harness.embedding.devices import measure_product_rate

        return measure_product_rate(self.device, self.dtype)


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
        float32, bfloat16, float16 or float8.
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
