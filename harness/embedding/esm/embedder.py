"""ESM2 and FastESM2 as embedders: strings on the host in, vectors out.

What a model is called and made of stands here, and how many operations it takes; how it is
computed, in ``engine``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.artifacts import digest_json
from harness.embedding.devices import measure_product_rate
from harness.embedding.embedder import MAX_RESIDUES, Counts, Facts, published_as
from harness.embedding.esm.alphabet import TokenisedProteins, as_proteins, tokenise
from harness.embedding.esm.checkpoint import find_checkpoint, open_checkpoint
from harness.embedding.esm.engine import DTYPES, build_engine

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EsmEmbedder",
    "encoder_flop",
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
    model : str
        Folder of a transformers checkpoint of ESM2 or FastESM2, or the hub id of one that has been
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
        If the weights or the device are not there.
    CheckpointError
        If the weights do not fit the configuration.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        checkpoint = open_checkpoint(find_checkpoint(model, revision))
        self._engine = build_engine(checkpoint, dtype=dtype, device=device)
        self._checkpoint = checkpoint
        self._device = device
        self.name = checkpoint.folder.name
        self.dim = checkpoint.dim
        self.dtype = dtype
        files = checkpoint.file_digests()
        self.facts = Facts(
            engine="packed ESM2 encoder",
            weights_sha256=checkpoint.digest(files),
            files_sha256=files,
            published_as=published_as(files.values()),
            n_parameters=checkpoint.n_parameters,
            is_random=checkpoint.is_untrained(),
            stand_in=checkpoint.stand_in,
        )
        self.digest = digest_json(
            {
                "weights": self.facts.weights_sha256,
                "dtype": dtype,
                "pooling": "mean over residues",
                "engine": ENGINE_VERSION,
            }
        )

    @staticmethod
    def describe(model: str, *, revision: str | None, dtype: str) -> str:
        """Say what a checkpoint is; of its weights no more is read than shows whether trained."""
        checkpoint = open_checkpoint(find_checkpoint(model, revision))
        folder = checkpoint.folder
        gigabytes = checkpoint.n_parameters * DTYPES[dtype].itemsize / 1e9
        parts = [
            str(folder) if Path(model) == folder else f"{model} in {folder}",
            f"type {checkpoint.model_type}",
            f"layers: {checkpoint.shape['num_hidden_layers']}",
            f"width {checkpoint.dim}",
            f"{gigabytes:.2g} GB of weights in {dtype}",
            *(["random weights, so a rehearsal"] if checkpoint.is_untrained() else []),
            *(["a stand-in, so a rehearsal"] if checkpoint.stand_in else []),
        ]
        return ", ".join(parts)

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch: halved each time that the device's memory did not suffice."""
        return self._engine.token_budget

    @property
    def n_out_of_memory(self) -> int:
        """How often the device's memory did not suffice."""
        return self._engine.n_out_of_memory

    def gpu_memory_bytes(self) -> int | None:
        """Return the most that tensors took on its GPU since that was last reset; None on a CPU."""
        return self._engine.gpu_memory_bytes()

    def embed(
        self,
        sequences: Sequence[str] | pd.Series[str],
        token_budget: int | None = None,
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
        return self._engine.embed(as_proteins(sequences), token_budget, on_progress)

    def embed_padded(
        self, sequences: Sequence[str] | pd.Series[str], *, batch_size: int = 16
    ) -> npt.NDArray[np.float32]:
        """Return the same embeddings the plain way: batches in the order given, padded.

        Slower where lengths differ; it exists to be timed against :meth:`embed`.
        """
        return self._engine.embed_padded(as_proteins(sequences), batch_size)

    def tokenise(self, sequences: Sequence[str]) -> TokenisedProteins:
        """Turn proteins into token ids, as :meth:`embed` does."""
        return tokenise(sequences)

    def count(self, sequences: Sequence[str]) -> Counts:
        """Return tokens, cuts and replacements of proteins."""
        tokenised = tokenise(sequences)
        return Counts(
            n_tokens=len(tokenised.tokens),
            n_truncated=tokenised.n_truncated,
            n_replaced=tokenised.n_replaced,
        )

    def reference(
        self, sequences: Sequence[str]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the same embeddings in float32, by this engine and by transformers' own model."""
        from harness.embedding.esm.reference import compute_with_both

        return compute_with_both(self._checkpoint, sequences, device=self._device)

    def flop(self, n_residues: npt.ArrayLike) -> float:
        """Return the floating-point operations of embedding proteins of so many residues."""
        return encoder_flop(self._checkpoint.shape, n_residues)

    def peak_flops(self) -> float | None:
        """Return the device's measured rate of a large matrix product; None if it has none.

        As a CPU has none, nor a GPU without memory for it.
        """
        return measure_product_rate(self._device, self.dtype)
