"""The verdict: what makes a PASS, and what is believed when it is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.criteria.result import REQUIRED_CRITERIA, CriterionResult, State
from harness.errors import ArtifactError
from harness.verdict.verdict import (
    build_verdict,
    check_facts,
    conclude,
    open_verdict,
    read_verdict,
    write_verdict,
)

EXTRA = "calibration"
PERFECT = {
    "metrics": {"accuracy": 0.8, "precision": 0.75, "recall": 0.9, "f1": 9 / 11, "mcc": 0.1},
    "confusion_matrix": [[7, 3], [1, 9]],
}
texts = st.text(max_size=20)
results = st.builds(
    CriterionResult,
    id=st.sampled_from([*REQUIRED_CRITERIA, EXTRA]),
    state=st.sampled_from(State),
    detail=texts,
    value=st.none() | st.fractions(),
    limit=st.none() | st.fractions(),
    unit=texts,
    interval=st.none() | st.tuples(st.floats(), st.floats()),
    warnings=st.lists(texts, max_size=2).map(tuple),
    next_steps=st.lists(texts, max_size=2).map(tuple),
    evidence=st.dictionaries(texts, st.integers() | texts, max_size=2),
)


def opened(folder: Path, profile: str = "production") -> dict[str, Any]:
    """Return the verdict of a run that has begun in a folder."""
    verdict, lock = open_verdict(folder, profile=profile, started="now", command="pytest")
    lock.release()
    return verdict


def rows(**states: str) -> list[dict[str, Any]]:
    """Return a row per required criterion, PASS unless told otherwise, and the extra ones."""
    chosen = dict.fromkeys(REQUIRED_CRITERIA, "PASS") | {
        name.replace("_", "-"): state for name, state in states.items()
    }
    return [
        CriterionResult(id=name, state=State(state), detail="").to_dict() | {"test": None}
        for name, state in chosen.items()
    ]


def ended(folder: Path, *, facts: dict[str, Any] | None = None, **states: str) -> dict[str, Any]:
    """Return the verdict of a run that has ended."""
    return build_verdict(
        opened(folder),
        rows=rows(**states),
        problems=[],
        facts={"rehearsal_reasons": []} | (facts or {}),
        environment={},
        finished="later",
    )


@given(states=st.lists(st.sampled_from(State), min_size=7, max_size=7), problems=st.lists(texts))
def test_conclude_when_anything_is_not_pass_then_halts_for_that_reason(
    states: list[State], problems: list[str]
) -> None:
    """PASS takes PASS in every criterion, the additional one too, and no problem besides."""
    names = [*REQUIRED_CRITERIA, EXTRA]
    judged = [{"id": name, "state": state} for name, state in zip(names, states, strict=True)]
    verdict, halted_by = conclude(judged, problems)
    blocked = [name for name, state in zip(names, states, strict=True) if state != "PASS"]
    assert verdict == ("HALT" if blocked or problems else "PASS")
    assert [reason.partition(":")[0] for reason in halted_by[: len(blocked)]] == blocked
    assert halted_by[len(blocked) :] == problems


@pytest.mark.parametrize("missing", REQUIRED_CRITERIA)
def test_conclude_when_a_required_criterion_has_no_row_then_halts(missing: str) -> None:
    """A criterion that nobody mentions was not evaluated."""
    judged = [row for row in rows() if row["id"] != missing]
    assert conclude(judged) == ("HALT", [f"{missing}: NOT_RUN"])


@settings(max_examples=30)
@given(recorded=st.lists(results, max_size=4), problems=st.lists(texts, max_size=2))
def test_verdict_when_written_and_read_then_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, recorded: list[CriterionResult], problems: list[str]
) -> None:
    """What a report is rendered from is what was judged, to the last digit."""
    folder = tmp_path_factory.mktemp("reports")
    verdict = build_verdict(
        opened(folder),
        rows=[result.to_dict() | {"test": "acceptance/test_it.py::test_it"} for result in recorded],
        problems=problems,
        facts=check_facts([{"candidate": PERFECT}])[0],
        environment={"python": "3.12"},
        finished="later",
    )
    write_verdict(folder / "verdict.json", verdict)
    assert read_verdict(folder / "verdict.json") == verdict


def test_verdict_when_every_criterion_passes_then_is_pass_and_no_rehearsal(tmp_path: Path) -> None:
    """The one kind of verdict that authorises a deployment."""
    verdict = ended(tmp_path)
    assert (verdict["verdict"], verdict["halted_by"]) == ("PASS", [])
    assert (verdict["rehearsal"], verdict["rehearsal_reasons"]) == (False, [])


def test_verdict_when_a_run_begins_then_is_incomplete_and_a_rehearsal(tmp_path: Path) -> None:
    """A run that is killed leaves this behind, and none of the older reports."""
    (tmp_path / "report.html").write_text("PASS")
    (tmp_path / "notes.txt").write_text("mine")
    verdict = opened(tmp_path)
    assert read_verdict(tmp_path / "verdict.json") == verdict
    assert verdict["verdict"] == "INCOMPLETE"
    assert verdict["rehearsal"] is True
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "verdict.json", "notes.txt"}


def test_folder_when_another_run_holds_it_then_is_refused(tmp_path: Path) -> None:
    """Two runs would write into each other's reports."""
    _, lock = open_verdict(tmp_path, profile="tiny", started="now", command="pytest")
    with pytest.raises(ArtifactError, match="belongs to another run"):
        opened(tmp_path)
    lock.release()
    assert opened(tmp_path)["verdict"] == "INCOMPLETE"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"criteria": []}, "accuracy-drop: NOT_RUN"),
        ({"criteria": rows(embedding_time="FAIL")}, "embedding-time: FAIL"),
        ({"halted_by": ["interrupted"]}, "interrupted"),
        (
            {"candidate": {"metrics": {"recall": 0.5}, "confusion_matrix": [[7, 3], [1, 9]]}},
            "recall is 0.5, but its confusion matrix gives 0.9",
        ),
    ],
)
def test_verdict_when_its_pass_contradicts_the_rest_then_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    """A PASS that was written in by hand is not believed."""
    path = tmp_path / "verdict.json"
    write_verdict(path, ended(tmp_path) | change)
    with pytest.raises(ArtifactError, match=words):
        read_verdict(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no verdict can be read"),
        ("{", "no verdict can be read"),
        ("[]", "is not of type 'object'"),
        ('{"verdict": "PASS"}', "required property"),
        ("verdict", "'PASSED' is not one of"),
        ("schema_version", "1 was expected"),
    ],
)
def test_verdict_when_file_is_no_verdict_then_error_names_the_file(
    tmp_path: Path, content: str | None, words: str
) -> None:
    """A missing, cut or foreign file is an error with a name, not a verdict."""
    path = tmp_path / "verdict.json"
    if content in {"verdict", "schema_version"}:
        content = json.dumps(ended(tmp_path) | {"digest": "0" * 64, content: "PASSED"})
    if content is not None:
        path.write_text(content)
    else:
        path.unlink(missing_ok=True)
    with pytest.raises(ArtifactError, match=words) as raised:
        read_verdict(path)
    assert str(path) in str(raised.value)


