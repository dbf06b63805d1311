"""The one seam for embedders: what each offers, what it may offer, and how it is found by its kind.

An embedder is one file with a class of the shape of ``Embedder`` and one entry: of the table here,
or of the group ``harness.embedders`` among a package's entry points. Nothing outside an embedder's
own file knows it by name. What every kind of store offers (``Rows``) stands here as well; how
vectors are computed and kept does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.config import DTYPES
from harness.errors import ConfigError, DataError

__all__ = [
    "ENTRY_POINTS",
    "MAX_RESIDUES",
    "Abilities",
    "Counts",
    "Embedder",
    "Facts",
    "Rows",
    "collect",
    "describe_model",
    "load_embedder",
    "locate",
    "published_as",
]


# Longer proteins are cut to this by every kind: ESM2 was trained on no longer ones.
MAX_RESIDUES = 1022

ENTRY_POINTS = "harness.embedders"  # the group of embedders that other packages bring
_OWN = {
    "esm": "harness.embedding.esm.embedder:EsmEmbedder",
    "transformers": "harness.embedding.transformers_encoder:TransformersEmbedder",
}

Vectors = npt.NDArray[np.float32]
Report = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What stands in the verdict of an embedder.

    Attributes
    ----------
    engine : str
        What computes the vectors. Times of different engines do not speak of the models alone.
    weights_sha256 : str or None
        Digest of the weights, whatever they are computed in.
    n_parameters : int or None
        Numbers that were learned.
    is_random : bool
        Whether the weights are random: then the run is a rehearsal.
    stand_in : str or None
        For what the model stands in, where it says that it does: a rehearsal, too.
    files_sha256 : mapping of str to str
        sha256 of each weight file, by its name.
    published_as : str or None
        Hub id and revision whose published files these are, if anybody's.
    """

    engine: str
    weights_sha256: str | None = None
    n_parameters: int | None = None
    is_random: bool = False
    stand_in: str | None = None
    files_sha256: Mapping[str, str] = field(default_factory=dict)
    published_as: str | None = None

    @property
    def origin(self) -> str:
        """Where the weights come from: ``official``, ``untrained`` or ``unknown``."""
        if self.is_random:
            return "untrained"
        return "official" if self.published_as else "unknown"


class Embedder(Protocol):
    """Turns sequences into vectors.

    Attributes
    ----------
    name : str
        For people.
    dim : int
        Width of its vectors.
    digest : str
        sha256 (hex) of everything that decides the vectors: weights, dtype, pooling.
    dtype : str
        What it computes in: float32, bfloat16 or float16.
    facts : Facts
        What stands in the verdict.

    Notes
    -----
    What it may offer beside this, ``Abilities`` lists.
    """

    name: str
    dim: int
    digest: str
    dtype: str
    facts: Facts

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Report | None = None,
    ) -> Vectors:
        """Return float32 vectors (n_sequences, dim), row by row those of ``sequences``.

        No batch holds more tokens than ``token_budget``; without one, as many as fit.
        ``on_progress`` is told how many more sequences are done. A sequence that cannot be
        embedded raises DataError with its position.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What some sequences are to an embedder, 0 where it does not say.

    Attributes
    ----------
    n_tokens : int
        Tokens that they become, marks included.
    n_truncated : int
        Sequences that are cut, being too long.
    n_replaced : int
        Letters that are read as X, being none of its alphabet.
    """

    n_tokens: int = 0
    n_truncated: int = 0
    n_replaced: int = 0


