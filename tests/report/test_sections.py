"""The sections of a full report: their tables, and the words for numbers, reasons and gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.report.accuracy import accuracy_blocks
from harness.report.document import (
    ABSENT,
    Note,
    Scale,
    Table,
    label,
    show_bytes,
    show_moment,
    show_number,
    show_percent,
    show_seconds,
)
from harness.report.effort import extraction_blocks, speed_blocks
from harness.report.evidence import evidence_blocks, show_value
from harness.report.outcome import build_document, read_blockers, read_criteria, read_outcome
from harness.report.pages import render_markdown
from tests.report.conftest import Content, bare, criterion, typed

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
        "Every attempt; more than half must agree",
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
        f"{CANDIDATE} | 0.450 s | 0.440 s | 0.460 s | 0.450 s | 2.22% | 444",
    ),
    (
        "Attempt | Baseline (s) | Candidate (s) | Closing baseline (s)",
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
    ("Stage | Time | How", "embed baseline | 12.2 s | reused"),
    ("Stage | Time | How", "All stages | 13.0 s | "),
    ("Embedder | Baseline | Candidate", "Parameters | 1,250,000 | 1,250,000"),
    ("Artifact | Path | sha256", f"checkpoint | `work/head.safetensors` | `{'cd' * 32}`"),
    ("What | Value", "Only the baseline right (b, rows) | 9"),
]


def _render(content: Content) -> str:
    return render_markdown(typed(content), [], folder=Path())


def test_sections_hold_their_tables(passed: Content) -> None:
    """Nothing that was measured is missing, and everything stands where it belongs."""
    sections = build_document(typed(passed)).sections
    titles = {
        section.title: [block.title for block in section.blocks if isinstance(block, Table)]
        for section in sections
    }
    assert titles == TABLES


@pytest.mark.parametrize(("head", "row"), ROWS)
def test_tables_have_their_heads_and_rows(passed: Content, head: str, row: str) -> None:
    """Every number stands under its name, with its unit."""
    report = _render(passed)
    _, _, below = report.partition(f"\n| {head} |\n")
    assert f"| {row} |" in below.split("\n\n")[0].splitlines()


def test_stages_say_the_peak_memory(passed: Content) -> None:
    """What no table holds stands in words."""
    assert "Peak memory: 1.30 GiB." in _render(passed)


@pytest.mark.parametrize("evaluated", ["final", "best"])
def test_training_then_says_which_model_was_evaluated(passed: Content, evaluated: str) -> None:
    """The last epoch's, or the best one on validation."""
    for side in ("baseline", "candidate"):
        passed["training"][side]["evaluated"] = evaluated

    report = _render(passed)

    assert f"| Evaluated model | {evaluated} | {evaluated} |" in report


def test_stages_when_a_gpu_was_used_then_its_memory_is_shown(passed: Content) -> None:
    """Whoever looks for a smaller GPU sees which stage decides."""
    passed["stages"][0]["gpu_memory_bytes"] = 3 << 30

    report = _render(passed)

    for row in (
        "0.800 s | computed | 3.00 GiB",
        "12.2 s | reused | \N{EN DASH}",
        "13.0 s |  | 3.00 GiB",
    ):
        assert f"{row} |\n" in report.split("**Time and GPU memory of each stage**")[1]
    assert "what these took stands with the embeddings" in report


def test_test_set_tells_how_often_it_was_judged(passed: Content) -> None:
    """The third look at one test set is told, and what is wrong with its history is not hidden."""
    passed["split"] |= {"looks": 3, "history_warning": "line 2 is damaged"}
    report = _render(passed)
    assert "This test set has been judged 3 times." in report
    assert "> [!IMPORTANT]\n> line 2 is damaged" in report


def test_next_steps_hold_every_step(failed: Content) -> None:
    """The top of the report gives the first step, its end all of them."""
    report = _render(failed)
    steps = report.split("## Next steps\n")[1]
    assert "- Train the candidate's head for longer.\n- Look at the worst lineages." in steps


