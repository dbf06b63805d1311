"""Why the candidate is faster: the model, the precision, the batching. Reported, never gated.

A few rounds outside the timed ones. The binding comparison is ``harness.pipeline.stopwatch``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from harness.gate.speed.criterion import time_rounds
from harness.pipeline.batches import PaddingEmbedder

__all__ = ["Causes", "measure_causes"]

ROUNDS = 3
# Enough for a ratio of batchings, few enough to cost a fraction of one timed round.
BATCHING_SEQUENCES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Causes:
    """Rounds in seconds that tell the causes of a speed-up apart.

    Attributes
    ----------
    baseline_dtype, candidate_dtype : str
        What each side computes in where it is deployed.
    matched_seconds, candidate_seconds : tuple of float
        The binding rounds: both sides in the candidate's dtype.
    deployed_seconds : tuple of float
        The baseline in its own dtype; the matched rounds where the dtypes agree.
    n_batching_sequences : int
        What the two batchings of the deployed baseline were timed on.
    batched_seconds, padded_seconds : tuple of float
        Our batches; padded batches of 16 in the order of the file.
    """

    baseline_dtype: str
    candidate_dtype: str
    matched_seconds: tuple[float, ...]
    candidate_seconds: tuple[float, ...]
    deployed_seconds: tuple[float, ...]
    n_batching_sequences: int
    batched_seconds: tuple[float, ...]
    padded_seconds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the rounds and the factors; a factor of no finite, positive times is None.

        ``model * precision`` is the speed-up as deployed, and with ``batching`` that over a
        baseline run in padded batches.
        """
        return asdict(self) | {
            "as_deployed_ratio": self.as_deployed_ratio,
            "model": _quotient(self.matched_seconds, self.candidate_seconds),
            "precision": _quotient(self.deployed_seconds, self.matched_seconds),
            "batching": _quotient(self.padded_seconds, self.batched_seconds),
        }

    @property
    def as_deployed_ratio(self) -> float | None:
        """The candidate's mean time over the baseline's, each in its own dtype."""
        return _quotient(self.candidate_seconds, self.deployed_seconds)


def measure_causes(
    deployed: PaddingEmbedder,
    proteins: Sequence[str],
    *,
    candidate_dtype: str,
    matched_seconds: Sequence[float],
    candidate_seconds: Sequence[float],
    deployed_work: Callable[[], object],
    clock: Callable[[], float],
) -> Causes:
    """Time the baseline in its own dtype, if that is another, and in padded batches.

    Parameters
    ----------
    deployed : PaddingEmbedder
        The baseline in its own dtype.
    proteins : sequence of str
        What the timed rounds embed.
    candidate_dtype : str
        What the timed rounds compute in.
    matched_seconds, candidate_seconds : sequence of float
        The timed rounds.
    deployed_work : callable
        One round of the deployed baseline.
    clock : callable
        Returns seconds; synchronises the device first.
    """
    matched = tuple(matched_seconds)
    is_matched = deployed.dtype == candidate_dtype
    few = list(proteins)[:BATCHING_SEQUENCES]
    return Causes(
        baseline_dtype=deployed.dtype,
        candidate_dtype=candidate_dtype,
        matched_seconds=matched,
        candidate_seconds=tuple(candidate_seconds),
        deployed_seconds=matched if is_matched else _warm_rounds(deployed_work, clock),
        n_batching_sequences=len(few),
        batched_seconds=_warm_rounds(lambda: deployed.embed(few), clock),
        padded_seconds=_warm_rounds(lambda: deployed.embed_padded(few), clock),
    )


def _warm_rounds(work: Callable[[], object], clock: Callable[[], float]) -> tuple[float, ...]:
    work()
    return time_rounds(work, ROUNDS, clock=clock)


def _quotient(above: Sequence[float], below: Sequence[float]) -> float | None:
    are_times = all(math.isfinite(x) and x > 0 for x in (*above, *below))
    return fmean(above) / fmean(below) if are_times else None