class Abilities:
    """What an embedder may offer beside ``Embedder``; this is the only place that asks.

    Parameters
    ----------
    embedder : Embedder
        Has any of the attributes ``token_budget`` and ``n_out_of_memory``, and of the methods
        ``gpu_memory_bytes``, ``count``, ``flop``, ``peak_flops``, ``tokenise`` and
        ``embed_padded``.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def token_budget(self) -> int | None:
        """Most tokens in a batch at present; an embedder halves it where memory runs out."""
        budget: int | None = getattr(self._embedder, "token_budget", None)
        return budget

    @property
    def n_out_of_memory(self) -> int:
        """How often the device's memory did not suffice; 0 where it does not say."""
        n_times: int = getattr(self._embedder, "n_out_of_memory", 0)
        return n_times

    def gpu_memory_bytes(self) -> int | None:
        """Return the most that was taken of a GPU since that was last reset, if it is known."""
        n_bytes: int | None = self._ask("gpu_memory_bytes", None)
        return n_bytes

    def count(self, sequences: Sequence[str]) -> Counts:
        """Return tokens, cuts and replacements of sequences."""
        counts: Counts = self._ask("count", Counts(), sequences)
        return counts

    def flop(self, lengths: Sequence[int]) -> float:
        """Return the floating-point operations that so many letters take; 0 if not known."""
        n_operations: float = self._ask("flop", 0.0, lengths)
        return n_operations

    def peak_flops(self) -> float | None:
        """Return the most operations a second that the device does, if that is known."""
        rate: float | None = self._ask("peak_flops", None)
        return rate

    @property
    def tokenise(self) -> Callable[[Sequence[str]], object] | None:
        """What turns strings into tokens, to be timed alone."""
        return getattr(self._embedder, "tokenise", None)

    @property
    def embed_padded(self) -> Callable[[Sequence[str]], Vectors] | None:
        """What embeds in padded batches of 16 in the order given, to be timed against ``embed``."""
        return getattr(self._embedder, "embed_padded", None)

    def _ask(self, name: str, otherwise: Any, *arguments: object) -> Any:
        method = getattr(self._embedder, name, None)
        return otherwise if method is None else method(*arguments)


def load_embedder(
    model: str,
    *,
    kind: str = "esm",
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
) -> Embedder:
    """Load a protein embedder.

    Parameters
    ----------
    model : str
        What the kind makes of it: ``esm`` and ``transformers`` take a checkpoint's folder, or a
        hub id that has been downloaded. No code from it is run.
    kind : str
        ``esm`` (ESM2 and FastESM2), ``transformers`` (encoders that transformers implements), or
        the name of another package's entry point.
    revision : str, optional
        Of the hub id.
    dtype : str
        float32, bfloat16 or float16.
    device : str
        A torch device, such as ``cpu`` or ``cuda``.

    Raises
    ------
    ConfigError
        If there is no such kind, or what it makes is no embedder.
    MissingInput
        If the weights or the device are not there.
    CheckpointError
        If the weights do not fit the configuration.
    """
    embedder = _find(kind)(model, revision=revision, dtype=dtype, device=device)
    lacking = [name for name in ("name", "dim", "digest", "facts") if not hasattr(embedder, name)]
    if lacking or not callable(getattr(embedder, "embed", None)):
        raise ConfigError(
            f"kind {kind!r} made {type(embedder).__name__}, which has no "
            f"{', '.join(lacking) or 'embed'}. Give it what docs/embedders.md lists"
        )
    if getattr(embedder, "dtype", None) != dtype or dtype not in DTYPES:
        raise ConfigError(
            f"kind {kind!r} computes in {getattr(embedder, 'dtype', None)!r}; asked for was "
            f"{dtype!r}. Known are {', '.join(DTYPES)}"
        )
    loaded: Embedder = embedder
    return loaded


def describe_model(
    model: str, *, kind: str = "esm", revision: str | None = None, dtype: str = "float32"
) -> str:
    """Say what a model is, without loading it; a class of embedders may have a ``describe``.

    Raises
    ------
    ConfigError
        If there is no such kind.
    MissingInput, CheckpointError
        If it is not there, or is something else.
    """
    describe = getattr(_find(kind), "describe", None)
    if describe is None:
        return f"{model}, embedded by {kind}"
    return str(describe(model, revision=revision, dtype=dtype))


def _find(kind: str) -> Callable[..., Any]:
    """Return what makes embedders of a kind; the project's own kinds cannot be replaced."""
    own = [EntryPoint(name, value, ENTRY_POINTS) for name, value in _OWN.items()]
    known = {entry.name: entry for entry in (*entry_points(group=ENTRY_POINTS), *own)}
    if kind not in known:
        raise ConfigError(
            f"kind: expected one of {', '.join(sorted(known))}; got {kind!r}. Another one is "
            f"installed with a package that has an entry point in the group {ENTRY_POINTS}"
        )
    try:
        found: Callable[..., Any] = known[kind].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"kind {kind!r} is {known[kind].value}, which cannot be imported ({error}). Correct "
            "the entry point of its package"
        ) from error
    return found


