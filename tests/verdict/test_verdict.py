"""The verdict: what makes a PASS, and what is believed when it is read back.

What a deployment is told: yes for the judged file alone, and why not for everything else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.artifacts import digest_file
from harness.criteria import REQUIRED_CRITERIA, CriterionResult, State
from harness.errors import ArtifactError, MissingInput
from harness.verdict.contents import CriterionRow, Verdict, build, parse_verdict
from harness.verdict.verdict import (
    NotAuthorised,
    authorise,
    build_verdict,
    check_facts,
    conclude,
    open_verdict,
    read_verdict,
    write_verdict,
)

EXTRA = "calibration"
OVER_BY_SEED = {
    "seed": 43,
    "drop_points": 1,
    "lower_bound_points": 0,
    "upper_bound_points": 5.1,
}
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
    value=st.none() | st.fractions(-(10**9), 10**9),
    limit=st.none() | st.fractions(-(10**9), 10**9),
    unit=texts,
    interval=st.none() | st.tuples(*[st.floats(-1e9, 1e9) | st.sampled_from([inf, -inf, nan])] * 2),
    warnings=st.lists(texts, max_size=2).map(tuple),
    next_steps=st.lists(texts, max_size=2).map(tuple),
    evidence=st.dictionaries(texts, st.integers() | texts, max_size=2),
)


def opened(folder: Path, profile: str = "production") -> dict[str, Any]:
    """Return what a run that has begun in a folder left there, as JSON."""
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


def typed_rows(**states: str) -> list[CriterionRow]:
    """Return the same rows, typed."""
    return [build(CriterionRow, row) for row in rows(**states)]


def ended(folder: Path, *, facts: dict[str, Any] | None = None, **states: str) -> Verdict:
    """Return the verdict of a run that has ended."""
    return build_verdict(
        opened(folder),
        rows=rows(**states),
        problems=[],
        facts={"rehearsal_reasons": []} | (facts or {}),
        environment={},
        finished="later",
    )


@given(states=st.lists(st.sampled_from(State), min_size=8, max_size=8), problems=st.lists(texts))
def test_conclude_when_anything_is_not_pass_then_halts_for_that_reason(
    states: list[State], problems: list[str]
) -> None:
    """PASS takes PASS in every criterion, the additional one too, and no problem besides."""
    names = [*REQUIRED_CRITERIA, EXTRA]
    told = dict(zip(names, states, strict=True))
    judged = typed_rows(**{name.replace("-", "_"): state for name, state in told.items()})
    verdict, halted_by = conclude(judged, problems)
    blocked = [name for name, state in zip(names, states, strict=True) if state != "PASS"]
    assert verdict == ("HALT" if blocked or problems else "PASS")
    assert [reason.partition(":")[0] for reason in halted_by[: len(blocked)]] == blocked
    assert halted_by[len(blocked) :] == problems


@pytest.mark.parametrize("missing", REQUIRED_CRITERIA)
def test_conclude_when_a_required_criterion_has_no_row_then_halts(missing: str) -> None:
    """A criterion that nobody mentions was not evaluated."""
    judged = [row for row in typed_rows() if row.id != missing]
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
    assert (verdict.verdict, verdict.halted_by) == ("PASS", ())
    assert (verdict.rehearsal, verdict.rehearsal_reasons) == (False, ())


def test_verdict_when_a_run_begins_then_is_incomplete_and_a_rehearsal(tmp_path: Path) -> None:
    """A run that is killed leaves this behind, and none of the older reports."""
    (tmp_path / "report.html").write_text("PASS")
    (tmp_path / "notes.txt").write_text("mine")
    verdict = opened(tmp_path)
    written = read_verdict(tmp_path / "verdict.json")
    assert written.content == verdict
    assert (written.verdict, written.rehearsal) == ("INCOMPLETE", True)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "verdict.json", "notes.txt"}


def test_folder_when_another_run_holds_it_then_is_refused(tmp_path: Path) -> None:
    """Two runs would write into each other's reports."""
    _, lock = open_verdict(tmp_path, profile="tiny", started="now", command="pytest")
    with pytest.raises(ArtifactError, match="belongs to another run"):
        opened(tmp_path)
    lock.release()
    assert opened(tmp_path)["verdict"] == "INCOMPLETE"


