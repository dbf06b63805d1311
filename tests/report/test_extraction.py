"""What the reports say about how the embeddings were made."""

from __future__ import annotations

from typing import Any

from harness.report.document import Note, Table
from harness.report.training import extraction_blocks

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
VERDICT = {"baseline": {"name": "ESM2 3B", "is_random": True}}


def table(stores: dict[str, Any]) -> Table:
    """Return the one table of a verdict with these stores."""
    (found,) = (
        block
        for block in extraction_blocks(VERDICT | {"extraction": stores})
        if isinstance(block, Table)
    )
    return found


def test_extraction_blocks_then_rates_are_over_all_processes() -> None:
    """30 operations in four seconds, of ten a second that all could do."""
    assert table({"baseline": PACE}).rows == (
        (
            "Baseline: ESM2 3B (random weights)",
            *("2,000", "4.000 s", "500", "2,500", "75.00%", "2", "3.00 GiB"),
        ),
    )


def test_extraction_blocks_when_an_earlier_call_left_rows_then_it_says_of_how_many() -> None:
    """The pace is that of the call that finished the store."""
    (row,) = table({"baseline": PACE | {"n_rows": 9000}}).rows

    assert row[1:4] == ("2,000 of 9,000", "4.000 s", "500")


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


def test_extraction_blocks_when_memory_ran_out_then_it_is_a_warning() -> None:
    """In whichever process that was."""
    stores = {"baseline": PACE | {"n_out_of_memory": 2}, "nucleotide": PACE}

    notes = [
        block.text
        for block in extraction_blocks(VERDICT | {"extraction": stores})
        if isinstance(block, Note)
    ]

    assert notes == [
        "Baseline: ESM2 3B (random weights): GPU memory ran out 2 times while it was embedded; "
        "batches were halved."
    ]


def test_extraction_blocks_when_nothing_was_embedded_then_empty() -> None:
    """As where both sides bring their features."""
    assert extraction_blocks({}) == []
