"""What each stage of a run costs at VirNucPro's size, measured and projected.

    python -m benchmarks.scaling KIT OUT [--records 200000] [--embed-baseline 20000]
        [--embed-candidate 200000] [--epochs 5] [--days 7] [--price-per-gpu-hour 3]

KIT is what ``harness rehearse`` wrote; its models and settings are used. OUT takes the generated
records, the work directory, ``scaling.json`` (the raw values) and ``scaling.md`` (the tables of
docs/scaling.md). Embedding may be measured on a part of the records: the rows beyond it are copies
of measured ones, so that the stages behind see stores of the full size, and their time is projected
in proportion. What is measured and what is projected stands in columns of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from benchmarks.projection import Machine, StageCost, render_markdown
from benchmarks.test_set_scale import run_alone, write_input
from harness.config import GateConfig, ModelConfig, load_config
from harness.criteria import CRITERIA
from harness.embedding import Embedder, load_embedder
from harness.pipeline import Judge, Pipeline, Side, compute_threads
from harness.pipeline.cache import StageLog
from harness.pipeline.vectors import Arm

if TYPE_CHECKING:
    from harness.embedding.esm.embedder import EsmEmbedder

WARM_UP_SEQUENCES = 1000
PEAK_RESET = "5"  # what Linux takes in clear_refs to forget the peak so far


class Ledger:
    """Runs stages and keeps what each cost.

    Parameters
    ----------
    folder : Path
        What grows there is a stage's disk.
    log : StageLog
        The pipeline's own, which watches the GPU's memory.
    """

    def __init__(self, folder: Path, log: StageLog) -> None:
        self.costs: list[StageCost] = []
        self._folder = folder
        self._log = log

    @contextmanager
    def stage(self, name: str, n_rows: int) -> Iterator[None]:
        """Measure one stage: wall clock, memory of host and GPU, disk."""
        _forget_peak()
        disk_bytes, started = _disk_bytes(self._folder), time.perf_counter()
        with self._log.stage(name) as entry:
            yield
            _wait_for_device()
        cost = StageCost(
            name=name,
            n_rows=n_rows,
            elapsed_seconds=time.perf_counter() - started,
            memory_bytes=_peak_bytes(),
            gpu_memory_bytes=entry.gpu_memory_bytes or 0,
            disk_bytes=_disk_bytes(self._folder) - disk_bytes,
        )
        self.costs.append(cost)
        sys.stdout.write(f"{name}: {cost.elapsed_seconds:.1f} s\n")
        sys.stdout.flush()


class Sampled:
    """An embedder that computes the first sequences it is given, and repeats their vectors.

    Parameters
    ----------
    embedder : Embedder
        Computes.
    n_measured : int
        How many sequences.
    """

    def __init__(self, embedder: Embedder, n_measured: int) -> None:
        self.name, self.dim = embedder.name, embedder.dim
        self.digest = f"{embedder.digest} of {n_measured}"
        self.dtype, self.facts = embedder.dtype, embedder.facts
        self.embedded_seconds = 0.0
        self.n_embedded = 0
        self._embedder, self._n_measured = embedder, n_measured
        self._latest = np.empty((0, embedder.dim), dtype=np.float32)

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return vectors: as many as are still to be measured, then copies of these."""
        n_left = min(len(sequences), self._n_measured - self.n_embedded)
        if n_left > 0:
            started = time.perf_counter()
            self._latest = self._embedder.embed(sequences[:n_left], token_budget, on_progress)
            self.embedded_seconds += time.perf_counter() - started
            self.n_embedded += n_left
        return self._latest[np.arange(len(sequences)) % len(self._latest)]


def main(arguments: Sequence[str]) -> None:
    """Generate, measure, project, write."""
    options = _parse(arguments)
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one GPU; several are projected
    data = options.out / "input"
    data.mkdir(parents=True)
    run_alone(write_input, options.records, data)
    config = _config(options, data)
    with compute_threads(config.threads):
        costs = _measure(config, options)
    machine = Machine(
        name=_device_name(config.device),
        days=options.days,
        price_per_gpu_hour=options.price_per_gpu_hour,
    )
    raw = {"machine": asdict(machine), "stages": [asdict(cost) for cost in costs]}
    (options.out / "scaling.json").write_text(json.dumps(raw, indent=1), encoding="utf-8")
    text = render_markdown(costs, machine, n_records=options.records)
    (options.out / "scaling.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("kit", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--embed-baseline", type=int, default=20_000)
    parser.add_argument("--embed-candidate", type=int, default=200_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--price-per-gpu-hour", type=float, default=3.0)
    return parser.parse_args(arguments)


def _config(options: argparse.Namespace, data: Path) -> GateConfig:
    config = load_config(options.kit / "gate.toml")
    generated = replace(
        config.data,
        viral=(data / "viral",),
        nonviral=(data / "nonviral",),
        taxonomy=data / "taxonomy.tsv",
    )
    training = replace(config.training, epochs=options.epochs, patience=options.epochs)
    return replace(config, data=generated, training=training)


def _measure(config: GateConfig, options: argparse.Namespace) -> list[StageCost]:
    work, n_rows = options.out / "work", options.records
    pipeline = Pipeline(config, work)
    ledger = Ledger(work, pipeline.cache.log)
    with ledger.stage("prepare", n_rows):
        pipeline.samples.records()
    with ledger.stage("split", n_rows):
        pipeline.samples.split()
    with ledger.stage("embed nucleotide", n_rows):
        pipeline.vectors.nucleotides()
    sizes: dict[Side, int] = {
        "baseline": options.embed_baseline,
        "candidate": options.embed_candidate,
    }
    for side, n_measured in sizes.items():
        _embed(pipeline, ledger, side, min(n_measured, n_rows))
    arms: tuple[Arm, ...] = ("baseline", "candidate", "placebo")
    for arm in arms:
        with ledger.stage(f"train {arm}", n_rows):
            history = pipeline.heads.training(arm)["history"]
            seconds = [epoch["elapsed_seconds"] for epoch in history]
        ledger.costs[-1] = replace(
            ledger.costs[-1],
            n_epochs=len(seconds),
            epochs_seconds=median(seconds) * len(seconds),  # the first one compiles
        )
    with ledger.stage("judge", n_rows):
        judge = Judge(pipeline)
        for criterion in CRITERIA:
            if criterion.id != "embedding-time":
                judge(criterion.id)
    return ledger.costs


def _embed(pipeline: Pipeline, ledger: Ledger, side: Side, n_measured: int) -> None:
    proteins = pipeline.samples.records()["protein"]
    settings: ModelConfig = getattr(pipeline.config, side)
    with ledger.stage(f"load {side}", 0):
        loaded = load_embedder(
            str(settings.model), dtype=settings.dtype, device=pipeline.config.device
        )
        loaded.embed(proteins[:WARM_UP_SEQUENCES].tolist())
    sampled = Sampled(loaded, n_measured)
    pipeline.vectors.embedder.take(cast("EsmEmbedder", sampled), side)
    with ledger.stage(f"embed {side}", len(proteins)):
        pipeline.vectors.embeddings(side)
    ledger.costs[-1] = replace(
        ledger.costs[-1],
        dim=sampled.dim,
        n_embedded=sampled.n_embedded,
        embedded_seconds=sampled.embedded_seconds,
    )


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text(PEAK_RESET, encoding="ascii")


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _wait_for_device() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device != "cpu" else f"CPU, {os.cpu_count()} cores"


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main(sys.argv[1:])
