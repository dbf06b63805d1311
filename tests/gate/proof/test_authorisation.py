"""What a deployment is told: yes for the judged file alone, and why not for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest_file
from harness.criteria.result import REQUIRED_CRITERIA
from harness.errors import ArtifactError, MissingInput
from harness.verdict import verdict as verdicts
from harness.verdict.verdict import NotAuthorised, authorise

LIMITS = {"accuracy-drop": ("1.25", 5, 4, "5"), "embedding-time": ("0.25", 1, 4, "0.5")}
TIMING = {
    "baseline_seconds": [4.0, 4.1, 4.0],
    "candidate_seconds": [1.0, 1.1, 1.0],
    "n_sequences": 1000,
}


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
    """Return all six criteria, some of them changed."""
    return [
        criterion(name, **changes.get(name.replace("-", "_"), {})) for name in REQUIRED_CRITERIA
    ]


def write_verdict(head: Path, **changes: Any) -> Path:
    """Write a verdict that authorises the head, but for some changes."""
    verdict: dict[str, Any] = {
        "schema_version": 1,
        "verdict": "PASS",
        "rehearsal": False,
        "rehearsal_reasons": [],
        "looser_than_deployment": [],
        "profile": "production",
        "started": "2026-11-01T00:00:00+00:00",
        "halted_by": [],
        "criteria": criteria(),
        "timing": TIMING,
        "artifacts": {"checkpoint": {"path": str(head), "sha256": digest_file(head)}},
    }
    path = head.with_name("verdict.json")
    verdicts.write_verdict(path, verdict | changes)
    return path


def test_authorise_when_the_judged_file_passed_then_nothing_is_raised(head: Path) -> None:
    """A PASS on deployment limits, no rehearsal, this very file."""
    authorise(head, write_verdict(head))

    assert head.read_bytes() == b"weights"


def test_authorise_when_the_test_set_is_small_then_all_of_it_had_to_be_timed(head: Path) -> None:
    """There are no more sequences to time."""
    for n_timed, n_test in ((452, 452), (452, 451), (1000, 1001)):
        timed = {"timing": TIMING | {"n_sequences": n_timed}, "split": {"n_test": n_test}}
        authorise(head, write_verdict(head, **timed))

    short = {"timing": TIMING | {"n_sequences": 451}, "split": {"n_test": 452}}
    with pytest.raises(NotAuthorised, match="451 sequences were timed of at least 452"):
        authorise(head, write_verdict(head, **short))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "HALT", "halted_by": ["accuracy-drop: FAIL"]}, "HALT .accuracy-drop: FAIL"),
        ({"verdict": "INCOMPLETE"}, "the verdict is INCOMPLETE"),
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
        authorise(head, write_verdict(head, **changes))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("accuracy_drop", {"limit": "5.01"}, "judged by 5.01, and a deployment allows 5"),
        ("embedding_time", {"limit": "0.6"}, "judged by 0.6, and a deployment allows 0.5"),
        ("accuracy_drop", {"limit": None}, "accuracy-drop names no limit"),
        ("accuracy_drop", {"limit": "none"}, "accuracy-drop names no limit"),
        ("embedding_time", {"numerator": None}, "embedding-time names no limit or no value"),
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
    verdict = write_verdict(head, criteria=criteria(**{name: changes}))

    with pytest.raises(NotAuthorised, match=message):
        authorise(head, verdict)


@pytest.mark.parametrize("side", ["baseline", "candidate"])
@pytest.mark.parametrize("rounds", [[1.0, 1.0], [1.0, 1.0, "nan"], [1.0, 1.0, 0.0]])
def test_authorise_when_a_side_has_too_few_rounds_then_refused(
    head: Path, side: str, rounds: list[Any]
) -> None:
    """Three rounds that took some time, on both sides."""
    verdict = write_verdict(head, timing=TIMING | {f"{side}_seconds": rounds})

    with pytest.raises(NotAuthorised, match=f"the {side} has 2 timed rounds of at least 3"):
        authorise(head, verdict)


def test_authorise_when_several_things_are_wrong_then_all_are_said(head: Path) -> None:
    """Nobody should have to mend one after the other."""
    verdict = write_verdict(head, rehearsal=True, timing={})

    with pytest.raises(NotAuthorised, match=r"rehearsal.*baseline has 0.*candidate has 0"):
        authorise(head, verdict)


def test_authorise_when_one_byte_of_the_head_changed_then_refused(head: Path) -> None:
    """The judged file, not one like it."""
    verdict = write_verdict(head)
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
    path = write_verdict(head, verdict="HALT", rehearsal=True)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    with pytest.raises(ArtifactError, match="was edited since it was written"):
        authorise(head, path)


def test_authorise_when_the_digest_was_taken_out_then_refused(head: Path) -> None:
    """A verdict that cannot be checked is none."""
    path = write_verdict(head)
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "digest"})
    )

    with pytest.raises(ArtifactError, match="'digest' is a required property"):
        authorise(head, path)


def test_authorise_when_the_verdict_was_only_laid_out_anew_then_nothing_is_raised(
    head: Path,
) -> None:
    """The digest is of the contents; order and white space carry none."""
    path = write_verdict(head)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))

    authorise(head, path)

    assert "\n" not in path.read_text()


def test_authorise_when_a_criterion_is_missing_then_the_pass_is_not_believed(head: Path) -> None:
    """A verdict whose contents contradict its word is no verdict."""
    with pytest.raises(ArtifactError, match="says PASS, but holds"):
        authorise(head, write_verdict(head, criteria=[]))


def test_authorise_when_there_is_no_file_then_missing(head: Path) -> None:
    """Nothing to deploy, nothing to authorise."""
    verdict = write_verdict(head)

    with pytest.raises(MissingInput, match="There is no"):
        authorise(head.with_name("other"), verdict)