def test_long_tables_are_cut_and_say_so(passed: Content) -> None:
    """Thousands of genomes and lineages do not make thousands of rows."""
    group = {"group": "G", "n": 10, "drop_points": 1.0}
    passed["criteria"][2]["evidence"]["lineages"] *= 500
    report = _render(passed | {"breakdowns": {"genome": [group] * 4000}})
    assert "The first 25; 3,975 more stand in verdict.json." in report
    assert "The least likely first. 2,960 more rows stand in verdict.json." in report
    assert len(report) < 40_000


def _table(evidence: dict[str, Any]) -> Table:
    (block,) = evidence_blocks(evidence, title="Evidence")
    assert isinstance(block, Table)
    return block


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.000123461, "0.000123"), (-1.5, "−1.5"), (1012.4, "1,012"), (4520, "4,520"), (None, "–")],  # noqa: RUF001 - typographic signs
)
def test_numbers_are_shown_to_three_digits(number: float | None, text: str) -> None:
    """Small numbers keep three digits, large ones get thousands, none gets a dash."""
    assert show_number(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4425, "0.443 s"), (12.25, "12.2 s"), (119, "1 min 59 s"), (7260, "2 h 1 min")],
)
def test_durations_are_shown_in_units_a_reader_expects(seconds: float, text: str) -> None:
    """Milliseconds matter in a round, minutes in a stage, hours in a night."""
    assert show_seconds(seconds) == text


def test_shares_near_zero_have_no_sign() -> None:
    """A rounded zero is not a negative number."""
    assert show_percent(-0.000001) == "0.00%"


def test_sizes_are_shown_in_binary_units() -> None:
    """Memory is read in MiB and GiB."""
    assert (show_bytes(626 * 2**20), show_bytes(3 * 2**29)) == ("626 MiB", "1.50 GiB")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2026-01-02T03:04:05+01:00", "2026-01-02 02:04 UTC"), ("yesterday", "yesterday")],
)
def test_moments_are_shown_in_utc(text: str, shown: str) -> None:
    """Readers in two time zones see the same time; anything else stays as it is."""
    assert show_moment(text) == shown


@pytest.mark.parametrize(
    ("name", "heading"),
    [("n_records", "Records (n)"), ("cpu_seconds", "CPU (s)"), ("drop_points", "Drop (points)")],
)
def test_labels_carry_the_unit_of_the_name(name: str, heading: str) -> None:
    """A unit that ends a key stands in brackets in the heading."""
    assert label(name) == heading


def test_evidence_of_single_values_is_one_table() -> None:
    """Values of a kind are told together, exact settings as decimals, empty ones left out."""
    table = _table({"learning_rate": "1/5000", "memory_bytes": 2**31, "note": None, "gone": []})
    assert table.rows == (("Learning rate", "0.0002"), ("Memory", "2.00 GiB"))


def test_evidence_of_objects_by_name_is_a_table_with_the_names() -> None:
    """An object of objects gets one row each."""
    table = _table({"by_class": {"viral": {"lost": 9}, "nonviral": {"lost": 1}}})
    assert table.rows == (("viral", "9"), ("nonviral", "1"))


def test_evidence_tables_are_cut_and_say_so() -> None:
    """Ten thousand rows do not become a report."""
    table = _table({"rows": [{"id": f"r{n}"} for n in range(10_000)]})
    assert len(table.rows) == 40
    assert table.note == "9,960 more rows stand in verdict.json."


def test_long_values_are_shortened() -> None:
    """One value cannot fill the page."""
    assert len(show_value("x" * 5000)) == 300


def scale(name: str, value: str, limit: str, interval: tuple[str, str]) -> Scale:
    """Return the picture of a criterion with these numbers."""
    row = criterion(name, value=value, limit=limit, interval=interval)
    (found,) = read_criteria(bare(criteria=[row]))
    assert found.scale is not None
    return found.scale


