"""What a run will open and cost, before it starts: records, vectors, disk, memory, hours.

Reads what the run will read and embeds for a few seconds; leaves nothing behind. What this machine
is, and whether all that the settings name is there, the doctor finds out first.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from harness.config import GateConfig, load_config
from harness.data import read_records
from harness.data.inputs import list_files, require_files, size_megabytes
from harness.data.read import MAX_REJECT_SHARE
from harness.data.records import RecordSet
from harness.data.testset import read_test_ids
from harness.data.virnucpro import (
    NUCLEOTIDE_ENDING,
    PROTEIN_ENDINGS,
    read_embeddings,
    read_merged_folder,
)
from harness.embedding import Embedder
from harness.errors import DataError, MissingInput
from harness.pipeline.doctor import Check, State, check_gate, check_machine, found_out
from harness.pipeline.heads import memory_bytes
from harness.pipeline.samples import SIDES
from harness.pipeline.stages import Pipeline
from harness.pipeline.vectors import COLUMNS, count_processes

__all__ = ["examine"]

TRIAL_SECONDS = 5.0
TRIAL_SEQUENCES = 128  # at a time; a GPU's first call takes longest, and is not counted
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_SUMMARY = ("records", "rejected", "accessions", "passed over")
_GIGABYTE = 1e9
_MEGABYTE = 1e6


def examine(
    gate_config: Path, work_dir: Path, *, clock: Callable[[], float] = time.perf_counter
) -> list[Check]:
    """Return what was found out about this machine, a gate's settings, and the run to come.

    Parameters
    ----------
    gate_config : Path
        The settings.
    work_dir : Path
        Where the run will keep what it makes.
    clock : callable
        Seconds.
    """
    settings = check_gate(gate_config)
    checks = [*check_machine(), *settings]
    missing = {check.name for check in settings if check.state is State.MISSING}
    if missing & {"settings", "viral data", "nonviral data", "taxonomy"}:
        return checks  # what cannot be opened has been said
    config = load_config(gate_config)
    read: list[RecordSet] = []
    checks.append(found_out("records", lambda: _read(config, read)))
    if not read:
        return checks
    records = read[0].records
    checks += _check_coverage(config, records)
    if config.data.test_ids is not None:
        checks.append(found_out("test set", lambda: _find_test_set(config, records)))
    if not missing:
        checks += _estimate(config, records, work_dir, clock)
    return checks


def _read(config: GateConfig, read: list[RecordSet]) -> str:
    data = config.data
    found = read_records(
        data.viral, data.nonviral, taxonomy=data.taxonomy, max_reject_share=Fraction(1)
    )
    found.check_rejects(MAX_REJECT_SHARE)
    read.append(found)
    return "; ".join(line for line in found.summarise() if line.startswith(_SUMMARY))


def _check_coverage(config: GateConfig, records: pd.DataFrame) -> Iterator[Check]:
    """Yield how many records have a vector in each folder of those that are brought."""
    folders = {
        **{getattr(config, side).embeddings: PROTEIN_ENDINGS for side in SIDES},
        **{getattr(config, side).features: () for side in SIDES},
    }
    if not all(getattr(config, side).features for side in SIDES):
        folders[config.nucleotide.embeddings] = (NUCLEOTIDE_ENDING,)
    for folder, endings in folders.items():
        if folder is not None:
            look = partial(_cover, folder, endings, records, config.data.max_uncovered)
            yield found_out(f"vectors in {folder.name}", look)


def _cover(folder: Path, endings: tuple[str, ...], records: pd.DataFrame, limit: Fraction) -> str:
    if endings:
        ids = {
            name for path in require_files(folder, *endings) for name in read_embeddings(path).ids
        }
    else:
        ids = {name for file in read_merged_folder(folder) for name in file.ids}
    lacking = records["id"][~records["id"].isin(ids)]
    told = f"{len(lacking):,} of {len(records):,} records have no vector in {folder}"
    if len(lacking) > limit * len(records):
        raise MissingInput(
            f"{told}, such as {lacking.iloc[0]!r}; at most {float(limit):.2%} may lack one",
            remedy="Embed them, name a model instead, or raise `max_uncovered` in [data]",
        )
    return told


def _find_test_set(config: GateConfig, records: pd.DataFrame) -> str:
    features = config.baseline.features or config.candidate.features
    path = config.data.test_ids
    ids = read_test_ids(path, features=features) if path else records["id"][:0]
    if unknown := ids[~ids.isin(records["id"])].tolist():
        raise DataError(
            f"{len(unknown):,} of {len(ids):,} ids of {path} are no records, such as {unknown[0]!r}"
        )
    return f"{path}: {len(ids):,} of {len(records):,} records"


def _estimate(
    config: GateConfig, records: pd.DataFrame, work_dir: Path, clock: Callable[[], float]
) -> Iterator[Check]:
    """Yield what embedding will take, from a trial of each embedder that has to embed."""
    widths: dict[str, int] = {}
    seconds: dict[str, float] = {}

    def try_all() -> str:
        with TemporaryDirectory() as folder:
            for name, embedder in _embedders(config, Path(folder)):
                column = COLUMNS["nucleotide" if name == "nucleotide" else "protein"]
                rate = _try(embedder, records[column], clock)
                widths[name], seconds[name] = embedder.dim, len(records) / rate
        parts = [f"{name} {timedelta(seconds=round(s))}" for name, s in seconds.items()]
        devices = _count_devices(config)
        whole = timedelta(seconds=round(sum(seconds.values()) / devices))
        return f"about {whole} to embed on {devices} device(s) ({', '.join(parts)} on one)"

    yield found_out("time", try_all)
    if widths:
        yield found_out("disk", lambda: _find_room(config, len(records), widths, work_dir))
        yield Check(name="memory", state=State.OK, detail=_describe_memory(len(records), widths))


def _embedders(config: GateConfig, work_dir: Path) -> Iterator[tuple[str, Embedder]]:
    """Yield those whose vectors the run stores, one at a time."""
    vectors = Pipeline(config, work_dir).vectors
    for side in SIDES:
        settings = getattr(config, side)
        if vectors.has_model(side) and not (settings.features or settings.embeddings):
            yield side, vectors.embedder(side)
    are_needed = not all(getattr(config, side).features for side in SIDES)
    if are_needed and (embedder := vectors.nucleotide_embedder()) is not None:
        yield "nucleotide", embedder


def _try(embedder: Embedder, sequences: pd.Series[str], clock: Callable[[], float]) -> float:
    """Return how many sequences are embedded a second, from a few seconds' trial."""
    sample = sequences.sample(frac=1, random_state=0).tolist()
    embedder.embed(sample[:TRIAL_SEQUENCES])
    began, n_done = clock(), 0
    while n_done < len(sample) and clock() - began < TRIAL_SECONDS:
        embedder.embed(sample[n_done : n_done + TRIAL_SEQUENCES])
        n_done += len(sample[n_done : n_done + TRIAL_SEQUENCES])
    return n_done / max(clock() - began, 1e-9)


