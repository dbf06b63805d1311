"""The decision that users read: VirNucPro's rule over a window's frames, and what is made of it."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest

from harness.config import Thresholds
from harness.criteria import State, accuracy, judge_accuracy
from harness.criteria.criterion import Run
from harness.criteria.windows import call_windows, false_positives, join_levels, kinds_that_gain

# A window's viral scores, one a frame, and whether VirNucPro calls it viral: the largest viral
# score is at least the largest other one.
BY_HAND = {
    "one frame, viral": ([0.75], True),
    "one frame, not": ([0.25], False),
    "one frame, a tie": ([0.5], True),
    "two frames, viral by the larger": ([0.75, 0.375], True),
    "two frames, not": ([0.25, 0.625], False),
    "two frames, a tie": ([0.25, 0.75], True),
    "three frames, the mean misleads": ([0.125, 0.75, 0.75], False),
    "four frames, the majority misleads": ([0.25, 0.25, 0.25, 0.875], True),
    "five frames, not": ([0.0625, 0.5, 0.5, 0.75, 0.875], False),
    "two frames, a rounding short of a tie": ([2**-54, 1 - 2**-53], False),
    "six frames, viral": ([0.125, 0.25, 0.5, 0.5, 0.75, 1.0], True),
}


def frames_of(windows: dict[str, list[float]]) -> pd.DataFrame:
    """Return a table of frames, the candidate's scores the baseline's."""
    rows = [(name, score) for name, scores in windows.items() for score in scores]
    table = pd.DataFrame(rows, columns=["window_id", "baseline_score"])
    return table.assign(candidate_score=table["baseline_score"], label=1)


@pytest.mark.parametrize("name", BY_HAND)
def test_windows_when_called_then_follow_virnucpros_rule(name: str) -> None:
    """The call is what VirNucPro's own comparison of the two largest scores says."""
    scores, is_viral = BY_HAND[name]
    assert (max(scores) >= max(1 - score for score in scores)) is is_viral  # its words
    (called,) = call_windows(frames_of({name: scores}))["baseline_score"]
    assert called == is_viral


def test_windows_when_frames_are_shuffled_then_are_called_alike() -> None:
    """The order of the frames decides nothing, and each window has one row."""
    frames = frames_of({name: scores for name, (scores, _) in BY_HAND.items()})
    pd.testing.assert_frame_equal(
        call_windows(frames), call_windows(frames.sample(frac=1, random_state=1))
    )


@pytest.mark.parametrize(
    ("rows", "windows", "expected"),
    [
        (0, 0, State.PASS),
        (0, 40, State.FAIL),
        (40, 0, State.FAIL),
        (0, 18, State.INCONCLUSIVE),
    ],
)
def test_levels_when_joined_then_pass_only_together(
    rows: int, windows: int, expected: State
) -> None:
    """The criterion is no better than the worse of the judgements by rows and by windows."""
    by_rows, by_windows = (
        judge_accuracy([1] * 400, [1] * 400, [0] * lost + [1] * (400 - lost))
        for lost in (rows, windows)
    )
    joined = join_levels(by_rows, by_windows, called("plasmid", 2, 8))
    assert joined.state is expected
    assert joined.value == by_rows.value
    assert joined.evidence["windows"]["b"] == windows
    assert "'plasmid' (40, of 8 genomes)" in joined.reservations[-1]


def called(kind: str, baseline: int, candidate: int, n: int = 40) -> pd.DataFrame:
    """Return windows that are not viral; so many of them the two sides call viral."""
    return pd.DataFrame(
        {
            "label": 0,
            "source_kind": kind,
            "genome": [f"{kind}{number % 8}" for number in range(n)],
            "baseline_score": [1] * baseline + [0] * (n - baseline),
            "candidate_score": [1] * candidate + [0] * (n - candidate),
        }
    )


def test_false_positives_when_counted_then_stand_by_kind_of_source() -> None:
    """Viral windows are no false positives; the gain comes with its interval."""
    viral = called("phage", 40, 40).assign(label=1)
    first, second = false_positives(pd.concat([viral, called("plasmid", 2, 8), called("a", 4, 4)]))
    assert (first["source_kind"], first["n"], first["n_genomes"]) == ("plasmid", 40, 8)
    percents = (first["baseline_percent"], first["candidate_percent"])
    assert percents == pytest.approx((5.0, 20.0))
    assert first["interval"][0] < first["gained_points"] == 15.0 < first["interval"][1]
    assert second["gained_points"] == 0.0


def test_kinds_when_one_gains_more_than_the_limit_then_it_alone_is_named() -> None:
    """A gain of exactly the limit is none to speak of."""
    rows = false_positives(pd.concat([called("plasmid", 2, 5), called("plastid", 2, 4)]))
    (sentence,) = kinds_that_gain(rows, Fraction(5))
    assert "'plasmid' (40, of 8 genomes)" in sentence


def test_drop_when_windows_lose_and_rows_do_not_then_fails() -> None:
    """What users read can lose although the annotated frames do not."""
    n = 400
    rows = pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(n)],
            "label": [i % 2 for i in range(n)],
            "lineage": "",
            "genome": [f"g{i // 4}" for i in range(n)],
            "source_kind": "phage",
        }
    )
    rows = rows.assign(baseline_score=rows["label"], candidate_score=rows["label"])
    lost = rows["candidate_score"].where(rows.index >= 0.08 * n, 1 - rows["candidate_score"])
    run = SimpleNamespace(
        config=SimpleNamespace(thresholds=Thresholds(), seed=42),
        reported_accuracy=lambda: None,
        predictions=lambda: rows,
        windows=lambda: rows.assign(candidate_score=lost),
        genomes=lambda _: rows["genome"],
        trainings=dict,
        caveats=lambda *_: (),
        taxonomy_steps=tuple,
    )
    result = accuracy.judge(cast("Run", run))
    assert result.state is State.FAIL
    assert result.value == 0
    assert result.evidence["windows"]["drop_points"] == 8.0
    measures = {row["group"] for row in result.evidence["window_classes"]}
    assert measures == {"recall (viral)", "specificity (not viral)"}
