"""Whether the gate refuses on the device that it will run on: faults planted, one run for each.

    python -m benchmarks.device_refusals KIT WORK [FAULT ...]

KIT is what ``harness rehearse`` wrote, WORK the work directory of a finished run on it, whose
artifacts are used again. A fault is a file, a setting or a neighbour on the device; the gate is run
as a user would run it, on the tests that concern the fault. Exit code 0: each run came out as
expected.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.gate_run import BASELINE, CANDIDATE, Bench, Run, run_gate
from benchmarks.test_set_scale import run_alone

LOST_TENSOR = "esm.encoder.layer.0.intermediate.dense.weight"
MEMORY_MESSAGE = "ran out of memory"
TIMING = "time_the or half_the_time"  # the timing rounds, and the criterion that reads them
# One layer of ESM2 3B's width: a batch of 32,768 tokens takes 1.0 GB in it, its weights 0.2 GB. The
# weights of both sides fit into what is allowed, a whole batch fits for neither.
FLAT = "random_weights = { layers = 1, hidden_size = 2560, heads = 40, intermediate_size = 10240 }"
GPU_BYTES = 1_000_000_000
NEIGHBOUR = """
import torch
busy = torch.ones(4096, 4096, device="cuda")
print("busy", flush=True)
while True:
    for _ in range(100):
        busy @ busy
    torch.cuda.synchronize()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, and what the gate must make of it.

    Attributes
    ----------
    what : str
        What is wrong.
    criterion, state : str
        Which criterion must come out how.
    tests : str
        A pytest ``-k`` expression: the tests that are run.
    plant : callable
        Plants the fault, and runs the gate on it.
    says : str
        What the run must also say.
    needs_gpu : bool
        Whether it can be planted on a GPU alone.
    """

    what: str
    criterion: str
    state: str
    tests: str
    plant: Callable[[Bench, str], Run]
    says: str = ""
    needs_gpu: bool = False

    def is_met(self, run: Run) -> bool:
        """Whether a run came out as it must; every run of some tests alone halts."""
        is_halted = run.exit_code == 1 and run.verdict["verdict"] == "HALT"
        return (
            is_halted and run.row(self.criterion)["state"] == self.state and self.says in run.text
        )


def main(arguments: Sequence[str]) -> int:
    """Plant the faults that are named, or all that the device allows, and show what came of it."""
    options = _parse(arguments)
    has_gpu = run_alone(_has_gpu)
    table = Table("fault", "criterion", "expected", "found", "exit code", "seconds", "")
    n_missed = 0
    with tempfile.TemporaryDirectory(prefix="device-refusals-") as scratch:
        for name in options.faults or [n for n, f in FAULTS.items() if has_gpu or not f.needs_gpu]:
            fault, folder = FAULTS[name], Path(scratch) / name
            folder.mkdir()
            bench = Bench(
                kit=options.kit.resolve(),
                work=options.work.resolve(),
                scratch=folder,
            )
            run = fault.plant(bench, fault.tests)
            n_missed += not fault.is_met(run)
            _show(fault, run, table)
    Console(width=140).print(table)
    return 1 if n_missed else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_refusals")
    parser.add_argument("kit", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    options = parser.parse_args(arguments)
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(FAULTS)}")
    return options


def _show(fault: Fault, run: Run, table: Table) -> None:
    row = run.row(fault.criterion)
    table.add_row(
        fault.what,
        fault.criterion,
        fault.state + (f", says {fault.says!r}" if fault.says else ""),
        row["state"],
        str(run.exit_code),
        f"{run.elapsed_seconds:.0f}",
        "as expected" if fault.is_met(run) else "NOT AS EXPECTED",
    )
    sys.stdout.write(f"{fault.what}\n  {row['state']}: {row['detail']}\n")
    if not fault.is_met(run):
        sys.stdout.write("\n".join(run.text.splitlines()[-60:]) + "\n")
    sys.stdout.flush()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _slow(bench: Bench, tests: str) -> Run:
    """Let the baseline's model stand for the candidate."""
    config = bench.config((f'"{bench.kit / CANDIDATE}"', f'"{bench.kit / BASELINE}"'))
    return run_gate(bench, config, tests)


