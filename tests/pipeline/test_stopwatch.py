"""The stopwatch: what is timed, how often, and that it is what was validated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from harness.errors import ArtifactError
from harness.gate.result import State
from harness.pipeline.stopwatch import Stopwatch

PROTEINS = ["ACD", "EF"]


class Clock:
    """Time stands still but for the seconds that the work says it takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self.now


class Timed:
    """Embeds at once, and takes the seconds it was given, run by run."""

    name, dim, digest = "timed", 2, "0"

    def __init__(self, clock: Clock, seconds: Iterable[float]) -> None:
        self.clock = clock
        self.seconds: Iterator[float] = iter(seconds)
        self.runs = 0

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return a vector of ones per sequence."""
        self.clock.now += next(self.seconds)
        self.runs += 1
        return np.ones((len(sequences), 2), dtype=np.float32)


def measured(
    baseline: Iterable[float], candidate: Iterable[float], *, attempts: int = 1, stored: float = 1
) -> Stopwatch:
    """Return a stopwatch whose first attempt has been measured as the acceptance tests do."""
    clock = Clock()
    vectors = np.full((2, 2), stored, dtype=np.float32)
    stopwatch = Stopwatch(
        {"baseline": Timed(clock, baseline), "candidate": Timed(clock, candidate)},
        PROTEINS,
        {"baseline": vectors, "candidate": vectors},
        limit_ratio=Fraction(1, 2),
        runs=3,
        attempts=attempts,
        clock=clock,
    )
    for name, side, rounds in (("baseline",) * 2 + (3,), ("candidate",) * 2 + (3,)):
        work = stopwatch.warmed_up(side)
        stopwatch.keep(name, [time_of(work, clock) for _ in range(rounds)])
    stopwatch.keep("closing", [time_of(stopwatch.work("baseline"), clock)])
    return stopwatch


def time_of(work: Callable[[], None], clock: Clock) -> float:
    """Return the seconds that one call of the work takes."""
    started = clock()
    work()
    return clock() - started


def test_judge_when_the_candidate_takes_half_then_passes_with_all_runs_as_evidence() -> None:
    """Two steady warm-up runs, three rounds each and a closing one."""
    result = measured([2.0] * 6, [1.0] * 5).judge()

    assert result.state is State.PASS
    assert result.evidence["warm_up_seconds"] == {"baseline": [2.0, 2.0], "candidate": [1.0, 1.0]}
    assert (result.evidence["n_sequences"], result.evidence["n_residues"]) == (2, 5)
    assert len(result.evidence["cpu_seconds"]["candidate"]) == 3


def test_judge_when_the_candidate_takes_51_percent_then_fails() -> None:
    """The limit is the limit."""
    assert measured([2.0] * 6, [1.02] * 5).judge().state is State.FAIL


def test_warmed_up_when_it_never_gets_steady_then_it_stops_after_ten_runs() -> None:
    """Compilation and cold caches are waited for, but not for ever."""
    unsteady = [2.0, 3.0] * 5
    stopwatch = measured([*unsteady, 2.0, 2.0, 2.0, 2.0], [0.5] * 5)

    assert stopwatch.judge().evidence["warm_up_seconds"]["baseline"] == unsteady


def test_judge_when_the_first_attempt_is_noisy_then_it_is_measured_again_whole() -> None:
    """Three baseline runs, three of the candidate and a closing one: again, all kept."""
    noisy = [2.0, 2.0, 2.0, 1.0, 2.0, 2.0]
    stopwatch = measured([*noisy, 2.0, 2.0, 2.0, 2.0], [0.9] * 8, attempts=3)

    result = stopwatch.judge()

    assert result.state is State.PASS
    assert [len(a["baseline_seconds"]) for a in result.evidence["attempts"]] == [3, 3]
    assert result.evidence["attempts"][0]["baseline_seconds"] == [2.0, 1.0, 2.0]


def test_judge_when_every_attempt_is_noisy_then_inconclusive() -> None:
    """Attempts are limited, and the last word is that it is not known."""
    stopwatch = measured([2.0, 2.0, *([2.0, 1.0, 2.0, 2.0] * 2)], [0.9] * 8, attempts=2)

    result = stopwatch.judge()

    assert result.state is State.INCONCLUSIVE
    assert len(result.evidence["attempts"]) == 2


def test_judge_when_other_embeddings_were_timed_than_validated_then_it_raises() -> None:
    """A fast embedder that computes something else proves nothing."""
    with pytest.raises(ArtifactError, match="not those that its head was judged on"):
        measured([2.0] * 6, [1.0] * 5, stored=0.5).judge()
