"""What is said about a measurement that did not pass: made from it, never a fixed text."""

from __future__ import annotations

from typing import Any

from harness.criteria.speed import Attempt, advise_on_slowness, judge_attempts, judge_time


def steps_of(**attempt: Any) -> tuple[str, ...]:
    """Return the next steps after runs on both sides of the limit, with what was observed."""
    runs: dict[str, Any] = {"baseline_seconds": (2.0, 2.0, 1.6), "candidate_seconds": (0.9,) * 3}
    return judge_attempts([Attempt(**runs | attempt)]).next_steps


def test_advice_when_too_slow_then_says_by_how_much() -> None:
    """In percent and in seconds."""
    (step,) = judge_time([2.0] * 3, [1.25] * 3).next_steps

    assert step == (
        "The candidate would have to become 20% faster: 1 s a run are allowed, and it takes 1.25 s."
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

    assert "(baseline float32, candidate bfloat16) the candidate needs 30.0% of the time" in step
    assert advise_on_slowness({"candidate_seconds": [2.0], "speed_up": matched}) == ()
