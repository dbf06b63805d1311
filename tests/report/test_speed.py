"""What the reports say about where a speed-up comes from, and who disturbed it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.document import Note, Table
from harness.report.speed import speed_blocks

CAUSES = {
    "baseline_dtype": "float32",
    "candidate_dtype": "bfloat16",
    "n_batching_sequences": 64,
    "model": 4.0,
    "precision": 2.0,
    "batching": 1.5,
}


def tables(evidence: dict[str, Any]) -> dict[str, Table]:
    """Return the tables about speed, by title, where this is the evidence of the criterion."""
    verdict = {"criteria": [{"id": "embedding-time", "evidence": evidence}]}
    return {block.title: block for block in speed_blocks(verdict, []) if isinstance(block, Table)}


def test_speed_blocks_when_causes_are_known_then_their_products_are_shown() -> None:
    """Model and precision multiply to the speed-up as deployed; batching comes on top."""
    table = tables({"speed_up": CAUSES})["Where the speed-up comes from (times faster)"]

    assert [row[-1] for row in table.rows] == ["4", "2", "1.5", "8", "12"]
    assert "both sides in bfloat16" in str(table.rows[0][0])


def test_speed_blocks_when_a_cause_is_not_known_then_no_product_is_shown() -> None:
    """A product with an unknown factor would be a guess."""
    table = tables({"speed_up": CAUSES | {"batching": None}})[
        "Where the speed-up comes from (times faster)"
    ]

    assert [row[-1] for row in table.rows] == ["4", "2", "\N{EN DASH}"]


def test_speed_blocks_when_an_attempt_was_disturbed_then_the_culprit_is_shown() -> None:
    """Each attempt names what else used the device."""
    attempt = {"baseline_seconds": [2.0], "disturbances": ["process 7 on the GPU"]}
    table = tables({"attempts": [attempt]})["Every attempt; the first that is settled counts"]

    assert table.rows[0][-1] == "process 7 on the GPU"


@pytest.mark.parametrize(("own", "timed"), [(2, 0), (0, 2), (1, 2)])
def test_speed_blocks_when_memory_did_not_suffice_then_it_is_a_warning(
    own: int, timed: int
) -> None:
    """Whether in the extraction or in the rounds, which may be another dtype's."""
    verdict = {
        "baseline": {"token_budget": 4096, "n_out_of_memory": own},
        "candidate": {"token_budget": 4096, "n_out_of_memory": 0},
        "timing": {
            "token_budget": {"baseline": 2048, "candidate": 2048},
            "n_out_of_memory": {"baseline": timed, "candidate": 0},
        },
    }

    assert [b.text for b in speed_blocks(verdict, []) if isinstance(b, Note)] == [
        "The baseline ran out of GPU memory 2 times: batches of 2,048 tokens."
    ]
