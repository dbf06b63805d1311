"""The history of verdicts: one line each, counted as looks, damaged or not."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ArtifactError
from harness.verdict import history
from harness.verdict.contents import PastVerdict, Verdict, parse_verdict
from harness.verdict.history import (
    describe_looks,
    note_looks,
    read_history,
    remember,
    with_warning,
)
from harness.verdict.verdict import digest_verdict

TEST_IDS = "ab" * 32


def criterion(name: str, value: str | None, interval: list[str] | None = None) -> dict[str, Any]:
    """Return a criterion with a value."""
    nothing = dict.fromkeys(("numerator", "denominator", "limit", "test"))
    texts = {"state": "FAIL", "unit": "", "detail": "", "next_steps": []}
    return {"id": name, "value": value, "interval": interval, **nothing, **texts}


def make_content(
    directory: Path,
    *,
    drop: str | None = "1.25",
    ids: str = TEST_IDS,
    head: str | None = "ef" * 32,
) -> Any:
    """Return a finished verdict, as JSON."""
    return {
        "schema_version": 1,
        "started": "2026-10-31T23:00:00+00:00",
        "finished": "2026-11-01T00:00:00+00:00",
        "verdict": "HALT",
        "halted_by": [],
        "profile": "production",
        "rehearsal": False,
        "candidate": {"name": "small", "model_sha256": "cd" * 32},
        "artifacts": {"checkpoint": {"path": "head", "sha256": head}} if head else {},
        "split": {"directory": str(directory), "ids_sha256": {"test": ids}},
        "criteria": [
            criterion("accuracy-drop", drop, ["-0.5", "3.1"] if drop else None),
            criterion("embedding-time", "0.25", ["0.2", "0.3"]),
        ],
    }


def typed(content: Any) -> Verdict:
    """Return a verdict as its file would give it."""
    return parse_verdict(content, origin="the test")


def make_verdict(directory: Path, **changes: Any) -> Verdict:
    """Return a finished verdict."""
    return typed(make_content(directory, **changes))


def looks_at(directory: Path, **changes: Any) -> Any:
    """Return what a run on the test set is told of its looks."""
    verdict = make_verdict(directory, **changes)
    return note_looks({"split": verdict.split.content}, verdict)["split"]


def test_history_when_a_verdict_is_added_then_its_numbers_stand_there(tmp_path: Path) -> None:
    """Enough to draw a trend and to find the verdict again."""
    verdict = make_verdict(tmp_path)

    assert remember(verdict) == ""

    assert read_history(tmp_path) == [
        PastVerdict(
            finished="2026-11-01T00:00:00+00:00",
            verdict="HALT",
            profile="production",
            rehearsal=False,
            candidate="small",
            model_sha256="cd" * 32,
            checkpoint_sha256="ef" * 32,
            test_sha256=TEST_IDS,
            drop_points=1.25,
            upper_bound_points=3.1,
            time_ratio=0.25,
            looks=1,
            digest=digest_verdict(verdict),
        )
    ]


def test_history_when_nothing_was_judged_then_is_empty(tmp_path: Path) -> None:
    """A test set that was only drawn has no verdicts."""
    assert read_history(tmp_path) == []


def test_history_when_a_run_did_not_get_to_a_split_then_nothing_is_written(tmp_path: Path) -> None:
    """Without a test set there is no place to keep it."""
    assert remember(typed(make_content(tmp_path) | {"split": {}})) == ""
    assert list(tmp_path.iterdir()) == []


def test_history_when_a_bound_is_not_finite_then_null_stands_there(tmp_path: Path) -> None:
    """A bound of infinity is no reason to lose the line."""
    content = make_content(tmp_path)
    content["criteria"][0]["interval"] = ["-inf", "inf"]

    remember(typed(content))

    assert read_history(tmp_path)[0].upper_bound_points is None


def test_looks_when_only_some_runs_got_to_the_accuracy_then_those_are_counted(
    tmp_path: Path,
) -> None:
    """A run that halted before has learned nothing from the test set."""
    for drop in ("1.25", None, "0"):
        remember(make_verdict(tmp_path, drop=drop))

    assert [entry.looks for entry in read_history(tmp_path)] == [1, 1, 2]
    assert looks_at(tmp_path, drop="2")["looks"] == 3
    assert looks_at(tmp_path, drop=None)["looks"] == 2


@pytest.mark.parametrize(
    ("again", "looks"),
    [({}, 1), ({"head": "other"}, 2), ({"drop": "1"}, 2), ({"ids": "other"}, 1)],
)
def test_looks_when_the_same_heads_are_judged_again_then_it_is_no_further_look(
    tmp_path: Path, again: dict[str, Any], looks: int
) -> None:
    """As when only the time is measured again; another head or another drop is news."""
    remember(make_verdict(tmp_path))

    assert looks_at(tmp_path, **again)["looks"] == looks
    remember(make_verdict(tmp_path, **again))
    assert read_history(tmp_path)[1].looks == looks


def test_looks_when_predictions_are_brought_then_each_run_is_one(tmp_path: Path) -> None:
    """Whether they are the same as before is not known."""
    for _ in range(2):
        remember(make_verdict(tmp_path, head=None))

    assert [entry.looks for entry in read_history(tmp_path)] == [1, 2]


def test_looks_when_the_accuracy_is_only_shown_then_it_was_seen_all_the_same(
    tmp_path: Path,
) -> None:
    """As by a run of the baseline's criterion alone, whose metrics tell the candidate's, too."""
    shown = {"differences": {"accuracy": {"value": -0.0125, "interval": None}}}
    verdict = typed(make_content(tmp_path, drop=None) | shown)

    noted = note_looks({"split": verdict.split.content} | shown, verdict)
    remember(verdict)

    assert noted["split"]["looks"] == 1
    (line,) = read_history(tmp_path)
    assert (line.drop_points, line.looks) == (1.25, 1)


def test_looks_when_the_test_set_was_redrawn_then_start_anew(tmp_path: Path) -> None:
    """Other rows are not worn out; the old ones stay on record."""
    remember(make_verdict(tmp_path))
    remember(make_verdict(tmp_path, ids="other"))

    assert [entry.looks for entry in read_history(tmp_path)] == [1, 1]
    assert looks_at(tmp_path, ids="other", drop="2")["looks"] == 2


def test_earlier_verdicts_when_told_then_are_the_last_ones_on_this_test_set(tmp_path: Path) -> None:
    """A report draws its trend from its verdict alone, and other test sets have no part in it."""
    for place in range(history.MOST_EARLIER + 2):
        remember(make_verdict(tmp_path, drop=str(place)))
    remember(make_verdict(tmp_path, ids="other"))
    with (tmp_path / "verdicts.jsonl").open("a") as file:
        file.write("damaged\n")

    told = looks_at(tmp_path)["earlier_verdicts"]

    assert [entry["drop_points"] for entry in told] == list(range(2, history.MOST_EARLIER + 2))


def test_looks_when_there_is_no_split_then_the_facts_stay_as_they_are(tmp_path: Path) -> None:
    """A run that halted early has no test set to look at."""
    verdict = typed(make_content(tmp_path) | {"split": {}})
    assert note_looks({"data": {"n_records": 4}}, verdict) == {"data": {"n_records": 4}}


def test_looks_when_told_then_the_given_facts_are_not_changed(tmp_path: Path) -> None:
    """An earlier verdict holds the same objects."""
    facts = {"split": {"directory": str(tmp_path)}}

    note_looks(facts, make_verdict(tmp_path))
    with_warning(facts, "full disk")

    assert facts == {"split": {"directory": str(tmp_path)}}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "",
        "[]",
        "\x00",
        json.dumps({"finished": "now"}),
        '{"looks": "two"}',
    ],
)
def test_history_when_a_line_is_damaged_then_it_is_named_and_counts(
    tmp_path: Path, line: str
) -> None:
    """Whoever reads the trend is told; the gate goes on, and takes it for a look."""
    for head in ("first", "second"):
        remember(make_verdict(tmp_path, head=head))
    path = tmp_path / "verdicts.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{line}\n{second}\n")

    noted = looks_at(tmp_path)

    assert noted["looks"] == 4
    assert noted["history_warning"].endswith("counted as looks: 2")
    with pytest.raises(ArtifactError, match=r"verdicts\.jsonl: line 2 is damaged"):
        read_history(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("looks", True), ("drop_points", "1"), ("candidate", None), ("more", 1)]
)
def test_history_when_a_value_has_another_type_then_the_line_is_damaged(
    tmp_path: Path, key: str, value: object
) -> None:
    """A line is read strictly: it was written by the gate or by nobody."""
    remember(make_verdict(tmp_path))
    path = tmp_path / "verdicts.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}) + "\n")

    with pytest.raises(ArtifactError, match="line 1 is damaged"):
        read_history(tmp_path)


def test_history_when_the_last_line_was_cut_then_the_next_stands_by_itself(tmp_path: Path) -> None:
    """A run that was killed while it wrote must not take the next one's line with it."""
    remember(make_verdict(tmp_path))
    path = tmp_path / "verdicts.jsonl"
    path.write_text(path.read_text() + '{"finished": "20')

    assert remember(make_verdict(tmp_path, head="another")) == ""

    assert json.loads(path.read_text().splitlines()[2])["looks"] == 3


