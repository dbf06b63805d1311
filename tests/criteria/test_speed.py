"""The all-pairs rule, attempts, the clock, and what is said about a measurement."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.criteria.result import State
from harness.criteria.speed import (
    Attempt,
    advise_on_slowness,
    checked_clock,
    judge_attempts,
    judge_time,
    measure_until_settled,
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


PASSING = Attempt(baseline_seconds=(2.0, 2.0), candidate_seconds=(0.5, 0.5))
FAILING = Attempt(baseline_seconds=(2.0, 2.0), candidate_seconds=(1.9, 1.9))
NOISY = Attempt(baseline_seconds=(2.0, 3.0), candidate_seconds=(0.9, 1.4))
DISTURBED = replace(PASSING, disturbances=("process 123 uses the GPU",))


@pytest.mark.parametrize(
    ("attempts", "state"),
    [
        ([PASSING], State.PASS),
        ([NOISY, PASSING], State.INCONCLUSIVE),
        ([NOISY, PASSING, PASSING], State.PASS),
        ([NOISY, FAILING, FAILING], State.FAIL),
        ([NOISY, PASSING, FAILING], State.INCONCLUSIVE),
        ([PASSING, FAILING], State.INCONCLUSIVE),
        ([NOISY, NOISY, PASSING, PASSING], State.INCONCLUSIVE),
        ([DISTURBED, PASSING], State.PASS),
        ([DISTURBED, NOISY, PASSING], State.INCONCLUSIVE),
    ],
)
def test_judge_attempts_when_repeated_then_more_than_half_must_agree(
    attempts: list[Attempt], state: State
) -> None:
    """Nothing is thrown away but what was disturbed, and the numbers are of such an attempt."""
    result = judge_attempts(attempts, limit_ratio="0.50")

    assert result.state is state
    assert [a["candidate_seconds"] for a in result.evidence["attempts"]] == [
        list(attempt.candidate_seconds) for attempt in attempts
    ]
    if state is State.PASS:
        assert result.value == Fraction(1, 4)


@pytest.mark.parametrize(
    ("attempts", "n_made"),
    [
        ([PASSING] * 3, 1),
        ([NOISY, PASSING, PASSING], 3),
        ([NOISY, NOISY, PASSING], 2),
        ([NOISY, PASSING], 1),
        ([DISTURBED, PASSING], 2),
    ],
)
def test_measure_when_it_is_settled_or_cannot_be_then_no_more_is_measured(
    attempts: list[Attempt], n_made: int
) -> None:
    """Two attempts of which the first is noisy could not agree by more than half."""
    left = iter(attempts)

    result = measure_until_settled(lambda: next(left), attempts=len(attempts), limit_ratio="0.50")

    assert len(result.evidence["attempts"]) == n_made


@pytest.mark.slow  # about 2,000 measurements a cell
@pytest.mark.parametrize("ratio", [0.505, 0.51, 0.52])
@pytest.mark.parametrize("spread", [0.05, 0.10, 0.20])
def test_measure_when_the_candidate_is_too_slow_then_it_passes_at_most_once_in_twenty(
    ratio: float, spread: float
) -> None:
    """Judge and attempts together: three, and so at most as often with a deployment's one.

    Rounds vary log-normally, and a random stretch of consecutive ones is slower.
    """
    rng = np.random.default_rng(1)

    def measure(slowing: float) -> Attempt:
        seconds = np.tile([1.0, ratio], 4)[:7] * np.exp(spread * rng.standard_normal(7))
        start, stop = sorted(rng.choice(8, 2, replace=False))
        seconds[start:stop] *= 1 + slowing
        rounds = seconds.tolist()
        return Attempt(
            baseline_seconds=tuple(rounds[:6:2]),
            candidate_seconds=tuple(rounds[1::2]),
            closing_baseline_seconds=(rounds[6],),
        )

    for slowing in (0.0, 0.1, 0.2):
        results = [
            measure_until_settled(partial(measure, slowing), attempts=3, limit_ratio="0.50")
            for _ in range(1_000)
        ]
        assert sum(result.state is State.PASS for result in results) <= 50, slowing


def test_judge_attempts_when_disturbed_then_inconclusive_and_the_culprit_is_named() -> None:
    """Another process on the device makes even a clear result unusable."""
    attempt = Attempt(
        baseline_seconds=(2.0,) * 3,
        candidate_seconds=(0.5,) * 3,
        disturbances=("process 123 uses the GPU",),
    )

    result = judge_attempts([attempt], limit_ratio="0.50")

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
        judge_attempts([], limit_ratio="0.50")


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

    assert "2.0 cores busy" in judge_attempts([attempt], limit_ratio="0.50").next_steps[0]


def test_checked_clock_when_the_reading_is_not_finite_then_it_raises() -> None:
    """A broken clock stops the measurement."""
    with pytest.raises(ValueError, match="the clock returned nan"):
        checked_clock(lambda: math.nan)()


def steps_of(**attempt: Any) -> tuple[str, ...]:
    """Return the next steps after runs on both sides of the limit, with what was observed."""
    runs: dict[str, Any] = {"baseline_seconds": (2.0, 2.0, 1.6), "candidate_seconds": (0.9,) * 3}
    return judge_attempts([Attempt(**runs | attempt)], limit_ratio="0.50").next_steps


def test_advice_when_too_slow_then_says_by_how_much() -> None:
    """As a factor and in seconds."""
    (step,) = judge_time([2.0] * 3, [1.25] * 3).next_steps

    assert step == (
        "The candidate would have to become 1.25 times as fast: 1 s a run are allowed, and it "
        "takes 1.25 s."
    )


def test_advice_when_runs_disagree_then_says_how_far_they_may() -> None:
    """The pairs, the mean and the limit are named."""
    (first, *_) = steps_of()

    assert "range from 45.0% to 56.2% around 48.2%" in first
    assert "which is 3.7% away" in first


def test_advice_when_programs_ran_then_they_are_named_first() -> None:
    """Their names and numbers, and the highest load."""
    steps = steps_of(
        warnings=("Other programs kept a core or more busy",),
        readings=(
            {"load_average": 2.5, "running": ["blastp (7)"]},
            {"load_average": 3.5, "running": ["blastp (7)", "make (8)"]},
        ),
    )

    assert steps[0] == "Stop what else ran: blastp (7), make (8) (load average up to 3.5)."


def test_advice_when_the_load_is_our_own_then_no_program_is_blamed() -> None:
    """What ran for a moment without keeping a core busy is no culprit."""
    steps = steps_of(readings=({"load_average": 1.0, "running": ["ps (7)"]},))

    assert not any("ps (7)" in step for step in steps)


def test_advice_when_the_gpus_clock_changed_then_it_is_to_be_fixed() -> None:
    """Before and after, as the driver words it."""
    steps = steps_of(readings=({"sm_clock": "1980 MHz"}, {"sm_clock": "1410 MHz"}))
    steady = steps_of(readings=({"sm_clock": "1980 MHz"},) * 2)

    assert any("it read 1980 MHz, 1410 MHz" in step for step in steps)
    assert not any("clock" in step for step in steady)


def test_advice_when_runs_are_short_then_more_sequences_help() -> None:
    """Only then."""
    short = steps_of(baseline_seconds=(0.2, 0.2, 0.16), candidate_seconds=(0.09,) * 3)
    long = steps_of(baseline_seconds=(20.0, 20.0, 16.0), candidate_seconds=(9.0,) * 3)

    assert any("a run of 0.09 s is easily disturbed" in step for step in short)
    assert not any("sequences" in step for step in long)


def test_advice_when_a_run_is_no_time_then_all_are_listed() -> None:
    """Whoever looks for a broken clock needs the readings."""
    steps = steps_of(candidate_seconds=(0.9, 0.0, 0.9))

    assert "2, 2, 1.6, 0.9, 0, 0.9 s" in steps[0]


def test_slowness_when_tokenisation_is_a_large_part_then_its_share_is_told() -> None:
    """It is the same for both sides, so it hides the models' difference."""
    evidence = {"candidate_seconds": [2.0, 2.0], "tokenisation_seconds": [0.5, 0.5]}

    assert "takes 25% of a candidate run (0.5 s)" in advise_on_slowness(evidence)[0]
    assert advise_on_slowness(evidence | {"tokenisation_seconds": [0.1]}) == ()


def test_slowness_when_the_dtypes_differ_then_the_ratio_as_deployed_is_told() -> None:
    """Precision may make it fast enough in practice; the claim is about the model."""
    causes = {
        "baseline_dtype": "float32", "candidate_dtype": "bfloat16", "as_deployed_ratio": 0.3
    }  # fmt: skip
    matched = causes | {"baseline_dtype": "bfloat16"}

    (step,) = advise_on_slowness({"candidate_seconds": [2.0], "speed_up": causes})

    assert "(baseline float32, candidate bfloat16) the candidate is 3.33 times as fast as" in step
    assert advise_on_slowness({"candidate_seconds": [2.0], "speed_up": matched}) == ()
