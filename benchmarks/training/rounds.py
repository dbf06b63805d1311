"""Rounds of what is compared: timed in turns, shown as a table, kept as JSON."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.training.contenders import Steps

__all__ = ["Contender", "describe_rounds", "show", "show_rounds", "steps_of", "take_turns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something to be timed.

    Attributes
    ----------
    work : callable
        Does one round's work and returns how many units of it were done (steps, or passes).
    """

    name: str
    work: Callable[[], int]


def steps_of(name: str, loop: Steps, *, n_steps: int) -> Contender:
    """Return a contender whose rounds take at least so many steps of a loop."""

    def take() -> int:
        n_taken = 0
        while n_taken < n_steps:
            n_taken += next(loop)
        return n_taken

    return Contender(name=name, work=take)


def take_turns(
    contenders: list[Contender], device: torch.device, *, n_rounds: int
) -> dict[str, list[float]]:
    """Return each contender's seconds per unit of all rounds, after one that is not counted.

    Taking turns, so that a busy machine slows all of them.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(n_rounds + 1):
        for contender in contenders:
            started = time.perf_counter()
            n_units = contender.work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[contender.name].append((time.perf_counter() - started) / n_units)
    return {name: rounds[1:] for name, rounds in seconds.items()}


def describe_rounds(seconds: Mapping[str, list[float]], *, against: str) -> dict[str, Any]:
    """Return all rounds, their medians, and the ratios of these to one of them, as JSON values."""
    reference = statistics.median(seconds[against])
    return {
        name: {
            "seconds": rounds,
            "median_seconds": statistics.median(rounds),
            "times_as_fast": reference / statistics.median(rounds),
        }
        for name, rounds in seconds.items()
    }


def show_rounds(seconds: Mapping[str, list[float]], *, against: str, unit: str) -> None:
    """Print a line for each contender: median, speed against the reference, all rounds."""
    scale = 1e6 if unit.startswith("us") else 1
    show(f"  {'':24s} {'median':>9s} {'speed':>7s}   rounds, {unit}")
    for name, facts in describe_rounds(seconds, against=against).items():
        rounds = " ".join(f"{scale * value:.4g}" for value in facts["seconds"])
        median, ratio = scale * facts["median_seconds"], facts["times_as_fast"]
        show(f"  {name:24s} {median:9.4g} {ratio:6.2f}x   {rounds}")


def show(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
