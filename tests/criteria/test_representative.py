"""From the comparison of train and test to a judged criterion."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from harness.criteria.representative import judge_representative
from harness.criteria.result import State
from harness.data.distributions import Check, Histogram, LineageRow, Outcome, Representativeness

SHORTAGE = "class 1 has 3 test rows of the 75 needed; 750 rows of the class would do"


def _check(what: str = "GC", state: Outcome = Outcome.PASS, **changes: object) -> Check:
    check = Check(
        label=1,
        what=what,
        statistic="Kolmogorov-Smirnov D",
        state=state,
        value=0.01,
        warn_floor=0.03,
        fail_floor=0.06,
        alpha=0.0004,
    )
    return replace(check, **changes)  # type: ignore[arg-type]


def _lineage(name: str = "T4-like", **changes: object) -> LineageRow:
    row = LineageRow(
        label=1,
        lineage=name,
        n_train=800,
        n_test=180,
        expected_test=90.0,
        ratio=2.0,
        p=1e-9,
        alpha=0.0001,
        smallest_caught=1.5,
        state=Outcome.PASS,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def _comparison(*checks: Check, lineages: tuple[LineageRow, ...] = ()) -> Representativeness:
    return Representativeness(
        sampling_unit="record",
        test_fraction="0.10",
        seed=0,
        n_redraws=9999,
        n_checks=14,
        checks=checks,
        lineages=lineages,
        histograms=(
            Histogram(label=1, what="GC", edges=(0.0, 0.5, 1.0), train=(0.4, 0.6), test=(0.5, 0.5)),
        ),
    )


def test_judge_when_no_check_fails_then_passes_and_names_the_largest_effect() -> None:
    """A pass says how far it was from the limit."""
    result = judge_representative(
        _comparison(_check("length"), _check("GC", value=0.02)), requires_lineage=True
    )

    assert result.state is State.PASS
    assert [result.value, result.limit] == [0, 0]
    assert "None of 2 checks failed" in result.detail
    assert "largest effect: class 1, GC, Kolmogorov-Smirnov D 0.02 (limit 0.06)" in result.detail
    assert result.warnings == result.next_steps == ()


def test_judge_when_a_check_fails_then_fails_and_names_the_worst() -> None:
    """The reader sees the trait, the effect and its limits."""
    result = judge_representative(
        _comparison(
            _check("frame", Outcome.FAIL, value=0.07, p=0.0001),
            _check("GC", Outcome.FAIL, value=0.12, p=0.0001),
            _check("length", value=0.5, p=0.4),
        ),
        requires_lineage=True,
    )

    assert result.state is State.FAIL
    assert result.value == 2
    assert "worst: class 1, GC, Kolmogorov-Smirnov D 0.12 (limit 0.06), p 0.0001" in result.detail
    assert any("frame" in step for step in result.next_steps)
    assert "harness split --redraw" in result.next_steps[-1]


@pytest.mark.parametrize(
    ("what", "edges", "words"),
    [
        ("length", (99.5, 109.5, 119.5, 129.5), "up to 119 residues"),
        ("GC", (0.3, 0.4, 0.5, 0.6), "up to 50.0% GC"),
    ],
)
def test_judge_when_a_distribution_is_shifted_then_says_where(
    what: str, edges: tuple[float, ...], words: str
) -> None:
    """Where the two curves are farthest apart, in the class and the trait that failed."""
    shifted = Histogram(
        label=1, what=what, edges=edges, train=(0.1, 0.2, 0.7), test=(0.3, 0.5, 0.2)
    )
    comparison = _comparison(_check(what, Outcome.FAIL, value=0.5, p=0.0001))
    other = replace(shifted, label=0, edges=(0.0, 1.0, 2.0, 3.0))

    result = judge_representative(
        replace(comparison, histograms=(other, shifted)), requires_lineage=True
    )

    assert result.next_steps[0].endswith(f"; 80% of the test set, 30% of the rest have {words}")


def test_judge_when_a_check_warns_then_passes_with_a_warning() -> None:
    """A warning is a note on a pass."""
    result = judge_representative(
        _comparison(_check("GC", Outcome.WARN, value=0.04, p=0.003)), requires_lineage=True
    )

    assert result.state is State.PASS
    assert result.warnings == (
        "class 1, GC, Kolmogorov-Smirnov D 0.04 (limit 0.06), p 0.003 (limit 0.0004).",
    )


@pytest.mark.parametrize(
    ("n_test", "expected", "words"), [(180, 90.0, "90 too many"), (10, 90.0, "80 too few")]
)
def test_judge_when_a_lineage_is_skewed_then_says_by_how_many(
    n_test: int, expected: float, words: str
) -> None:
    """The first step names the lineage, its direction and the number of records."""
    row = _lineage(n_test=n_test, expected_test=expected, state=Outcome.FAIL)
    share = _check("lineage share", Outcome.FAIL, value=2.0, fail_floor=1.5)

    result = judge_representative(_comparison(share, lineages=(row,)), requires_lineage=True)

    assert result.next_steps[0] == (
        f"Class 1, T4-like: {n_test} records in the test set where 90 are expected, {words}"
    )


def test_judge_when_many_lineages_are_skewed_then_lists_five_and_counts_the_rest() -> None:
    """A list of hundreds helps nobody; all of them stand in the evidence."""
    rows = tuple(_lineage(f"lineage {i}", state=Outcome.FAIL) for i in range(8))
    share = _check("lineage share", Outcome.FAIL, value=math.inf, fail_floor=1.5)

    result = judge_representative(_comparison(share, lineages=rows), requires_lineage=True)

    assert len(result.next_steps) == 7
    assert result.next_steps[5].startswith("3 more lineages")


def test_judge_when_too_small_then_is_inconclusive_with_the_size_that_would_do() -> None:
    """The reader learns what to add, and no value is claimed."""
    small = [_check(what, Outcome.INCONCLUSIVE, detail=SHORTAGE) for what in ("length", "GC")]

    result = judge_representative(_comparison(*small), requires_lineage=True)

    assert (result.state, result.value) == (State.INCONCLUSIVE, None)
    assert result.detail == f"Too small to be judged: {SHORTAGE}."
    assert result.next_steps == (f"Add records, or draw a larger share: {SHORTAGE}",)


@pytest.mark.parametrize(
    ("requires_lineage", "state"), [(True, State.NOT_RUN), (False, State.PASS)]
)
def test_judge_when_lineages_are_unknown_then_blocks_only_where_they_are_required(
    requires_lineage: bool, state: State
) -> None:
    """Production needs a taxonomy; elsewhere its absence is a warning."""
    unknown = _check("lineage", Outcome.NOT_RUN, value=None, detail="unknown for every record")

    result = judge_representative(_comparison(_check(), unknown), requires_lineage=requires_lineage)

    assert result.state is state
    assert any("taxonomy" in step for step in result.next_steps) is requires_lineage
    assert any("lineage" in note for note in result.warnings) is not requires_lineage


@pytest.mark.parametrize(
    ("worse", "expected"),
    [(Outcome.FAIL, State.FAIL), (Outcome.INCONCLUSIVE, State.NOT_RUN)],
)
def test_judge_when_several_things_are_wrong_then_the_worst_decides(
    worse: Outcome, expected: State
) -> None:
    """A proven difference outweighs what is missing, and that outweighs what is too small."""
    unknown = _check("lineage", Outcome.NOT_RUN, value=None)

    result = judge_representative(_comparison(unknown, _check(state=worse)), requires_lineage=True)

    assert result.state is expected


def test_judge_when_some_units_have_no_lineage_then_warns_how_many() -> None:
    """A taxonomy that names one accession is no taxonomy."""
    rows = (_lineage(), _lineage("", n_train=1200, n_test=34))

    result = judge_representative(_comparison(_check(), lineages=rows), requires_lineage=True)

    assert result.warnings == ("class 1: 1,234 records without a lineage.",)


def test_judge_when_both_classes_together_differ_then_that_alone_fails_nothing() -> None:
    """Both together are reported only."""
    both = _check("GC", Outcome.REPORTED, value=0.9, label="both")

    result = judge_representative(_comparison(_check(), both), requires_lineage=True)

    assert result.state is State.PASS
    assert [check["label"] for check in result.evidence["checks"]] == [1, "both"]


def test_judge_then_evidence_is_plain_json() -> None:
    """An infinite ratio is null; histograms are found by class and trait."""
    share = _check("lineage share", value=math.inf)
    rows = (_lineage("a", ratio=math.inf, n_train=0), _lineage("b"))

    evidence = judge_representative(
        _comparison(share, lineages=rows), requires_lineage=True
    ).evidence

    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    assert evidence["checks"][0]["value"] is None
    assert evidence["checks"][0]["state"] == "PASS"
    assert evidence["lineages"][0]["ratio"] is None
    assert evidence["histograms"]["1"]["gc"]["test"] == [0.5, 0.5]


def test_judge_then_shares_of_the_largest_lineages_and_all_others_add_up_to_one() -> None:
    """A figure has room for fifteen lineages and the rest."""
    rows = tuple(_lineage(f"lineage {i}", n_train=100 * i + 1, n_test=i) for i in range(20))

    shares = judge_representative(
        _comparison(_check(), lineages=rows), requires_lineage=True
    ).evidence["lineage_shares"]["1"]

    assert [row["lineage"] for row in shares][::15] == ["lineage 19", "5 others"]
    assert sum(row["train"] for row in shares) == pytest.approx(1)
    assert sum(row["test"] for row in shares) == pytest.approx(1)