class Rows(Protocol):
    """Vectors by record id, wherever they lie: computed here, or brought.

    Attributes
    ----------
    dim : int
        Width of the rows.
    """

    dim: int

    @property
    def ids(self) -> pd.Index[str]:
        """Record ids, in the order of the rows."""

    def __len__(self) -> int:
        """Return how many rows there are."""

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of some records, float32 (n_ids, dim), in the order asked for."""


def locate(
    index: pd.Index[str],
    ids: Sequence[str] | pd.Series[str],
    *,
    what: str,
    folder: Path,
    remedy: str,
) -> npt.NDArray[np.int64]:
    """Return where each record stands in an index, in the order asked for.

    Parameters
    ----------
    index : Index of str
        Ids of all rows, no two alike.
    ids : sequence of str, (n_ids,)
        The records.
    what, folder, remedy : str, Path, str
        For the error: what the rows are, where they lie, and what to do.

    Raises
    ------
    DataError
        If a record has no row; some are named.
    """
    wanted = pd.Index(ids)
    positions = index.get_indexer(wanted)
    if (positions < 0).any():
        absent = wanted[positions < 0]
        raise DataError(
            f"{folder}: {len(absent)} of {len(positions)} records have no {what}, "
            f"such as {', '.join(map(repr, absent[:3]))}. {remedy}"
        )
    return np.asarray(positions, dtype=np.int64)


def collect(
    numbers: npt.NDArray[np.integer],
    rows: npt.NDArray[np.integer],
    *,
    dim: int,
    read: Callable[[int, npt.NDArray[np.integer]], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Return rows that lie in several files, float32 (n_rows, dim), in the order asked for.

    Parameters
    ----------
    numbers, rows : int array, (n_rows,)
        The file of each row, and its place there.
    dim : int
        Width of the rows.
    read : callable
        From a file's number and places, ascending, to the rows there; called once a file.
    """
    result = np.empty((len(rows), dim), dtype=np.float32)
    order = np.lexsort((rows, numbers))
    for wanted in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        if len(wanted):
            result[wanted] = read(int(numbers[wanted[0]]), rows[wanted])
    return result


# The sha256 of the weight files of facebook's ESM2 on the Hugging Face hub, as the hub's LFS
# pointers say them; by model and revision.
_PUBLISHED = {
    "facebook/esm2_t6_8M_UR50D@c731040fcd8d73dceaa04b0a8e6329b345b0f5df": {
        "24c5fa474c48f3b754b86efe752d5f189d2bcd88190fa2270fc92b2ef3034189",
    },
    "facebook/esm2_t12_35M_UR50D@6fbf070e65b0b7291e7bbcd451118c216cff79d8": {
        "e35647818e0e064351d4531ed480d225a002567b4b2b93ad3a9246d753150fc0",
    },
    "facebook/esm2_t30_150M_UR50D@a695f6045e2e32885fa60af20c13cb35398ce30c": {
        "c3f1da8aea53bddd32c246c86168c23b9fd72341fb9db9a94436f855f5053566",
    },
    "facebook/esm2_t33_650M_UR50D@08e4846e537177426273712802403f7ba8261b6c": {
        "a08adabb949fa67ad3c14b509d04fd60368b35007b0095e3358f81200c4f4db0",
    },
    "facebook/esm2_t36_3B_UR50D@476b639933c8baad5ad09a60ac1a87f987b656fc": {
        "0f971f11c449d21422aa982b791619c10351972992c735f4c3cd43fe09790412",
        "7560b46fc383c691fb74b915b7d4bcef40d3df181447f16ba4b298845e308d0c",
    },
}


def published_as(digests: Iterable[str]) -> str | None:
    """Return whose published weights some files are: hub id and revision; None if nobody's here.

    Parameters
    ----------
    digests : iterable of str
        The sha256 (hex) of each weight file of a checkpoint.

    Notes
    -----
    The digests of FastESM2_650 are not known here.
    """
    found = set(digests)
    return next((name for name, files in _PUBLISHED.items() if files == found), None)