def changed(verdict: Verdict, change: dict[str, Any]) -> Verdict:
    """Return a verdict with another part."""
    return parse_verdict({**verdict.content, **change}, origin="the test")


def judged(name: str, **changes: Any) -> dict[str, Any]:
    """Return all criteria, one of which came out as 1 of 0 to 2, but for some changes."""
    limits = {"accuracy-drop": "5", "embedding-time": "0.5"}
    numbers = {"value": "1", "numerator": 1, "denominator": 1, "interval": ["0", "2"]}
    row = numbers | {"limit": limits.get(name)} | changes
    return {"criteria": [one | row if one["id"] == name else one for one in rows()]}


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
        (
            {"baseline": PERFECT, "split": {"test_viral": 10, "test_nonviral": 11}},
            r"baseline: \(10, 10\) rows in its confusion matrix, \(11, 10\) in the test set",
        ),
        ({"rehearsal": True}, "rehearsal is True, with 0 reasons"),
        (
            {"criteria": [row | {"value": "4.9"} for row in rows()]},
            "accuracy-drop: the value is 4.9, but its fraction is None",
        ),
        ({"criteria": [*rows(), rows()[0]]}, "accuracy-drop stands there more than once"),
        ({"finished": None}, "the verdict is PASS, and its end is None"),
        ({"split": {"n_test": 9, "test_viral": 5, "test_nonviral": 5}}, "9 test rows, of which 5"),
        ({"candidate": PERFECT, "split": {"n_test": 18}}, "20 rows in its confusion matrix, 18"),
        (judged("accuracy-drop", numerator=None), "its fraction is None/1"),
        (judged("accuracy-drop", value="90", numerator=90), "value 90 in 0 to 2 and the limit 5"),
        (judged("accuracy-drop", value="5", numerator=5), "value 5 in 0 to 2 and the limit 5"),
        (judged("accuracy-drop", interval=["0", "50"]), "value 1 in 0 to 50 and the limit 5"),
        (judged("accuracy-drop", interval=["nan", "nan"]), "value 1 in nan to nan and the limit 5"),
        (judged("accuracy-drop", interval=["2", "0"]), "its interval is from 2 to 0"),
        (judged("embedding-time"), "value 1 in 0 to 2 and the limit 0.5"),
        (judged("baseline-sanity", limit="60"), "value 1 in 0 to 2 and the limit 60"),
        (
            judged("accuracy-drop", evidence={"seeds": [OVER_BY_SEED]}),
            "the upper bound by seed 43 is 5.1, and the limit 5",
        ),
        (
            judged("accuracy-drop", evidence={"windows": {"upper_bound_points": 5.1}}),
            "the upper bound by windows is 5.1, and the limit 5",
        ),
        *(
            (judged("accuracy-drop", evidence=lost | {"max_class_drop_points": 10}), words)
            for lost, words in (
                ({"by_class": {"viral": {"drop_points": 10.1}}}, "drop of viral is 10.1"),
                ({"window_classes": [{"group": "recall", "drop_points": 11}]}, "of recall is 11"),
            )
        ),
        (judged("accuracy-drop", evidence={"missing": ["genomes"]}), "it lacks genomes"),
        (
            judged("accuracy-drop") | {"baseline": PERFECT, "candidate": PERFECT},
            "the value is 1, but the confusion matrices give 0",
        ),
        (
            judged("embedding-time", limit="2")
            | {"timing": {"baseline_seconds": [1.0], "candidate_seconds": [0.5]}},
            "the value is 1, but the rounds give 0.5",
        ),
    ],
)
def test_verdict_when_its_pass_contradicts_the_rest_then_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    """A PASS that was written in by hand is not believed."""
    path = tmp_path / "verdict.json"
    write_verdict(path, changed(ended(tmp_path), change))
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
        content = json.dumps({**ended(tmp_path).content, "digest": "0" * 64, content: "PASSED"})
    if content is not None:
        path.write_text(content)
    else:
        path.unlink(missing_ok=True)
    with pytest.raises(ArtifactError, match=words) as raised:
        read_verdict(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"profile": "medium"}, r"\$\.profile"),
        ({"split": {"looks": "two"}}, r"\$\.split\.looks"),
        ({"timing": {"baseline_seconds": [1.0, "nan"]}}, r"\$\.timing\.baseline_seconds\[1\]"),
        ({"environment": {"memory_bytes": 1e40}}, r"\$\.environment\.memory_bytes"),
        (judged("accuracy-drop", evidence={"seeds": [{"seed": 43}]}), r".*\.evidence\.seeds\[0\]"),
    ],
)
def test_verdict_when_it_breaks_the_schema_then_the_place_is_named(
    tmp_path: Path, part: dict[str, Any], place: str
) -> None:
    """Whatever reads a verdict may trust it."""
    with pytest.raises(ArtifactError, match=f"the test: not a verdict: {place}"):
        changed(ended(tmp_path), part)


