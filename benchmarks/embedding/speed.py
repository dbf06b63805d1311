"""How fast the engine embeds, beside transformers, in one run: strings in, pooled vectors out.

    python -m benchmarks.embedding.speed --device cuda --model 650M --model 3B
    python -m benchmarks.embedding.speed --device cpu --model 8M --workload mix

Contenders take turns, so that a busy machine slows all of them. Weights are random, of the real
shapes. All rounds are printed, and the ratio of each median to the engine's; the share of the peak
is that of an 8192 x 8192 x 8192 product in the same dtype, measured in the same run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from benchmarks.embedding.contenders import embed_in_file_order, embed_sorted
from benchmarks.embedding.kernels import measure_kernels
from benchmarks.embedding.stages import measure_stages
from benchmarks.embedding.workloads import (
    SHAPES,
    build_engine,
    build_reference,
    draw_proteins,
)
from harness.embedding.devices import measure_product_rate
from harness.embedding.esm.embedder import encoder_flop
from harness.embedding.esm.engine import Engine

MAX_WARM_UPS = 5
STEADY = 0.03
SLOW = "transformers, float32, 16 in file order (a tenth)"

Work = Callable[[], Any]


def main(
    device: str = "cuda",
    model: Annotated[list[str] | None, typer.Option(help="Shapes, such as 650M.")] = None,
    workload: Annotated[list[str] | None, typer.Option(help="vnp500, mix, uniref.")] = None,
    sequences: Annotated[int, typer.Option(help="Proteins in a round.")] = 2000,
    rounds: int = 3,
    dtype: Annotated[str, typer.Option(help="Of the engine.")] = "bfloat16",
    budget: Annotated[list[int] | None, typer.Option(help="Tokens in a batch.")] = None,
    with_slow: Annotated[bool, typer.Option(help="Also float32 in file order.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="All raw values.")] = None,
) -> None:
    """Compare the engine with transformers for each model and workload."""
    results: list[dict[str, Any]] = []
    if torch.device(device).index is not None:
        torch.cuda.set_device(device)
    for shape in model or ["650M"]:
        rate = measure_product_rate(device, dtype)
        peak = f"; product rate {rate:.3g} FLOP/s in {dtype}" if rate else ""
        say(f"# {shape} on {describe(device)}{peak}")
        contest = Contest(shape, device=device, dtype=dtype, budgets=budget or [0])
        for name in workload or ["vnp500"]:
            proteins = draw_proteins(name, sequences)
            # The works hold models, so they are given no name that would outlive the contest.
            seconds = take_turns(
                contest.works(proteins, with_slow=with_slow),
                rounds,
                device,
            )
            measured = report(shape, name, proteins, seconds, rate)
            results.append(measured | report_parts(contest.engine, proteins))
        contest.close()
    if json_path is not None:
        json_path.write_text(json.dumps({"device": describe(device), "results": results}, indent=1))


class Contest:
    """The engine and what it is compared with, on the same weights."""

    def __init__(self, shape: str, *, device: str, dtype: str, budgets: list[int]) -> None:
        self._shape = shape
        self._device = device
        self._dtype = dtype
        plain = "float32" if dtype == "float32" else "float16"
        weights = build_reference(shape, dtype=dtype, device=device)
        self.engines = {
            budget: build_engine(
                shape, weights, dtype=dtype, device=device, token_budget=budget or None
            )
            for budget in budgets
        }
        self.engine = self.engines[budgets[0]]
        self._reference = weights.to(getattr(torch, plain))
        self._plain = plain

    def works(self, proteins: list[str], *, with_slow: bool) -> dict[str, Work]:
        """Return what each contender runs in a round; the engine is the first."""
        works: dict[str, Work] = {
            f"engine, {self._dtype}, {engine.token_budget} tokens": partial(engine.embed, proteins)
            for engine in self.engines.values()
        }
        plain, padded = self._plain, (self._reference, proteins)
        works[f"transformers, {plain}, 16 in file order"] = partial(embed_in_file_order, *padded)
        works[f"transformers, {plain}, 128 sorted"] = partial(embed_sorted, *padded)
        if with_slow:
            exact = build_reference(self._shape, dtype="float32", device=self._device)
            few = proteins[: len(proteins) // 10]
            works[SLOW] = partial(embed_in_file_order, exact, few)
        return works

    def close(self) -> None:
        """Free the device's memory for the next shape."""
        del self._reference, self.engine, self.engines
        if torch.device(self._device).type == "cuda":
            torch.cuda.empty_cache()