@pytest.mark.parametrize("value", ["-3", "0", "0.4", "5", "7.1", "9" * 30])
def test_scale_when_the_limit_is_a_ceiling_then_what_passes_lies_left_of_it(value: str) -> None:
    """Wherever the value lies, it is on the picture, and on its side of the limit."""
    found = scale("accuracy-drop", value, "5", (value, "8"))
    assert found.passing[0] == 0
    assert found.passing[1] == found.limit
    assert 0 < found.limit < 100
    assert 0 < found.value < 100
    assert (found.value < found.limit) == (float(value) < 5)


@pytest.mark.parametrize(("low", "passes"), [("94", True), ("54", False)])
def test_scale_when_the_limit_is_a_floor_then_the_interval_must_lie_right_of_it(
    low: str, passes: bool
) -> None:
    """As for the baseline's accuracy: what counts is the lower end."""
    found = scale("baseline-sanity", "96", "55", (low, "98"))
    assert found.passing[0] == found.limit
    assert found.passing[1] == 100
    assert found.interval is not None
    assert (found.interval[0] > found.limit) == passes


@pytest.mark.parametrize("limit", ["0", "9" * 30])
def test_scale_when_value_and_limit_are_equal_then_the_limit_is_on_the_picture(limit: str) -> None:
    """A count of nothing that may be nothing; numbers of any size."""
    for name in ("split-integrity", "baseline-sanity"):
        found = scale(name, limit, limit, (limit, limit))
        assert 0 < found.value == found.limit < 100


def test_limits_say_in_which_direction_they_hold(passed: Content) -> None:
    """'5 points' alone would not tell a reader that less is needed."""
    limits = [row.limit for row in read_criteria(typed(passed))]
    assert limits[:2] == ["below 5 points", "at most 0.5 times the baseline's time"]


def test_reasons_of_a_halt_are_told_in_a_line(failed: Content) -> None:
    """The criteria by their state, other problems after them."""
    failed["halted_by"] += ["writing report.md: disk full", "and so on"]
    because = read_outcome(typed(failed)).because
    assert because == (
        "failed: accuracy-drop (7.11 points; limit: below 5); "
        "also: writing report.md: disk full; and 1 more"
    )


def test_reasons_of_many_criteria_are_counted(halted: Content) -> None:
    """Seven names are no answer."""
    assert read_outcome(typed(halted)).because == "not run: 7 of 7 criteria"


@pytest.mark.parametrize(
    ("novelty", "told"),
    [
        (["lineage in training", "lineage not in training"], "(lineage not in training)"),
        (["lineage in training"], "(best hit in training (% identity): 30-50)"),
    ],
)
def test_breakdowns_say_the_drop_for_what_is_least_like_training(
    passed: Content, novelty: list[str], told: str
) -> None:
    """New lineages where there are some, else the proteins with the farthest best hit."""
    group = {"n": 30, "drop_points": 2.5, "interval": [-1, 6]}
    group |= {"baseline_accuracy": 0.9, "candidate_accuracy": 0.875}
    groups = {"novelty": novelty, "identity": ["30-50", ">=90"]}
    found = {by: [{"group": name} | group for name in names] for by, names in groups.items()}
    report = _render(passed | {"breakdowns": found})
    assert f"Least like the training data are 30 test rows {told}" in report
    assert "a drop of 2.50 points (95% interval" in report


def test_breakdowns_keep_the_order_of_the_verdict(passed: Content) -> None:
    """Bins of length stand in their order, not by their drop."""
    groups = [{"group": name, "n": 1, "drop_points": x} for name, x in (("90-99", 1), ("100-", 5))]
    section = build_document(typed(passed | {"breakdowns": {"length": groups}})).sections[1]
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["90-99", "100-"]


