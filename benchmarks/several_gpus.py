"""How ``harness embed`` scales over the GPUs of one machine, and whether its stores stay the same.

    python -m benchmarks.several_gpus KIT OUT [--records 200000] [--side candidate]
        [--gpus 1 --gpus 2] [--rounds 1] [--json FILE]

KIT is what ``harness rehearse`` wrote; its models and settings are used. OUT, a new folder, takes
generated records, a log and a work directory for each run. Every run is the user's command in a
fresh process that sees so many GPUs, on the same record table and with no embeddings yet. With
``--rounds 2`` the second round goes backwards (1, 2, 2, 1), so that a drift shows. The kit's own
records are embedded before, uncounted: compiled kernels and files are then at hand for all runs
alike.

A kit whose device is the CPU is run as so many processes of torchrun: a smoke test, no measurement.
Exit code 0: the stores of all runs are equal, byte for byte; 1: they differ.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gate_run import Bench
from benchmarks.gpu_scaling import (
    EmbedRun,
    is_same_everywhere,
    order_runs,
    read_rate,
    render_markdown,
)
from benchmarks.test_set_scale import run_alone, write_input
from harness.config import load_config
from harness.embedding import EmbeddingStore
from harness.embedding.store import MANIFEST, Manifest

LOG_LINES_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all runs have in common.

    Attributes
    ----------
    side : str
        Whose model embeds.
    device : str
        ``cuda`` or ``cpu``.
    config : Path
        ``gate.toml`` of the generated records.
    prepared : Path
        A work directory that holds their record table.
    """

    side: str
    device: str
    config: Path
    prepared: Path


def main(arguments: Sequence[str]) -> int:
    """Generate, prepare, embed with each number of GPUs, compare."""
    options = _parse(arguments)
    device = load_config(options.kit / "gate.toml").device
    machine = _describe_machine(device, max(options.gpus))
    setting = _prepare(options, device)
    _warm_up(setting, options.kit / "gate.toml", options.out / "warm-up")
    runs = []
    for number, n_gpus in enumerate(order_runs(options.gpus, options.rounds), start=1):
        runs.append(_embed(setting, n_gpus, options.out / f"run-{number}"))
        _show(f"run {number}, on {n_gpus}: {runs[-1].rate.line}")
    title = f"{options.records:,} records, {setting.side}, {machine}"
    unit = "GPUs" if device == "cuda" else "processes"
    _show(f"\n{render_markdown(runs, title=title, unit=unit)}")
    is_same = is_same_everywhere(runs)
    if options.json is not None:
        found = {"title": title, "is_same": is_same, "runs": [asdict(run) for run in runs]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if is_same else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.several_gpus")
    parser.add_argument("kit", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--side", choices=("baseline", "candidate"), default="candidate")
    parser.add_argument("--gpus", type=int, action="append", help="once for each number of them")
    parser.add_argument("--rounds", type=int, default=1, help="every second one goes backwards")
    parser.add_argument("--json", type=Path, help="where all values go")
    options = parser.parse_args(arguments)
    options.gpus = options.gpus or [1, 2]
    if min(*options.gpus, options.records, options.rounds) < 1:
        parser.error("expected at least one GPU, record and round")
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"{options.out} is not empty; name a new folder, for stores that are new")
    options.kit, options.out = options.kit.resolve(), options.out.resolve()
    return options


def _describe_machine(device: str, n_needed: int) -> str:
    """Return what it is; end the program if it has too few GPUs."""
    software = f"torch {importlib.metadata.version('torch')}"
    if device == "cpu":
        return f"CPU, {os.cpu_count()} cores, {software}"
    if device != "cuda":
        raise SystemExit(f"expected a kit with device 'cuda' or 'cpu', got {device!r}")
    names = run_alone(_gpu_names)
    if len(names) < n_needed:
        raise SystemExit(f"{n_needed} GPUs are asked for, and this machine shows {len(names)}")
    return f"{' + '.join(dict.fromkeys(names))}, {len(names)} there, {software}"


def _gpu_names() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _prepare(options: argparse.Namespace, device: str) -> Setting:
    """Generate the records, and have ``harness prepare`` read them once for all runs."""
    data = options.out / "input"
    data.mkdir(parents=True)
    run_alone(write_input, options.records, data)
    prepared = options.out / "prepared"
    bench = Bench(kit=options.kit, work=prepared, scratch=options.out)
    config = bench.config((f'"{options.kit}/data/', f'"{data}/'))
    _show(f"prepare {options.records:,} records")
    _harness(1, device, ["prepare", *_places(config, prepared)], prepared)
    return Setting(side=options.side, device=device, config=config, prepared=prepared)


def _warm_up(setting: Setting, config: Path, work: Path) -> None:
    """Embed the kit's own records, which leaves compiled kernels behind."""
    _show("warm-up, on the kit's own records")
    _harness(1, setting.device, ["embed", *_choice(setting.side, config, work)], work)


def _embed(setting: Setting, n_gpus: int, work: Path) -> EmbedRun:
    """Embed all records with so many GPUs, into a store of its own."""
    shutil.copytree(
        setting.prepared, work, copy_function=os.link, ignore=shutil.ignore_patterns("*.lock")
    )
    started = time.perf_counter()
    command = ["embed", *_choice(setting.side, setting.config, work)]
    text = _harness(n_gpus, setting.device, command, work)
    command_seconds = time.perf_counter() - started
    rate = read_rate(text)
    if rate.n_processes != n_gpus:
        raise SystemExit(f"expected {n_gpus} processes with work for each, got: {rate.line}")
    store = next((work / "embeddings").glob(f"*/{MANIFEST}")).parent
    EmbeddingStore(store)  # raises unless every file is what the manifest says
    manifest = Manifest.read(store)
    return EmbedRun(
        n_gpus=n_gpus,
        rate=rate,
        command_seconds=command_seconds,
        rows_of_shards=tuple(len(manifest.plan.rows(n)) for n in range(manifest.plan.n_shards)),
        shards_sha256=manifest.shards_sha256,
    )


def _choice(side: str, config: Path, work: Path) -> list[str]:
    return [side, "--only", "protein", *_places(config, work)]


def _places(config: Path, work: Path) -> list[str]:
    return ["--gate-config", str(config), "--work-dir", str(work)]


def _harness(n_gpus: int, device: str, arguments: Sequence[str], work: Path) -> str:
    """Run a command of ``harness`` in a fresh process; return what it wrote, also kept as a log."""
    launcher = [sys.executable]
    if device == "cpu" and n_gpus > 1:  # on GPUs the command starts its processes itself
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        launcher += [*torchrun, "--nproc-per-node", str(n_gpus)]
    log = work.with_suffix(".log")
    with log.open("wb") as file:
        done = subprocess.run(
            [*launcher, "-m", "harness.cli", *arguments],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": _first_gpus(n_gpus)},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    text = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        last = "\n".join(text.splitlines()[-LOG_LINES_SHOWN:])
        raise SystemExit(f"harness {' '.join(arguments)} ended with {done.returncode}:\n{last}")
    return text


def _first_gpus(n_gpus: int) -> str:
    """Return the first of the GPUs that this process may use, as CUDA is told of them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible is not None else [str(index) for index in range(n_gpus)]
    return ",".join(names[:n_gpus])


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