def test_verdict_when_read_then_no_heavy_library_is_loaded() -> None:
    """``harness verify`` answers at once."""
    code = (
        "import sys; from pathlib import Path; from harness.verdict.verdict import read_verdict\n"
        "read_verdict(Path('docs/samples/pass/verdict.json'))\n"
        "assert not {'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_verdict_when_metrics_contradict_the_confusion_matrix_then_halts(tmp_path: Path) -> None:
    """Each metric that the matrix determines is recomputed; the others are taken as they are."""
    honest = ended(tmp_path, facts={"candidate": PERFECT})
    assert honest.verdict == "PASS"
    for name in ("accuracy", "precision", "recall", "f1"):
        metrics = PERFECT["metrics"] | {name: 0.5}  # type: ignore[operator]
        verdict = ended(tmp_path, facts={"baseline": PERFECT | {"metrics": metrics}})
        assert len(verdict.halted_by) == 1
        assert verdict.halted_by[0].startswith(f"baseline: {name} is 0.5")


def test_verdict_when_a_ratio_is_undefined_then_zero_or_nothing_is_right(tmp_path: Path) -> None:
    """A model that never says 'viral' has no precision; both ways to write that down are in use."""
    for precision in (0.0, None):
        side = {"metrics": {"precision": precision}, "confusion_matrix": [[5, 0], [5, 0]]}
        assert ended(tmp_path, facts={"candidate": side}).verdict == "PASS"


def test_verdict_when_a_criterion_has_a_reservation_then_it_stands_with_the_verdict(
    tmp_path: Path,
) -> None:
    """Beside those of the run; it changes no state."""
    judged = [row | {"reservations": ["accuracy-drop doubts"]} for row in rows()[:1]]
    verdict = build_verdict(
        opened(tmp_path),
        rows=[*judged, *rows()[1:]],
        problems=[],
        facts={"rehearsal_reasons": [], "reservations": ["Weights are unknown."]},
        environment={},
        finished="later",
    )

    assert verdict.verdict == "PASS"
    assert verdict.reservations == ("Weights are unknown.", "accuracy-drop doubts")


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
    assert (verdict.rehearsal_reasons, verdict.rehearsal) == (tuple(expected), bool(expected))


def test_looser_settings_when_told_then_stand_in_the_verdict(tmp_path: Path) -> None:
    """`harness verify` refuses a run with settings looser than a deployment's."""
    loose = {"looser_than_deployment": ["max_time_ratio"]}
    assert ended(tmp_path, facts=loose).looser_than_deployment == ("max_time_ratio",)
    assert ended(tmp_path).looser_than_deployment == ()


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


LIMITS = {"accuracy-drop": ("1.25", 5, 4, "5"), "embedding-time": ("0.25", 1, 4, "0.5")}
TIMING = {
    "baseline_seconds": [4.0, 4.1, 4.0],
    "candidate_seconds": [1.0, 1.1, 1.0],
    "n_sequences": 1000,
}
SLOW = [1.0, 1.0, 2.1]


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """Return a file to deploy."""
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"weights")
    return path