def test_because_of_a_criterion_without_a_value_names_it_alone(failed: Content) -> None:
    """An exception leaves nothing to compare."""
    failed["criteria"][0] |= {"state": "ERROR", "value": None, "limit": None}
    assert read_outcome(typed(failed)).because.startswith("broke down: accuracy-drop")


def test_blockers_of_one_exception_in_several_tests_are_one(failed: Content) -> None:
    """What broke is told once, whatever tests and phases it hit."""
    for row, phase in zip(failed["criteria"], ("call", "setup"), strict=False):
        detail = f"Its test failed in {phase}: OSError: no space left"
        row |= {"state": "ERROR", "detail": detail, "next_steps": [f"Read {row['id']}."]}
    (blocker,) = read_blockers(read_criteria(typed(failed)))
    assert blocker.criteria == ("accuracy-drop", "embedding-time")
    assert blocker.next_steps == ("Read accuracy-drop.",)


CAUSES = {
    "baseline_dtype": "float32",
    "candidate_dtype": "bfloat16",
    "n_batching_sequences": 64,
    "model": 4.0,
    "precision": 2.0,
    "batching": 1.5,
}


def tables(**parts: Any) -> dict[str, Table]:
    """Return the tables about speed, by title, of a verdict with these parts."""
    blocks = speed_blocks(bare(**parts), [])
    return {block.title: block for block in blocks if isinstance(block, Table)}


def causes(**changes: Any) -> Table:
    """Return the table of the causes of a speed-up."""
    row = criterion("embedding-time", evidence={"speed_up": CAUSES | changes})
    return tables(criteria=[row])["Where the speed-up comes from (times as fast)"]


def test_speed_blocks_when_causes_are_known_then_their_products_are_shown() -> None:
    """Model and precision multiply to the speed-up as deployed; batching comes on top."""
    table = causes()

    assert [row[-1] for row in table.rows] == ["4", "2", "1.5", "8", "12"]
    assert "both sides in bfloat16" in str(table.rows[0][0])


def test_speed_blocks_when_a_cause_is_not_known_then_no_product_is_shown() -> None:
    """A product with an unknown factor would be a guess."""
    table = causes(batching=None)

    assert [row[-1] for row in table.rows] == ["4", "2", "\N{EN DASH}"]


def test_speed_blocks_when_an_attempt_was_disturbed_then_the_culprit_is_shown() -> None:
    """Each attempt names what else used the device."""
    attempt = {"baseline_seconds": [2.0], "disturbances": ["process 7 on the GPU"]}
    found = tables(timing={"attempts": [attempt, attempt]})
    table = found["Every attempt; more than half must agree"]

    assert table.rows[0][-1] == "process 7 on the GPU"


@pytest.mark.parametrize(("own", "timed"), [(2, 0), (0, 2), (1, 2)])
def test_speed_blocks_when_memory_did_not_suffice_then_it_is_a_warning(
    own: int, timed: int
) -> None:
    """Whether in the extraction or in the rounds, which may be another dtype's."""
    verdict = bare(
        baseline={"token_budget": 4096, "n_out_of_memory": own},
        candidate={"token_budget": 4096, "n_out_of_memory": 0},
        timing={
            "token_budget": {"baseline": 2048, "candidate": 2048},
            "n_out_of_memory": {"baseline": timed, "candidate": 0},
        },
    )

    assert [b.text for b in speed_blocks(verdict, []) if isinstance(b, Note)] == [
        "The baseline ran out of GPU memory 2 times: batches of 2,048 tokens."
    ]


PACE = {
    "n_rows": 2000,
    "n_sequences": 2000,
    "n_tokens": 10_000,
    "elapsed_seconds": 4.0,
    "flop": 30.0,
    "peak_flops": 10.0,
    "n_processes": 2,
    "gpu_memory_bytes": 3 << 30,
    "n_out_of_memory": 0,
}
BASELINE_FACTS = {"name": "ESM2 3B", "is_random": True}