def _count_devices(config: GateConfig) -> int:
    import torch

    return count_processes(config.device, n_gpus=torch.cuda.device_count(), is_rank=False)


def _find_room(config: GateConfig, n_records: int, widths: dict[str, int], work_dir: Path) -> str:
    needed = n_records * sum(widths.values()) * _BYTES[config.store_dtype]
    place = next(p for p in (work_dir.resolve(), *work_dir.resolve().parents) if p.is_dir())
    stored = work_dir / "embeddings"
    held = sum(map(size_megabytes, list_files(stored))) * _MEGABYTE if stored.is_dir() else 0
    free = shutil.disk_usage(place).free
    told = (
        f"{needed / _GIGABYTE:,.1f} GB of embeddings, of which {held / _GIGABYTE:,.1f} GB may be "
        f"there; {free / _GIGABYTE:,.1f} GB are free at {place}"
    )
    if needed - held > free:
        raise MissingInput(told, remedy="Free some space, or name another --work-dir")
    return told


def _describe_memory(n_records: int, widths: dict[str, int]) -> str:
    features = n_records * (sum(widths.values()) - min(widths.values(), default=0)) * 4
    return (
        f"{features / _GIGABYTE:,.1f} GB of features at most for a head, "
        f"{memory_bytes() / _GIGABYTE:,.1f} GB of memory; what does not fit is read from the disk"
    )
