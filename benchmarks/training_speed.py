"""How fast heads are trained and evaluated, each beside what it is measured against.

    python -m benchmarks.training_speed steps --width 2048 576
    python -m benchmarks.training_speed evaluation --rows 210000
    python -m benchmarks.training_speed streamed --gigabytes 20
    python -m benchmarks.training_speed all --device cuda --json training.json

``agreement``, ``streaming``, ``resuming`` and ``not-finite`` check what must hold at any speed.
``all`` runs these, ``steps`` and ``evaluation`` one after the other, whatever fails, and ends with
1 if anything did. Every round is printed. Features are random: the cost of a step does not depend
on their values. What goes to disk goes to a temporary folder (TMPDIR).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.checks import CHECKS
from benchmarks.training.contenders import (
    RECIPE,
    ROWS_PER_FILE,
    our_loop,
    plain_loop,
    products,
    virnucpro_loop,
)
from benchmarks.training.rounds import (
    Contender,
    describe_rounds,
    show,
    show_rounds,
    steps_of,
    take_turns,
)
from harness.training.features import BLOCK_ROWS, LabelledRows
from harness.training.head import Head

VIRNUCPRO = "VirNucPro's loop"
PLAIN_STEPS = 200  # in a round
CAPTURED_STEPS = 6_400
FILES = 4  # enough rows that no epoch of the slow loop ends while it is timed
ROWS_ON_GPU = 200_000


def main(arguments: list[str]) -> int:
    """Run what is named on the command line; return the exit status."""
    options = _parse(arguments)
    names = [*CHECKS, "steps", "evaluation"] if options.name == "all" else [options.name]
    works: dict[str, Callable[[], Any]] = {
        "steps": lambda: [compare_steps(width, options) for width in options.width],
        "evaluation": lambda: compare_evaluation(options),
        "streamed": lambda: measure_stream(options),
    }
    show(_describe_machine(options.device))
    found: dict[str, Any] = {"machine": _describe_machine(options.device)}
    failed = []
    for name in names:
        started = time.perf_counter()
        try:
            found[name] = works[name]() if name in works else CHECKS[name](options.device)
        except Exception:  # noqa: BLE001 - the rest is measured whatever fails
            traceback.print_exc()
            failed.append(name)
            found[name] = "FAILED"
        verdict = found[name] if name in CHECKS else "done"
        show(f"{name}: {verdict} ({time.perf_counter() - started:.1f} s)")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    show(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return 1 if failed else 0


def compare_steps(width: int, options: argparse.Namespace) -> dict[str, Any]:
    """Compare training steps of 32 rows: VirNucPro's loop, a plain one on the device, ours."""
    device: torch.device = options.device
    n_rows = ROWS_ON_GPU if device.type == "cuda" else FILES * ROWS_PER_FILE
    data, labels = _random_rows(n_rows, width)
    show(f"{n_rows:,} rows of {width} features, batches of {RECIPE.batch_size}")
    with tempfile.TemporaryDirectory() as folder:
        slow = {
            VIRNUCPRO: virnucpro_loop(
                data[: FILES * ROWS_PER_FILE], Path(folder), device, n_workers=options.workers
            ),
            "plain, resident": plain_loop(data, labels, device),
        }
        contenders = [steps_of(name, loop, n_steps=PLAIN_STEPS) for name, loop in slow.items()]
        contenders += _our_contenders(LabelledRows(features=data, labels=labels), device)
        seconds = take_turns(contenders, device, n_rounds=options.rounds)
        slow[VIRNUCPRO].close()  # its workers read the folder's files
    show_rounds(seconds, against=VIRNUCPRO, unit="us a step")
    return {"width": width, "rounds": describe_rounds(seconds, against=VIRNUCPRO)}


def compare_evaluation(options: argparse.Namespace, width: int = 2048) -> dict[str, Any]:
    """Compare predictions for many rows with their two matrix products alone."""
    device: torch.device = options.device
    show(f"evaluation of {options.rows:,} rows of {width} features")
    data = _random_rows(options.rows, width)[0].to(device)
    head = Head(width).to(device)
    hidden, output = head.hidden_layer.weight.detach(), head.output_layer.weight.detach()

    def multiply() -> int:
        for block in torch.split(data, BLOCK_ROWS):
            torch.mm(torch.mm(block, hidden.t()), output.t())
        return 1

    def predict() -> int:
        head.predict(data)
        return 1

    alone = "two products alone"
    contenders = [Contender(name="predict", work=predict), Contender(name=alone, work=multiply)]
    seconds = take_turns(contenders, device, n_rounds=options.rounds)
    show_rounds(seconds, against=alone, unit="s")
    return describe_rounds(seconds, against=alone)


def measure_stream(options: argparse.Namespace, width: int = 2048) -> dict[str, Any]:
    """Train on features that stay on disk, and show the memory that this takes."""
    from benchmarks.training.stream import peak_memory_gibibytes, write_stream
    from harness.embedding.store import EmbeddingStore
    from harness.training.features import StoredRows

    device: torch.device = options.device
    with tempfile.TemporaryDirectory() as folder:
        ids = write_stream(Path(folder), options.gigabytes, width)
        rows = StoredRows([EmbeddingStore(Path(folder), check_digests=False)], ids)
        show(f"{len(ids):,} rows on disk; peak memory {peak_memory_gibibytes():.2f} GiB so far")
        labels = torch.arange(len(ids)) % 2
        stream = our_loop(LabelledRows(features=rows, labels=labels), device)
        some = LabelledRows(features=rows.read(torch.arange(10_000)), labels=labels[:10_000])
        contenders = [
            steps_of("from disk", stream, n_steps=PLAIN_STEPS),
            steps_of("resident", our_loop(some, device), n_steps=PLAIN_STEPS),
        ]
        seconds = take_turns(contenders, device, n_rounds=options.rounds)
        stream.close()
    show_rounds(seconds, against="resident", unit="us a step")
    peak = peak_memory_gibibytes()
    show(f"  peak memory {peak:.2f} GiB")
    return {
        "gigabytes": options.gigabytes,
        "peak_memory_gibibytes": peak,
        "rounds": describe_rounds(seconds, against="resident"),
    }


def _our_contenders(rows: LabelledRows, device: torch.device) -> list[Contender]:
    if device.type != "cuda":
        return [
            steps_of("ours", our_loop(rows, device), n_steps=PLAIN_STEPS),
            steps_of("its two products alone", products(rows.n_features, device), n_steps=200),
        ]
    loops = {
        "ours, float32": our_loop(rows, device),
        "ours, float32, streamed": our_loop(rows, device, is_streamed=True),
    }
    return [steps_of(name, loop, n_steps=CAPTURED_STEPS) for name, loop in loops.items()]


def _random_rows(n_rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n_rows, width), torch.arange(n_rows) % 2


def _describe_machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=[*CHECKS, "steps", "evaluation", "streamed", "all"])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--width", type=int, nargs="+", default=[2048], help="features (steps)")
    parser.add_argument("--workers", type=int, default=4, help="of VirNucPro's loader (steps)")
    parser.add_argument("--rounds", type=int, default=5, help="that are counted")
    parser.add_argument("--rows", type=int, default=210_000, help="(evaluation)")
    parser.add_argument("--gigabytes", type=float, default=20, help="on disk (streamed)")
    parser.add_argument("--json", type=Path, help="where all values go")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