def table(stores: Content) -> Table:
    """Return the one table of a verdict with these stores."""
    (found,) = extraction_blocks(bare(baseline=BASELINE_FACTS, extraction=stores))
    assert isinstance(found, Table)
    return found


def test_extraction_blocks_then_rates_are_over_all_processes() -> None:
    """30 operations in four seconds, of ten a second that all could do."""
    assert table({"baseline": PACE}).rows == (
        (
            "Baseline: ESM2 3B (random weights)",
            *("2,000", "4.00 s", "500", "2,500", "75.00%", "2", "3.00 GiB"),
        ),
    )


def test_extraction_blocks_when_an_earlier_call_left_rows_then_it_says_of_how_many() -> None:
    """The pace is that of the call that finished the store."""
    (row,) = table({"baseline": PACE | {"n_rows": 9000}}).rows

    assert row[1:4] == ("2,000 of 9,000", "4.00 s", "500")


NOTHING = {"n_tokens": 0, "flop": 0.0, "peak_flops": None, "gpu_memory_bytes": None}


def test_extraction_blocks_when_something_was_not_counted_then_it_is_absent() -> None:
    """As for k-mers, which have no tokens, no peak and no GPU."""
    _, row = table({"baseline": PACE, "nucleotide": PACE | NOTHING}).rows

    assert row[0] == "Nucleotide"
    assert row[4:] == ("\N{EN DASH}", "\N{EN DASH}", "2", "\N{EN DASH}")


def test_extraction_blocks_when_no_store_knows_it_then_the_column_is_left_out() -> None:
    """As on a CPU."""
    columns = table({"nucleotide": PACE | NOTHING}).columns

    assert [column.title for column in columns] == [
        *("Store", "Sequences", "Time", "Sequences per second", "Processes")
    ]


def test_extraction_blocks_when_memory_ran_out_then_it_says_how_often() -> None:
    """In whichever process that was."""
    stores = table({"baseline": PACE | {"n_out_of_memory": 2}, "nucleotide": PACE})

    assert stores.columns[-1].title == "Times that it ran out"
    assert [row[-1] for row in stores.rows] == ["2", "\N{EN DASH}"]


def test_extraction_blocks_when_nothing_was_embedded_then_empty() -> None:
    """As where both sides bring their features."""
    assert extraction_blocks(bare()) == []


def test_accuracy_when_it_was_calibrated_then_says_on_what() -> None:
    """Sizes, multiplier, what set it, and what could not be met; each seed, each prevalence."""
    units = {
        "unit": "lineage",
        "n_units": 34,
        "effective_units": 18.4,
        "rows_smallest": 1,
        "rows_median": 6.5,
        "rows_largest": 42,
        "multiplier": 1.27,
        "set_by_losses": "nonviral",
        "set_by_correlation": 0.3,
        "upper_bound_points": 3.2,
        "blind_spot_percent": {"viral": 24.6, "nonviral": None},
    }
    bounds = {"drop_points": 1.0, "lower_bound_points": 0.5, "upper_bound_points": 3.2}
    evidence = {
        "units": [units],
        "seeds": [bounds | {"seed": 42}, bounds | {"seed": 43}],
        "precision_at_prevalence": [{"prevalence": 0.01, "baseline": 0.5, "candidate": None}],
    }

    tables = {
        block.title: block.rows
        for block in accuracy_blocks(
            bare(criteria=[criterion("accuracy-drop", evidence=evidence)]), []
        )
        if isinstance(block, Table)
    }

    assert tables == {
        "The drop by seed, on the test rows": (
            ("42 (ships)", "1.00", "0.50 to 3.20"),
            ("43", "1.00", "0.50 to 3.20"),
        ),
        "What the bound was calibrated on": (
            (
                *("lineage", "34", "18.4", "1 / 6.5 / 42", "1.27"),
                *("not viral rows, correlation 0.3", "3.20", "24.6", ABSENT),
            ),
        ),
        "Precision by share of viruses": (("1", "50.00%", ABSENT),),
    }
