"""What is said about a drop, beyond what the criterion's own tests read."""

from __future__ import annotations

from harness.criteria.advice import lineage_steps


def lineage(name: str, n: int, drop_points: float) -> dict[str, object]:
    """Return what a breakdown says of one lineage."""
    return {"group": name, "n": n, "drop_points": drop_points}


def test_lineages_when_some_lost_then_those_with_most_rows_come_first() -> None:
    """Rows count, not shares: 2% of 1,000 are more than 50% of 20."""
    lineages = [
        lineage("small", 20, 50.0), lineage("large", 1000, 2.0), lineage("better", 500, -9.0),
        lineage("a", 50, 10.0), lineage("b", 50, 8.0),
    ]  # fmt: skip

    assert lineage_steps(lineages) == (
        "Lineages that lost most, net: large (20 of 1000 rows, 2.0 points), "
        "small (10 of 20 rows, 50.0 points), a (5 of 50 rows, 10.0 points).",
    )


def test_lineages_when_none_lost_or_none_is_known_then_nothing_is_said() -> None:
    """An empty list helps nobody."""
    assert lineage_steps([lineage("better", 500, -9.0), lineage("same", 10, 0.0)]) == ()
    assert lineage_steps([]) == ()