def test_history_when_two_runs_end_at_once_then_both_are_counted(tmp_path: Path) -> None:
    """The lock keeps the lines apart and the count right."""
    with ThreadPoolExecutor(4) as runs:
        problems = list(
            runs.map(remember, [make_verdict(tmp_path, head=str(n)) for n in range(20)])
        )

    assert problems == [""] * 20
    assert [entry.looks for entry in read_history(tmp_path)] == list(range(1, 21))


def test_history_when_another_process_holds_the_lock_then_a_warning_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run never waits for ever, and never breaks."""
    monkeypatch.setattr(history, "LOCK_TIMEOUT_SECONDS", 0)

    with FileLock(tmp_path / ".verdicts.jsonl.lock"):
        warning = remember(make_verdict(tmp_path))

    assert "could not be added" in warning
    assert read_history(tmp_path) == []


def test_history_when_it_cannot_be_written_or_read_then_a_warning_is_returned(
    tmp_path: Path,
) -> None:
    """A directory in its place stands for any error of the file system."""
    (tmp_path / "verdicts.jsonl").mkdir()

    noted = looks_at(tmp_path)

    assert "could not be added" in remember(make_verdict(tmp_path))
    assert noted["looks"] is None
    assert "cannot be read" in noted["history_warning"]
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_history(tmp_path)


def test_warning_when_there_is_one_already_then_both_are_kept() -> None:
    """The second does not hide the first."""
    facts = with_warning(with_warning({"split": {}}, "damaged"), "full disk")

    assert facts["split"]["history_warning"] == "damaged. full disk"


@given(looks=st.integers(1, 10**6))
def test_looks_when_described_then_the_count_and_the_rates_are_said(looks: int) -> None:
    """How often, and what it does to the error rate."""
    text = describe_looks(looks)

    assert ("once" if looks == 1 else f"{looks:,} times") in text
    assert "looking 1/3/5/10 times passes 5/14/23/40% of the time" in text


@pytest.mark.parametrize("is_folder_deleted", [False, True])
def test_looks_when_the_history_was_deleted_then_the_lost_verdicts_still_count(
    tmp_path: Path, is_folder_deleted: bool
) -> None:
    """The count begins anew neither with the file's end nor with the whole folder's."""
    directory = tmp_path / "test-set"
    directory.mkdir()
    for head in ("a", "b", "c"):
        remember(make_verdict(directory, head=head))
    assert looks_at(directory, head="d")["history_lost"] == 0
    if is_folder_deleted:
        shutil.rmtree(directory)
        directory.mkdir()
    else:
        (directory / "verdicts.jsonl").unlink()

    split = looks_at(directory, head="d")
    remember(make_verdict(directory, head="d"))

    assert (split["looks"], split["history_lost"]) == (4, 3)
    assert "the history was lost: 3 verdicts" in split["history_warning"]
    assert read_history(directory)[0].looks == 4
    assert looks_at(directory, head="e")["history_lost"] == 3