def test_verdict_when_it_breaks_the_schema_then_is_not_written(tmp_path: Path) -> None:
    """What cannot be read back must not stand there."""
    verdict = ended(tmp_path)
    with pytest.raises(ArtifactError, match="profile"):
        write_verdict(tmp_path / "verdict.json", verdict | {"profile": "medium"})
    assert read_verdict(tmp_path / "verdict.json")["verdict"] == "INCOMPLETE"


def test_verdict_when_metrics_contradict_the_confusion_matrix_then_halts(tmp_path: Path) -> None:
    """Each metric that the matrix determines is recomputed; the others are taken as they are."""
    honest = ended(tmp_path, facts={"candidate": PERFECT})
    assert honest["verdict"] == "PASS"
    for name in ("accuracy", "precision", "recall", "f1"):
        metrics = PERFECT["metrics"] | {name: 0.5}  # type: ignore[operator]
        verdict = ended(tmp_path, facts={"baseline": PERFECT | {"metrics": metrics}})
        assert len(verdict["halted_by"]) == 1
        assert verdict["halted_by"][0].startswith(f"baseline: {name} is 0.5")


def test_verdict_when_a_ratio_is_undefined_then_zero_or_nothing_is_right(tmp_path: Path) -> None:
    """A model that never says 'viral' has no precision; both ways to write that down are in use."""
    for precision in (0.0, None):
        side = {"metrics": {"precision": precision}, "confusion_matrix": [[5, 0], [5, 0]]}
        assert ended(tmp_path, facts={"candidate": side})["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("reasons", "profile", "expected"),
    [
        ([], "production", []),
        (["random weights"], "production", ["random weights"]),
        (None, "production", ["nothing was evaluated"]),
        ([], "tiny", ["the tiny profile proves the gate, not a model"]),
    ],
)
def test_rehearsal_when_facts_are_told_then_only_an_explicit_word_ends_it(
    tmp_path: Path, reasons: list[str] | None, profile: str, expected: list[str]
) -> None:
    """Silence is no word, and tiny models authorise nothing whatever a stage says."""
    facts = {} if reasons is None else {"rehearsal_reasons": reasons}
    opening = opened(tmp_path, profile)
    verdict = build_verdict(
        opening, rows=rows(), problems=[], facts=facts, environment={}, finished="later"
    )
    assert (verdict["rehearsal_reasons"], verdict["rehearsal"]) == (expected, bool(expected))


def test_looser_settings_when_told_then_stand_in_the_verdict(tmp_path: Path) -> None:
    """`harness verify` refuses a run with settings looser than a deployment's."""
    loose = {"looser_than_deployment": ["max_time_ratio"]}
    assert ended(tmp_path, facts=loose)["looser_than_deployment"] == ["max_time_ratio"]
    assert ended(tmp_path)["looser_than_deployment"] == []


@pytest.mark.parametrize(
    "parts",
    [
        [{"dat": {}}],
        [{"data": {"n_records": float("nan")}}],
        [{"data": {"n_records": {1, 2}}}],
        [{"stages": [{"name": "split"}]}],
        [{"peak_memory_bytes": 1.5}],
        [{"data": {}}, {"data": {}}],
    ],
)
def test_facts_when_one_cannot_be_used_then_it_is_a_problem(parts: list[dict[str, Any]]) -> None:
    """Unknown, no JSON, against the schema, or told twice."""
    _, problems = check_facts(parts)
    assert len(problems) == 1
    assert problems[0].startswith(f"the reported {next(iter(parts[0]))!r} cannot be used: ")


def test_facts_when_one_is_unusable_then_the_others_are_kept() -> None:
    """A broken fact is named; it does not take the rest with it."""
    kept, problems = check_facts([{"data": {"n_records": 4}}, {"timing": [1, 2], "x": 1}])
    assert kept == {"data": {"n_records": 4}}
    assert [problem.split("'")[1] for problem in problems] == ["timing", "x"]
