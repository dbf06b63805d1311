"""The arithmetic that docs/scaling.md rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.projection import Machine, StageCost, render_markdown

STAGE = StageCost(
    name="prepare",
    n_rows=200_000,
    elapsed_seconds=10.0,
    memory_bytes=0,
    gpu_memory_bytes=0,
    disk_bytes=1_000,
)
MACHINE = Machine(name="a GPU", days=7, price_per_gpu_hour=3.0)


def test_project_when_a_stage_is_linear_then_seconds_and_disk_grow_with_the_records() -> None:
    """Ten times the records, ten times the cost."""
    assert STAGE.project_seconds(2_000_000) == pytest.approx(100)
    assert STAGE.project_disk_bytes(2_000_000) == pytest.approx(10_000)


def test_project_when_a_part_was_embedded_then_the_rest_is_added_in_proportion() -> None:
    """8 of 10 s embedded a tenth of the rows; 2 s wrote all of them."""
    embedded = replace(STAGE, n_embedded=20_000, embedded_seconds=8.0, dim=2560)

    assert embedded.project_seconds(200_000) == pytest.approx(2 + 80)


def test_project_when_few_epochs_were_trained_then_a_full_training_is_projected() -> None:
    """VirNucPro's users trained for 109 epochs; what is done once is done once."""
    trained = replace(STAGE, n_epochs=5, epochs_seconds=4.0)

    assert trained.project_seconds(200_000) == pytest.approx(6 + 4 * 109 / 5)
    text = render_markdown([trained], MACHINE, n_records=200_000)
    expected = "6.0 s x 2,100,000 / 200,000 + 4.00 s x 2,100,000 / 200,000 x 109 / 5 epochs"
    assert f"| prepare | {expected} |" in text


def test_project_when_a_cost_is_fixed_then_it_stays() -> None:
    """A model is loaded once, however many records there are."""
    assert replace(STAGE, n_rows=0).project_seconds(10**9) == 10.0


def test_render_when_an_extraction_was_measured_then_gpus_and_cost_follow_from_its_speed() -> None:
    """At 2,500 a second, 10^9 rows take 111.1 GPU hours, and 10.24 TB in float32."""
    embedded = replace(
        STAGE, name="embed baseline", n_embedded=20_000, embedded_seconds=8.0, dim=2560
    )

    text = render_markdown([embedded], MACHINE, n_records=200_000)

    assert "| baseline, 2,500 per second | 1,000,000,000 | 111.1 | 1 | 333 | 10.24 | 5.12 |" in text
    assert "14.2 h" in text  # 2,100,000 at today's 41 a second