def _shuffled(bench: Bench, tests: str) -> Run:
    """Let the candidate bring its own features, each row under another record's id."""
    folder = bench.scratch / "features"
    run_alone(_write_shuffled, bench.config(), bench.work, folder)
    model = f'model = "{bench.kit / CANDIDATE}"'
    return run_gate(bench, bench.config((model, f'{model}\nfeatures = "{folder}"')), tests)


def _write_shuffled(config: Path, work: Path, folder: Path) -> None:
    """Write merged files of shuffled rows, in a process that lets go of the device when it ends."""
    from harness.config import load_config
    from harness.data.virnucpro import write_merged
    from harness.pipeline import Pipeline

    pipeline = Pipeline(load_config(config), work)
    records = pipeline.samples.records()
    features = pipeline.vectors.features("candidate", records["id"])
    shuffled = np.random.default_rng(0).permutation(features)
    for label, name in ((1, "viral"), (0, "nonviral")):
        is_class = (records["label"] == label).to_numpy()
        ids = records.loc[is_class, "id"].tolist()
        path = folder / f"{name}_merged" / "output_1_merged.pt"
        path.parent.mkdir(parents=True)
        write_merged(path, ids, shuffled[is_class], label=label)


def _incomplete(bench: Bench, tests: str) -> Run:
    """Let the candidate's checkpoint lack one tensor."""
    from safetensors.numpy import load_file, save_file

    folder = bench.scratch / "incomplete"
    shutil.copytree(bench.kit / CANDIDATE, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = load_file(bench.kit / CANDIDATE / "model.safetensors")
    del weights[LOST_TENSOR]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = bench.config((f'"{bench.kit / CANDIDATE}"', f'"{folder}"'))
    return run_gate(bench, config, tests)


def _crowded(bench: Bench, tests: str) -> Run:
    """Let another process compute on the GPU meanwhile."""
    with _neighbour():
        return run_gate(bench, bench.config(), tests)


@contextmanager
def _neighbour() -> Iterator[None]:
    """Keep the GPU busy from another process, which is ended at the end."""
    with subprocess.Popen([sys.executable, "-c", NEIGHBOUR], stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise SystemExit("the neighbour could not use the GPU")
            yield
        finally:
            process.kill()


def _cramped(bench: Bench, tests: str) -> Run:
    """Let a batch of both sides not fit into the GPU's memory, whatever process embeds it."""
    changes = [(f'model = "{bench.kit / name}"', FLAT) for name in (BASELINE, CANDIDATE)]
    share = GPU_BYTES / run_alone(_gpu_bytes)
    limit = f"per_process_memory_fraction:{share:.6f}"
    fresh = bench.scratch / "work"
    config = bench.config(*changes)
    return run_gate(bench, config, tests, work=fresh, PYTORCH_CUDA_ALLOC_CONF=limit)


def _gpu_bytes() -> int:
    import torch

    return torch.cuda.get_device_properties(0).total_memory


FAULTS = {
    "slow": Fault(
        what="the baseline's model as the candidate",
        criterion="embedding-time",
        state="FAIL",
        tests=TIMING,
        plant=_slow,
    ),
    "shuffled": Fault(
        what="the candidate's rows shuffled",
        criterion="accuracy-drop",
        state="FAIL",
        tests="points_of_accuracy",
        plant=_shuffled,
    ),
    "incomplete": Fault(
        what="a checkpoint that lacks a tensor",
        criterion="embedding-integrity",
        state="ERROR",
        tests="embeddings_are_whole",
        plant=_incomplete,
        says=LOST_TENSOR.removeprefix("esm."),
    ),
    "crowded": Fault(
        what="another process on the GPU",
        criterion="embedding-time",
        state="INCONCLUSIVE",
        tests=TIMING,
        plant=_crowded,
        needs_gpu=True,
    ),
    "memory": Fault(
        what="memory that runs out",
        criterion="embedding-integrity",
        state="PASS",
        tests="embeddings_are_whole",
        plant=_cramped,
        says=MEMORY_MESSAGE,
        needs_gpu=True,
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
