"""What the reports say: words for numbers, evidence as tables, reasons in a line."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.contents import build_document
from harness.report.document import (
    Table,
    label,
    show_bytes,
    show_moment,
    show_number,
    show_percent,
    show_seconds,
)
from harness.report.evidence import evidence_blocks, show_value
from harness.report.outcome import read_blockers, read_criteria, read_outcome

Verdict = dict[str, Any]


def _table(evidence: dict[str, Any]) -> Table:
    (block,) = evidence_blocks(evidence, title="Evidence")
    assert isinstance(block, Table)
    return block


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.000123461, "0.0001235"), (-1.5, "−1.5"), (1012.4, "1,012"), (4520, "4,520"), (None, "–")],  # noqa: RUF001 - typographic signs
)
def test_numbers_are_shown_to_four_digits(number: float | None, text: str) -> None:
    """Small numbers keep four digits, large ones get thousands, none gets a dash."""
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


def test_limits_say_in_which_direction_they_hold(passed: Verdict) -> None:
    """'5 points' alone would not tell a reader that less is needed."""
    limits = [criterion.limit for criterion in read_criteria(passed)]
    assert limits[:2] == ["below 5 points", "at most 0.5 of the baseline's time"]


def test_reasons_of_a_halt_are_told_in_a_line(failed: Verdict) -> None:
    """The criteria by their state, other problems after them."""
    failed["halted_by"] += ["writing report.md: disk full", "and so on"]
    because = read_outcome(failed).because
    assert because == (
        "failed: accuracy-drop (7.1111 points; limit: below 5); "
        "also: writing report.md: disk full; and 1 more"
    )


def test_reasons_of_many_criteria_are_counted(halted: Verdict) -> None:
    """Six names are no answer."""
    assert read_outcome(halted).because == "not run: 6 of 6 criteria"


def test_document_of_tuples_equals_that_of_lists(passed: Verdict) -> None:
    """A verdict in memory and the one read back from its file give the same report."""
    evidence = passed["criteria"][3]["evidence"]
    listed = build_document(passed)
    evidence["hard"] = tuple(evidence["hard"])
    assert build_document(passed) == listed


def test_breakdowns_keep_the_order_of_the_verdict(passed: Verdict) -> None:
    """Bins of length stand in their order, not by their drop."""
    groups = [{"group": name, "n": 1, "drop_points": x} for name, x in (("90-99", 1), ("100-", 5))]
    section = build_document(passed | {"breakdowns": {"length": groups}}).sections[1]
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["90-99", "100-"]


def test_because_of_a_criterion_without_a_value_names_it_alone(failed: Verdict) -> None:
    """An exception leaves nothing to compare."""
    failed["criteria"][0] |= {"state": "ERROR", "value": None, "limit": None}
    assert read_outcome(failed).because.startswith("broke down: accuracy-drop")


def test_blockers_of_one_exception_in_several_tests_are_one(failed: Verdict) -> None:
    """What broke is told once, whatever tests and phases it hit."""
    for row, phase in zip(failed["criteria"], ("call", "setup"), strict=False):
        detail = f"Its test failed in {phase}: OSError: no space left"
        row |= {"state": "ERROR", "detail": detail, "next_steps": [f"Read {row['id']}."]}
    (blocker,) = read_blockers(read_criteria(failed))
    assert blocker.criteria == ("accuracy-drop", "embedding-time")
    assert blocker.next_steps == ("Read accuracy-drop.",)
