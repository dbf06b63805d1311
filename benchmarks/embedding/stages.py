"""Where the time of embedding goes: tokenising, copying, encoding and pooling."""

from __future__ import annotations

import time

import torch

from harness.embedding.devices import equal_length_batches, packed_batches, to_device
from harness.embedding.esm.alphabet import token_lengths, tokenise
from harness.embedding.esm.engine import Engine, EqualLengths, Packed

__all__ = ["measure_stages"]


@torch.no_grad()
def measure_stages(engine: Engine, proteins: list[str]) -> list[tuple[str, float]]:
    """Return name and seconds of each stage of one call, each waited for.

    In a call they overlap: the host prepares a batch while the device computes the one before.
    """
    device = engine.device
    seconds = dict.fromkeys(("tokenise", "copy", "encode", "pool"), 0.0)
    clock = _Clock(device)
    divide = packed_batches if engine.is_packed else equal_length_batches
    for rows in divide(token_lengths(proteins), engine.token_budget):
        clock.restart()
        tokenised = tokenise([proteins[row] for row in rows])
        seconds["tokenise"] += clock.restart()
        lengths = tokenised.lengths
        layout = Packed(lengths, device) if engine.is_packed else EqualLengths(len(lengths))
        tokens = to_device(tokenised.tokens, device)
        seconds["copy"] += clock.restart()
        hidden = engine.encoder(tokens, layout.attend)
        seconds["encode"] += clock.restart()
        layout.pool(hidden)
        seconds["pool"] += clock.restart()
    return list(seconds.items())


class _Clock:
    def __init__(self, device: torch.device) -> None:
        self._is_gpu = device.type == "cuda"
        self._started = 0.0

    def restart(self) -> float:
        """Return the seconds since the last call, the device's work included."""
        if self._is_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        elapsed, self._started = now - self._started, now
        return elapsed
