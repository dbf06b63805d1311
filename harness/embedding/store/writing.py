"""Extraction: embed records and write them shard by shard, alone or together with other ranks.

A shard appears whole or not at all. What an interrupted extraction left is checked and kept; the
rest is divided among the ranks that are there now. The first rank writes index and manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import digest_columns, digest_file, write_atomically
from harness.embedding.embedder import Embedder
from harness.embedding.ranks import Ranks
from harness.embedding.store.dtypes import DTYPES, narrow
from harness.embedding.store.layout import INDEX, Manifest, StorePlan, choose_rows_per_shard
from harness.embedding.store.throughput import Meter, Throughput, add_throughputs
from harness.errors import ArtifactError, DataError
from harness.progress import Progress

__all__ = ["write_store"]

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
    count_tokens: Callable[[int], int] | None = None,
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
    count_tokens : callable, optional
        From the letters of a sequence to its tokens, to be shown as a rate.

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
        meter = Meter(embedder, task, count_tokens=count_tokens, scale=scale)
        written = _write_shards(folder, plan, mine, texts, embedder, meter)
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
            leftover.unlink()
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
    sequences: pd.Series[str],
    embedder: Embedder,
    meter: Meter,
) -> Digests:
    """Compute shards; each is written while the next is computed."""
    writes: dict[int, Future[str]] = {}
    with ThreadPoolExecutor(1) as writer:
        for number in numbers:
            rows = plan.rows(number)
            part = sequences.iloc[rows.start : rows.stop].tolist()
            meter.begin(part)
            vectors = embedder.embed(part, on_progress=meter.advance)
            meter.end()
            if writes:
                next(reversed(writes.values())).result()  # one waits in memory, not all
            path = plan.path(folder, number)
            writes[number] = writer.submit(_write_shard, plan, number, path, vectors)
    return {number: write.result() for number, write in writes.items()}


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
