"""The sections of a full report: their tables, heads and a row of each, as a reader finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.report.contents import build_document
from harness.report.document import Table
from harness.report.markdown import render_markdown

Verdict = dict[str, Any]
BASELINE = "Baseline: ESM2, 6 layers (random weights)"
CANDIDATE = "Candidate: FastESM2, 2 layers (random weights)"

TABLES = {
    "Accuracy": [
        "Metrics on the test set",
        "Confusion matrices (rows of the test set)",
        "The comparison of the two heads",
        "Accuracy drop",
        "The baseline against a constant answer",
    ],
    "Where it lost and gained": ["Accuracy by lineage", "Accuracy by length"],
    "Speed": [
        "Embedding time, raw rounds (seconds)",
        "Time ratio (fraction of the baseline's time)",
        "Every attempt; the first that is settled counts",
        "Timing",
    ],
    "Test set": [
        "Records",
        "Split",
        "Train against test: effect sizes",
        "Lineages, train against test (sampling units)",
        "Leaks that fail the split (rows)",
        "Kinship of the test rows with train",
        "Split integrity",
    ],
    "Embeddings": ["Stored embeddings: stores"],
    "Training": [
        "Both heads",
        "Epochs of ESM2, 6 layers (random weights)",
        "Epochs of FastESM2, 2 layers (random weights)",
        "Recipe of the heads",
    ],
    "Stages and time": ["Time of each stage"],
    "Environment and reproduction": ["Models", "Artifacts", "Environment"],
    "Next steps": [],
}

# Head and one row of tables that are made by hand, as they stand in the markdown.
ROWS = [
    (
        "Model | Round 1 | Round 2 | Round 3 | Mean | Coefficient of variation "
        "| Sequences per second",
        f"{CANDIDATE} | 0.450 s | 0.440 s | 0.460 s | 0.450 s | 2.2% | 444",
    ),
    (
        "Candidate's mean time over the baseline's | Fastest to slowest pair | Limit",
        "0.2143 | 0.201 to 0.228 | at most 0.5",
    ),
    (
        "Attempt | Baseline rounds (s) | Candidate rounds (s) | Closing baseline rounds (s)",
        "1 | 2.08, 2.11, 2.12 | 0.45, 0.44, 0.46 | 2.1",
    ),
    (
        f"Lineage | Test rows | Genomes | {BASELINE} | {CANDIDATE} | Drop (points) "
        "| 95% interval (points)",
        "Plastid | 75 | 9 | 93.00% | 87.00% | 4.00 | 1.00 to 7.00",
    ),
    (
        "Class | What | Statistic | Effect | Warns from | Fails from | p | Fails at p up to "
        "| Smallest it could catch | State | Note",
        "viral | GC | Cohen's w | 0.041 | 0.1 | 0.2 | 0.06 | 0.0004 | 0.12 | ⚠ WARN | mind it",
    ),
    (
        "Class | Lineage | Train | Test | Test share over train share | p | Fails at p up to "
        "| State",
        "not viral | Plastid | 800 | 85 | 0.95 | 0.4 | 3e-05 | ✓ PASS",
    ),
    ("What | Count | Examples", "same protein | 0 | \N{EN DASH}"),
    (f"What | {BASELINE} | {CANDIDATE}", "Best epoch on validation | 30 | 30"),
    (
        "Epoch | Train loss | Validation loss | Validation accuracy | Learning rate | Time "
        "| Rows per second",
        "30 | 0.22 | 0.2233 | 92.00% | 0.0001228 | 0.210 s | 17,000",
    ),
    ("Stage | Time | How", "embed baseline | 12.2 s | reused"),
    ("Stage | Time | How", "All stages | 13.0 s | "),
    ("Embedder | Baseline | Candidate", "Parameters | 1,250,000 | 1,250,000"),
    ("Artifact | Path | sha256", f"checkpoint | `work/head.safetensors` | `{'cd' * 32}`"),
    ("What | Value", "Only the baseline right (b, rows) | 9"),
]


def test_sections_hold_their_tables(passed: Verdict) -> None:
    """Nothing that was measured is missing, and everything stands where it belongs."""
    sections = build_document(passed).sections
    titles = {
        section.title: [block.title for block in section.blocks if isinstance(block, Table)]
        for section in sections
    }
    assert titles == TABLES


@pytest.mark.parametrize(("head", "row"), ROWS)
def test_tables_have_their_heads_and_rows(passed: Verdict, head: str, row: str) -> None:
    """Every number stands under its name, with its unit."""
    report = render_markdown(passed, [], folder=Path())
    _, _, below = report.partition(f"\n| {head} |\n")
    assert f"| {row} |" in below.split("\n\n")[0].splitlines()


@pytest.mark.parametrize("text", ["Peak memory: 1.30 GiB.", "12 of 30 epochs."])
def test_sections_say_what_no_table_holds(passed: Verdict, text: str) -> None:
    """Memory and what was left out stand in words."""
    assert text in render_markdown(passed, [], folder=Path())


def test_training_when_other_seeds_are_known_then_shows_their_spread(passed: Verdict) -> None:
    """The declared seed is named as the judged one, though another reached more."""
    result = {"epochs_run": 30, "validation_loss": 0.25, "validation_accuracy": 0.9}
    passed["training"]["candidate"]["spread"] = [
        result | {"seed": 42},
        result | {"seed": 43, "validation_loss": 0.15, "validation_accuracy": 0.94},
    ]

    report = render_markdown(passed, [], folder=Path())

    assert report.count("Spread over seeds of") == 1
    assert "Spread over seeds of FastESM2, 2 layers (random weights)" in report
    for row in (
        "42 (judged) | 30 | 0.25 | 90.00%",
        "43 | 30 | 0.15 | 94.00%",
        "Lowest |  | 0.15 | 90.00%",
        "Mean |  | 0.2 | 92.00%",
        "Highest |  | 0.25 | 94.00%",
    ):
        assert f"| {row} |" in report


@pytest.mark.parametrize("evaluated", ["final", "best"])
def test_training_then_says_which_model_was_evaluated(passed: Verdict, evaluated: str) -> None:
    """The last epoch's, or the best one on validation."""
    for side in ("baseline", "candidate"):
        passed["training"][side]["evaluated"] = evaluated

    report = render_markdown(passed, [], folder=Path())

    assert f"| Evaluated model | {evaluated} | {evaluated} |" in report