def take_turns(works: dict[str, Work], rounds: int, device: str) -> dict[str, list[float]]:
    """Warm every contender up, then time rounds in which each has its turn."""
    for work in works.values():
        seconds = [timed(work, device), timed(work, device)]
        while len(seconds) < MAX_WARM_UPS and abs(seconds[-1] / seconds[-2] - 1) > STEADY:
            seconds.append(timed(work, device))
    measured: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            measured[name].append(timed(work, device))
    return measured


def timed(work: Work, device: str) -> float:
    """Return the seconds of one call, the device's work included."""
    is_gpu = torch.device(device).type == "cuda"
    if is_gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if is_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def report(
    shape: str,
    workload: str,
    proteins: list[str],
    seconds: dict[str, list[float]],
    rate: float | None,
) -> dict[str, Any]:
    """Print a table and return what it says."""
    say(f"{shape}, {workload}, {len(proteins)} proteins")
    rows: list[dict[str, Any]] = []
    for name, measured in seconds.items():
        few = proteins[: len(proteins) // 10] if name == SLOW else proteins
        row = describe_row(shape, name, few, measured, rate)
        first = rows[0] if rows else row
        row["engine_is_faster_by"] = first["sequences_per_second"] / row["sequences_per_second"]
        rows.append(row)
        share = f"{row['share_of_peak']:6.1%} of peak" if rate else ""
        say(
            f"  {name:52s} {row['sequences_per_second']:9.1f} /s {row['tflops']:8.2f} TFLOP/s"
            f" {share}; ratio {row['engine_is_faster_by']:5.2f}; {[round(x, 4) for x in measured]}"
        )
    return {"model": shape, "workload": workload, "rows": rows, "product_rate": rate}


def describe_row(
    shape: str, name: str, proteins: list[str], measured: list[float], rate: float | None
) -> dict[str, Any]:
    """Return rates of one contender, from its median round."""
    layers, width, _, wide = SHAPES[shape]
    config = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": wide}
    flops = encoder_flop(config, [len(protein) for protein in proteins]) / median(measured)
    return {
        "contender": name,
        "seconds": measured,
        "sequences_per_second": len(proteins) / median(measured),
        "tflops": flops / 1e12,
        "share_of_peak": flops / rate if rate else None,
    }


def describe(device: str) -> str:
    """Return the device's name and torch's version."""
    is_gpu = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name() if is_gpu else f"{torch.get_num_threads()} CPU threads"
    return f"{name}, torch {torch.__version__}"


def report_parts(engine: Engine, proteins: list[str]) -> dict[str, Any]:
    """Print where the time of one call goes, and return what it says."""
    stages = dict(measure_stages(engine, proteins))
    say("  stages of one call, seconds: " + ", ".join(f"{k} {v:.4f}" for k, v in stages.items()))
    if engine.device.type != "cuda":
        return {"stages_seconds": stages}
    kernels = measure_kernels(engine, proteins)
    say("  the GPU's time in one call:")
    for kind, seconds in kernels.items():
        say(f"    {kind:30s} {seconds:.4f} s {seconds / sum(kernels.values()):6.1%}")
    return {"stages_seconds": stages, "kernels_seconds": kernels}


def say(line: str) -> None:
    """Print a line at once."""
    typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
