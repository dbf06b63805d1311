"""Extraction: embed records and write them shard by shard, alone or together with other ranks.

A shard appears whole or not at all. What an interrupted extraction left is checked and kept; the
rest is divided among the ranks that are there now. The first rank writes index and manifest. How
fast it is, and what it took, is measured here as well; how vectors are computed is the embedder's
business.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import (
    digest_columns,
    digest_file,
    explain_full_disk,
    remove,
    write_atomically,
)
from harness.embedding.devices import Ranks
from harness.embedding.embedder import Abilities, Embedder
from harness.embedding.store import (
    DTYPES,
    INDEX,
    Manifest,
    StorePlan,
    choose_rows_per_shard,
    narrow,
)
from harness.errors import ArtifactError, DataError, NotFiniteError
from harness.progress import Progress, Task

__all__ = [
    "Meter",
    "Throughput",
    "add_throughputs",
    "write_store",
]


NAMED_RECORDS = 3  # of those whose vectors cannot be used
UPDATES_PER_BATCH = 64  # of the progress shown: an embedder may report single sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What was embedded in what time.

    Attributes
    ----------
    n_sequences, n_tokens : int
        What was embedded; no tokens where they are not counted.
    n_truncated, n_replaced : int
        Sequences that were cut; letters that were read as X.
    flop : float
        Floating-point operations; 0 where they are not counted.
    peak_flops : float or None
        Operations a second that the device could do.
    elapsed_seconds : float
        Wall clock.
    n_processes : int
        On how many processes.
    gpu_memory_bytes : int or None
        The most that one process held of a GPU's memory, with all models that it had loaded.
    n_out_of_memory : int
        How often the memory of a device did not suffice, over all processes.
    """

    n_sequences: int
    n_tokens: int
    elapsed_seconds: float
    flop: float = 0.0
    peak_flops: float | None = None
    n_processes: int = 1
    gpu_memory_bytes: int | None = None
    n_out_of_memory: int = 0
    n_truncated: int = 0
    n_replaced: int = 0

    def __str__(self) -> str:
        """Return it for people, such as ``1,234 sequences/s, 98,765 tokens/s``."""
        if not self.n_sequences or self.elapsed_seconds <= 0:
            return ""
        parts = [f"{self.n_sequences / self.elapsed_seconds:,.0f} sequences/s"]
        if self.n_tokens:
            parts.append(f"{self.n_tokens / self.elapsed_seconds:,.0f} tokens/s")
        if self.flop and self.peak_flops:
            share = self.flop / self.elapsed_seconds / self.peak_flops
            parts.append(f"{share:.0%} of the device's peak")
        if self.n_processes > 1:
            parts.append(f"{self.n_processes} processes")
        return ", ".join(parts)


def add_throughputs(parts: Iterable[Throughput]) -> Throughput:
    """Return what processes did together; the slowest of them decides how long that took."""
    listed = [part for part in parts if part.n_sequences]
    peaks = [part.peak_flops for part in listed if part.peak_flops is not None]
    memory = [part.gpu_memory_bytes for part in listed if part.gpu_memory_bytes is not None]
    return Throughput(
        n_sequences=sum(part.n_sequences for part in listed),
        n_tokens=sum(part.n_tokens for part in listed),
        elapsed_seconds=max((part.elapsed_seconds for part in listed), default=0.0),
        flop=sum(part.flop for part in listed),
        peak_flops=sum(peaks) if peaks and len(peaks) == len(listed) else None,
        n_processes=len(listed),
        gpu_memory_bytes=max(memory, default=None),
        n_out_of_memory=sum(part.n_out_of_memory for part in listed),
        n_truncated=sum(part.n_truncated for part in listed),
        n_replaced=sum(part.n_replaced for part in listed),
    )