def test_stages_when_a_gpu_was_used_then_its_memory_is_shown(passed: Verdict) -> None:
    """Whoever looks for a smaller GPU sees which stage decides."""
    passed["stages"][0]["gpu_memory_bytes"] = 3 << 30

    report = render_markdown(passed, [], folder=Path())

    for row in (
        "0.800 s | computed | 3.00 GiB",
        "12.2 s | reused | \N{EN DASH}",
        "13.0 s |  | 3.00 GiB",
    ):
        assert f"{row} |\n" in report.split("**Time and GPU memory of each stage**")[1]
    assert "what these took stands with the embeddings" in report


def test_test_set_tells_how_often_it_was_judged(passed: Verdict) -> None:
    """The third look at one test set is told, and what is wrong with its history is not hidden."""
    passed["split"] |= {"looks": 3, "history_warning": "line 2 is damaged"}
    report = render_markdown(passed, [], folder=Path())
    assert "This test set has been judged 3 times." in report
    assert "> [!IMPORTANT]\n> line 2 is damaged" in report


def test_next_steps_hold_every_step(failed: Verdict) -> None:
    """The top of the report gives the first step, its end all of them."""
    report = render_markdown(failed, [], folder=Path())
    steps = report.split("## Next steps\n")[1]
    assert "- Train the candidate's head for longer.\n- Look at the worst lineages." in steps


def test_long_tables_are_cut_and_say_so(passed: Verdict) -> None:
    """Thousands of genomes and lineages do not make thousands of rows."""
    group = {"group": "G", "n": 10, "drop_points": 1.0}
    row = {"label": 1, "lineage": "L", "p": 0.5, "state": "PASS"}
    passed["criteria"][2]["evidence"]["lineages"] = [row] * 3000
    report = render_markdown(passed | {"breakdowns": {"genome": [group] * 4000}}, [], folder=Path())
    assert "The first 25; 3,975 more stand in verdict.json." in report
    assert "The 25 least likely; 2,975 more stand in verdict.json." in report
    assert len(report) < 40_000
