"""The all-pairs rule, attempts and the clock."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.criteria.result import State
from harness.criteria.speed import (
    Attempt,
    checked_clock,
    judge_attempts,
    judge_time,
    time_rounds,
)

SECONDS = st.floats(0.01, 100, allow_nan=False)
RUNS = st.lists(SECONDS, min_size=3, max_size=3)


def test_judge_time_when_exactly_half_then_passes() -> None:
    """The limit is inclusive, without rounding."""
    result = judge_time([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])

    assert result.state is State.PASS
    assert result.value == Fraction(1, 2)
    assert result.interval == (0.5, 0.5)


def test_judge_time_when_a_hair_over_half_then_fails() -> None:
    """The next float after a half is over the limit."""
    over = math.nextafter(1.0, 2.0)

    assert judge_time([2.0] * 3, [over] * 3).state is State.FAIL


@pytest.mark.parametrize(
    ("baseline", "candidate", "closing", "state"),
    [
        ([2.0] * 3, [1.02] * 3, [], State.FAIL),
        ([2.0] * 3, [0.6] * 3, [2.0], State.PASS),
        ([2.0, 2.0, 2.2], [1.0, 1.0, 1.05], [], State.INCONCLUSIVE),
        ([2.0] * 3, [0.9] * 3, [1.7], State.INCONCLUSIVE),
        ([2.0] * 3, [1.02] * 3, [2.1], State.INCONCLUSIVE),
        ([2.0] * 3, [math.nan, 0.5, 0.5], [], State.INCONCLUSIVE),
        ([math.inf, 2.0, 2.0], [0.5] * 3, [], State.INCONCLUSIVE),
        ([2.0] * 3, [0.0, 0.5, 0.5], [], State.INCONCLUSIVE),
    ],
)
def test_judge_time_when_runs_vary_then_only_clear_cases_are_settled(
    baseline: list[float], candidate: list[float], closing: list[float], state: State
) -> None:
    """Noise that could change the answer is INCONCLUSIVE; what is no time never passes."""
    result = judge_time(baseline, candidate, closing_baseline_seconds=closing)

    assert result.state is state


@given(RUNS, RUNS, SECONDS)
def test_judge_time_when_it_passes_then_every_pair_is_within_the_limit(
    baseline: list[float], candidate: list[float], closing: float
) -> None:
    """PASS and FAIL hold for each pair of runs, in exact arithmetic."""
    result = judge_time(baseline, candidate, closing_baseline_seconds=[closing])
    pairs = [
        Fraction(c) / Fraction(b) <= Fraction(1, 2) for c in candidate for b in [*baseline, closing]
    ]

    if result.state is State.PASS:
        assert all(pairs)
    if result.state is State.FAIL:
        assert not any(pairs)


@given(RUNS, RUNS, st.integers(-3, 3))
def test_judge_time_when_the_unit_changes_then_the_state_does_not(
    baseline: list[float], candidate: list[float], power: int
) -> None:
    """Only the ratio matters; powers of two keep the floats exact."""
    scale = 2.0**power
    one = judge_time(baseline, candidate)
    other = judge_time([x * scale for x in baseline], [x * scale for x in candidate])

    assert (one.state, one.value) == (other.state, other.value)


def test_judge_attempts_when_the_second_settles_then_it_counts_and_all_are_kept() -> None:
    """An inconclusive measurement is repeated; nothing is thrown away."""
    noisy = Attempt(baseline_seconds=(2.0, 3.0), candidate_seconds=(0.9, 1.4))
    clear = Attempt(baseline_seconds=(2.0, 2.0), candidate_seconds=(0.5, 0.5))
    slow = Attempt(baseline_seconds=(2.0, 2.0), candidate_seconds=(1.9, 1.9))

    result = judge_attempts([noisy, clear, slow])

    assert result.state is State.PASS
    assert [a["candidate_seconds"] for a in result.evidence["attempts"]] == [
        [0.9, 1.4],
        [0.5, 0.5],
        [1.9, 1.9],
    ]


def test_judge_attempts_when_disturbed_then_inconclusive_and_the_culprit_is_named() -> None:
    """Another process on the device makes even a clear result unusable."""
    attempt = Attempt(
        baseline_seconds=(2.0,) * 3,
        candidate_seconds=(0.5,) * 3,
        disturbances=("process 123 uses the GPU",),
    )

    result = judge_attempts([attempt])

    assert result.state is State.INCONCLUSIVE
    assert "process 123 uses the GPU" in result.detail
    assert result.next_steps[0].startswith("Leave the device to the gate")


def test_judge_time_when_the_baseline_drifts_then_it_is_a_warning_on_a_pass() -> None:
    """Drift and spread over 5% are said, and change nothing."""
    result = judge_time([2.0] * 3, [0.2, 0.2, 0.3], closing_baseline_seconds=[2.4])

    assert result.state is State.PASS
    assert result.warnings == (
        "The candidate's runs vary by 25% (coefficient of variation)",
        "The baseline drifted by +20% while the candidate was timed",
    )


def test_judge_time_when_there_are_no_runs_then_it_is_a_mistake_of_the_caller() -> None:
    """Nothing measured is not a measurement."""
    with pytest.raises(ValueError, match="at least one run"):
        judge_time([], [1.0])
    with pytest.raises(ValueError, match="at least one attempt"):
        judge_attempts([])


def test_time_rounds_when_the_clock_ticks_then_each_round_is_one_difference() -> None:
    """The work is called once a round, between two readings."""
    ticks = count()
    calls: list[int] = []

    seconds = time_rounds(lambda: calls.append(1), 3, clock=lambda: float(next(ticks)) ** 2)

    assert seconds == (1.0, 5.0, 9.0)
    assert len(calls) == 3


class FakeCuda:
    """Two GPUs, of which the second holds memory; it notes what is waited for."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def is_initialized(self) -> bool:
        """Work may be under way."""
        return True

    def device_count(self) -> int:
        """Return how many there are."""
        return 2

    def memory_reserved(self, index: int) -> int:
        """Return bytes held."""
        return 1024 * index

    def synchronize(self, index: int) -> None:
        """Wait for a device."""
        self.events.append(f"synchronise {index}")

    def read(self) -> float:
        """Read the clock."""
        self.events.append("read")
        return 0.0


def test_time_rounds_when_on_a_gpu_then_it_is_synchronised_at_both_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before each reading the device that is used has finished; no other one is touched."""
    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr("harness.criteria.speed.time", SimpleNamespace(perf_counter=cuda.read))

    time_rounds(lambda: cuda.events.append("work"), 1)

    once = ["synchronise 1", "read"]
    assert cuda.events == [*once, "work", *once]


def test_judge_time_when_noise_has_a_known_source_then_the_first_step_names_it() -> None:
    """What else ran is the most useful thing to know."""
    attempt = Attempt(
        baseline_seconds=(2.0, 2.0, 1.0),
        candidate_seconds=(0.9,) * 3,
        warnings=("Other programs kept about 2.0 cores busy",),
    )

    assert "2.0 cores busy" in judge_attempts([attempt]).next_steps[0]


def test_checked_clock_when_the_reading_is_not_finite_then_it_raises() -> None:
    """A broken clock stops the measurement."""
    with pytest.raises(ValueError, match="the clock returned nan"):
        checked_clock(lambda: math.nan)()