class Meter:
    """Counts what an embedder does and shows it.

    Parameters
    ----------
    embedder : Embedder
        What else it offers (``Abilities``) decides what is shown.
    task : Task
        Shows how far it is.
    scale : float
        How many sequences to show for each that is counted: other processes do their share.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        embedder: Embedder,
        task: Task,
        *,
        scale: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._abilities = Abilities(embedder)
        self._n_out_of_memory_before = self._abilities.n_out_of_memory
        self._task = task
        self._scale = scale
        self._clock = clock
        self._started = clock()
        self._n_sequences = self._n_tokens = self._n_truncated = self._n_replaced = 0
        self._flop = 0.0
        self._sequences: Sequence[str] = ()
        self._n_reported = self._n_shown = 0

    def begin(self, sequences: Sequence[str]) -> None:
        """Say which sequences are embedded next."""
        self._sequences = sequences
        self._n_shown = self._n_reported = 0

    def advance(self, n_sequences: int) -> None:
        """Say that so many more of them are done."""
        self._n_reported += n_sequences
        if (self._n_reported - self._n_shown) * UPDATES_PER_BATCH >= len(self._sequences):
            each = self._n_tokens / max(1, self._n_sequences)  # as those before had
            self._show(self._n_reported, self._n_tokens + round(self._n_reported * each))

    def end(self) -> None:
        """Say that all of them are done."""
        # Only now: an embedder that has just tokenised them need not do it again.
        counts = self._abilities.count(self._sequences)
        self._n_tokens += counts.n_tokens
        self._n_truncated += counts.n_truncated
        self._n_replaced += counts.n_replaced
        self._flop += self._abilities.flop([len(sequence) for sequence in self._sequences])
        self._show(len(self._sequences), self._n_tokens)
        self._n_sequences += len(self._sequences)

    def throughput(self) -> Throughput:
        """Return what has been done until now."""
        elapsed_seconds = self._clock() - self._started
        # before the peak is measured, which takes memory itself
        gpu_memory_bytes = self._abilities.gpu_memory_bytes()
        return Throughput(
            n_sequences=self._n_sequences,
            n_tokens=self._n_tokens,
            elapsed_seconds=elapsed_seconds,
            flop=self._flop,
            peak_flops=self._abilities.peak_flops() if self._flop else None,
            gpu_memory_bytes=gpu_memory_bytes,
            n_out_of_memory=self._abilities.n_out_of_memory - self._n_out_of_memory_before,
            n_truncated=self._n_truncated,
            n_replaced=self._n_replaced,
        )

    def _show(self, n_done: int, n_tokens: int) -> None:
        """Show that ``n_done`` of the batch are done, with so many tokens since the start."""
        so_far = Throughput(
            n_sequences=self._n_sequences + n_done,
            n_tokens=n_tokens,
            elapsed_seconds=self._clock() - self._started,
        )
        self._task.advance((n_done - self._n_shown) * self._scale, note=str(so_far))
        self._n_shown = n_done


Digests = dict[int, str]  # sha256 of a shard's file, by its number


def write_store(
    folder: Path,
    ids: Sequence[str] | pd.Series[str],
    sequences: Sequence[str] | pd.Series[str],
    embedder: Embedder,
    *,
    dtype: str = "float32",
    rows_per_shard: int | None = None,
    ranks: Ranks | None = None,
    progress: Progress | None = None,
    name: str = "embed",
) -> Throughput:
    """Embed records and write them; shards that are already there are not computed again.

    Parameters
    ----------
    folder : Path
        An existing folder; what an interrupted call left in it is continued. All ranks see it.
    ids, sequences : sequence of str, (n_records,)
        The records; ids are unique.
    embedder : Embedder
        Computes the vectors.
    dtype : str
        What the vectors are stored as: float32, or float16 or bfloat16 for half the bytes.
    rows_per_shard : int, optional
        Default: chosen from the number of records.
    ranks : Ranks, optional
        The processes that call this together, with the same arguments.
    progress : Progress, optional
        Shows how far it is; the first rank's does, for all.
    name : str
        What progress calls it.

    Returns
    -------
    Throughput
        What all ranks did together in this call, without what was there already.

    Raises
    ------
    ValueError
        If there is no such dtype.
    DataError
        If ids and sequences differ in number, or there are none.
    NotFiniteError
        If a vector is not finite; records and dtype are named, and its shard is not kept.
    ArtifactError
        If the folder holds a shard that is damaged or belongs elsewhere; it is named.
    """
    ranks = ranks or Ranks()
    names, texts = _columns(ids, sequences)
    plan = StorePlan(
        embedder=embedder.name,
        embedder_sha256=embedder.digest,
        records_sha256=digest_columns(names, texts),
        n_rows=len(names),
        dim=embedder.dim,
        dtype=_known(dtype),
        rows_per_shard=rows_per_shard or choose_rows_per_shard(len(names)),
    )
    kept = _check_shards(folder, plan, ranks)
    missing = [number for number in range(plan.n_shards) if number not in kept]
    mine = ranks.portion(missing)
    n_rows, n_mine = (sum(len(plan.rows(n)) for n in numbers) for numbers in (missing, mine))
    shown = progress if progress is not None and ranks.is_first else Progress()
    with shown.task(name, n_rows, "sequences") as task:
        scale = n_rows / max(1, n_mine)
        meter = Meter(embedder, task, scale=scale)
        needed_bytes = n_mine * plan.dim * DTYPES[dtype].itemsize
        with explain_full_disk(folder, needed_bytes):
            written = _write_shards(folder, plan, mine, names, texts, embedder, meter)
        together = add_throughputs(ranks.gather(meter.throughput()))
        task.advance(0, note=str(together))
    digests = kept | _merge(ranks.gather(written))
    if ranks.is_first:
        _finish(folder, plan, names, digests)
    return together


def _known(dtype: str) -> str:
    if dtype not in DTYPES:
        raise ValueError(f"expected a dtype of {', '.join(DTYPES)}, got {dtype!r}")
    return dtype


def _columns(
    ids: Sequence[str] | pd.Series[str], sequences: Sequence[str] | pd.Series[str]
) -> tuple[pd.Series[str], pd.Series[str]]:
    if len(ids) != len(sequences) or not len(ids):
        raise DataError(f"expected as many ids as sequences, got {len(ids)} and {len(sequences)}")
    return pd.Series(ids, dtype="str"), pd.Series(sequences, dtype="str")


def _check_shards(folder: Path, plan: StorePlan, ranks: Ranks) -> Digests:
    """Return the shards that are there, each checked by one of the ranks."""
    if ranks.is_first:
        for leftover in folder.glob(".*"):  # of a write that was interrupted
            remove(leftover)
    ranks.gather(None)  # nobody writes before they are gone
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder}: is not there. All hosts must share the work directory, under one path"
        )
    paths = {n: plan.path(folder, n) for n in ranks.portion(range(plan.n_shards))}
    found = {n: _check_shard(plan, n, path) for n, path in paths.items() if path.exists()}
    return _merge(ranks.gather(found))


def _check_shard(plan: StorePlan, number: int, path: Path) -> str:
    content = path.read_bytes()
    if not plan.is_sound(number, content):
        raise ArtifactError(
            f"{path}: is damaged, or of another extraction. Delete this file and run again: only "
            "its rows are embedded again"
        )
    return hashlib.sha256(content).hexdigest()


def _write_shards(
    folder: Path,
    plan: StorePlan,
    numbers: Sequence[int],
    ids: pd.Series[str],
    sequences: pd.Series[str],
    embedder: Embedder,
    meter: Meter,
) -> Digests:
    """Compute shards; each is written while the next is computed.

    One with a row that is not finite ends the extraction, and nothing of it is kept.
    """
    writes: dict[int, Future[str]] = {}
    with ThreadPoolExecutor(1) as writer:
        for number in numbers:
            rows = plan.rows(number)
            part = sequences.iloc[rows.start : rows.stop].tolist()
            meter.begin(part)
            vectors = embedder.embed(part, on_progress=meter.advance)
            meter.end()
            _require_finite(vectors, ids.iloc[rows.start : rows.stop], embedder)
            if writes:
                next(reversed(writes.values())).result()  # one waits in memory, not all
            path = plan.path(folder, number)
            writes[number] = writer.submit(_write_shard, plan, number, path, vectors)
    return {number: write.result() for number, write in writes.items()}


def _require_finite(
    vectors: npt.NDArray[np.float32], ids: pd.Series[str], embedder: Embedder
) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        named = ", ".join(ids.iloc[bad[:NAMED_RECORDS]])
        raise NotFiniteError(
            f"{embedder.name} in {embedder.dtype}: the vectors of "
            f"{len(bad):,} of {len(ids):,} records are not finite, such as those of {named}. "
            "The extraction stopped there"
        )


def _write_shard(plan: StorePlan, number: int, path: Path, vectors: npt.NDArray[np.float32]) -> str:
    if vectors.shape != plan.shape(number):
        raise ValueError(
            f"{plan.embedder}: expected vectors of shape {plan.shape(number)}, got {vectors.shape}"
        )
    content = plan.encode(number, narrow(vectors, plan.dtype))
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def _finish(folder: Path, plan: StorePlan, ids: pd.Series[str], digests: Digests) -> None:
    path = folder / INDEX
    pd.DataFrame({"id": ids}).to_parquet(path, index=False)
    Manifest(
        plan=plan,
        index_sha256=digest_file(path),
        shards_sha256=tuple(digests[number] for number in range(plan.n_shards)),
    ).write(folder)


def _merge(parts: Iterable[Digests]) -> Digests:
    return {number: digest for part in parts for number, digest in part.items()}