def criterion(name: str, **changes: Any) -> dict[str, Any]:
    """Return a criterion that passed, within a deployment's limits but for some changes."""
    keys = ("value", "numerator", "denominator", "limit")
    numbers = dict(zip(keys, LIMITS.get(name, (None,) * 4), strict=True))
    texts = {"state": "PASS", "unit": "", "detail": "", "interval": None, "test": None}
    return {"id": name, **texts, "next_steps": [], **numbers, **changes}


def criteria(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all criteria, some of them changed."""
    return [
        criterion(name, **changes.get(name.replace("-", "_"), {})) for name in REQUIRED_CRITERIA
    ]


def write_judged(head: Path, **changes: Any) -> Path:
    """Write a verdict that authorises the head, but for some changes."""
    verdict: dict[str, Any] = {
        "schema_version": 1,
        "verdict": "PASS",
        "rehearsal": False,
        "rehearsal_reasons": [],
        "looser_than_deployment": [],
        "profile": "production",
        "started": "2026-11-01T00:00:00+00:00",
        "finished": "2026-11-01T01:00:00+00:00",
        "halted_by": [],
        "criteria": criteria(),
        "timing": TIMING,
        "artifacts": {"checkpoint": {"path": str(head), "sha256": digest_file(head)}},
    }
    path = head.with_name("verdict.json")
    write_verdict(path, parse_verdict(verdict | changes, origin="the test"))
    return path


def test_authorise_when_the_judged_file_passed_then_nothing_is_raised(head: Path) -> None:
    """A PASS on deployment limits, no rehearsal, this very file."""
    authorise(head, write_judged(head))

    assert head.read_bytes() == b"weights"


def test_authorise_when_the_test_set_is_small_then_all_of_it_had_to_be_timed(head: Path) -> None:
    """There are no more sequences to time."""
    for n_timed, n_test in ((452, 452), (452, 451), (1000, 1001)):
        timed = {"timing": TIMING | {"n_sequences": n_timed}, "split": {"n_test": n_test}}
        authorise(head, write_judged(head, **timed))

    short = {"timing": TIMING | {"n_sequences": 451}, "split": {"n_test": 452}}
    with pytest.raises(NotAuthorised, match="451 sequences were timed of at least 452"):
        authorise(head, write_judged(head, **short))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "HALT", "halted_by": ["accuracy-drop: FAIL"]}, "HALT .accuracy-drop: FAIL"),
        ({"verdict": "INCOMPLETE", "finished": None}, "the verdict is INCOMPLETE"),
        ({"rehearsal": True, "rehearsal_reasons": ["random"]}, "was a rehearsal .random"),
        ({"profile": "tiny"}, "the profile is tiny"),
        ({"looser_than_deployment": ["max_time_ratio"]}, "looser .* allows: max_time_ratio"),
        ({"artifacts": {}}, "names no checkpoint"),
        ({"timing": {}}, "the baseline has 0 timed rounds of at least 3"),
        ({"timing": TIMING | {"n_sequences": 999}}, "999 sequences were timed of at least 1,000"),
    ],
)
def test_authorise_when_the_verdict_is_not_enough_then_the_reason_is_given(
    head: Path, changes: dict[str, Any], message: str
) -> None:
    """Everything but a full PASS is refused."""
    with pytest.raises(NotAuthorised, match=message):
        authorise(head, write_judged(head, **changes))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("accuracy_drop", {"limit": "5.01"}, "judged by 5.01, and a deployment allows 5"),
        ("embedding_time", {"limit": "0.6"}, "judged by 0.6, and a deployment allows 0.5"),
        ("accuracy_drop", {"limit": None}, "accuracy-drop names no limit"),
        (
            "embedding_time",
            {"value": None, "numerator": None, "denominator": None, "limit": None},
            "embedding-time names no limit or no value",
        ),
        (
            "embedding_time",
            {"value": "0.5", "numerator": 500001, "denominator": 1000000},
            "embedding-time is 0.5, over",
        ),
    ],
)
def test_authorise_when_a_criterion_used_a_looser_limit_then_refused(
    head: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    """What the criteria were judged by counts, not what the settings are said to have been."""
    judged = criteria(**{name: changes})
    verdict = write_judged(head, criteria=judged, timing=TIMING | {"candidate_seconds": SLOW})

    with pytest.raises(NotAuthorised, match=message):
        authorise(head, verdict)


@pytest.mark.parametrize("side", ["baseline", "candidate"])
@pytest.mark.parametrize("rest", [[], [0.0]])
def test_authorise_when_a_side_has_too_few_rounds_then_refused(
    head: Path, side: str, rest: list[float]
) -> None:
    """Three rounds that took some time, on both sides."""
    rounds: Any = TIMING[f"{side}_seconds"]
    verdict = write_judged(head, timing=TIMING | {f"{side}_seconds": [*rounds[:2], *rest]})

    with pytest.raises(NotAuthorised, match=f"the {side} has 2 timed rounds of at least 3"):
        authorise(head, verdict)


def test_authorise_when_the_history_was_lost_then_it_must_be_known(head: Path) -> None:
    """A test set that was looked at unnoticed proves less."""
    verdict = write_judged(head, split={"history_lost": 2})

    with pytest.raises(NotAuthorised, match="2 earlier verdicts on its test set were lost"):
        authorise(head, verdict)
    authorise(head, verdict, is_history_lost_known=True)


def test_authorise_when_several_things_are_wrong_then_all_are_said(head: Path) -> None:
    """Nobody should have to mend one after the other."""
    verdict = write_judged(head, rehearsal=True, rehearsal_reasons=["random"], timing={})

    with pytest.raises(NotAuthorised, match=r"rehearsal.*baseline has 0.*candidate has 0"):
        authorise(head, verdict)


def test_authorise_when_one_byte_of_the_head_changed_then_refused(head: Path) -> None:
    """The judged file, not one like it."""
    verdict = write_judged(head)
    head.write_bytes(b"weightz")

    with pytest.raises(NotAuthorised, match="is not the one that was judged"):
        authorise(head, verdict)


@pytest.mark.parametrize(
    ("key", "value"), [("verdict", "PASS"), ("rehearsal", False), ("digest", "0" * 64)]
)
def test_authorise_when_the_verdict_was_edited_then_refused(
    head: Path, key: str, value: object
) -> None:
    """A word changed by hand no longer fits the digest that the verdict carries."""
    path = write_judged(head, verdict="HALT", rehearsal=True)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    with pytest.raises(ArtifactError, match="was edited since it was written"):
        authorise(head, path)


def test_authorise_when_the_digest_was_taken_out_then_refused(head: Path) -> None:
    """A verdict that cannot be checked is none."""
    path = write_judged(head)
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "digest"})
    )

    with pytest.raises(ArtifactError, match="it states None"):
        authorise(head, path)


def test_authorise_when_the_verdict_was_only_laid_out_anew_then_nothing_is_raised(
    head: Path,
) -> None:
    """The digest is of the contents; order and white space carry none."""
    path = write_judged(head)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))

    authorise(head, path)

    assert "\n" not in path.read_text()


def test_authorise_when_a_criterion_is_missing_then_the_pass_is_not_believed(head: Path) -> None:
    """A verdict whose contents contradict its word is no verdict."""
    with pytest.raises(ArtifactError, match="says PASS, but holds"):
        authorise(head, write_judged(head, criteria=[]))


def test_authorise_when_there_is_no_file_then_missing(head: Path) -> None:
    """Nothing to deploy, nothing to authorise."""
    verdict = write_judged(head)

    with pytest.raises(MissingInput, match="There is no"):
        authorise(head.with_name("other"), verdict)
