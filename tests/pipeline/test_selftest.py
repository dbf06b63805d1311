"""The self-test of the gate: it notices each planted fault, and notices a gate that does not."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from harness import cli
from harness.config import Thresholds, load_config
from harness.criteria import CriterionResult, State
from harness.errors import ArtifactError
from harness.pipeline import Pipeline
from harness.pipeline.facts import FaultOutcome, SelfTestResult, describe_run
from harness.pipeline.selftest import list_plantings, run_selftest, show_selftest
from harness.report.effort import environment_blocks
from harness.verdict.contents import Verdict, build
from tests.criteria.conftest import write_class_balance

CONFIG = """
device = "cpu"
threads = 1
[data]
viral = ["viral"]
nonviral = ["nonviral"]
taxonomy = "taxonomy.tsv"
test_fraction = "0.5"
[baseline]
name = "baseline"
random_weights = {layers = 1, hidden_size = 16, heads = 1, intermediate_size = 16, seed = 1}
[candidate]
name = "candidate"
random_weights = {layers = 1, hidden_size = 12, heads = 1, intermediate_size = 8, seed = 2}
[nucleotide]
kind = "kmer"
k = 2
[training]
epochs = 6
hidden_dim = 16
learning_rate = "0.02"
"""
ENDED = datetime(2026, 1, 2, tzinfo=UTC)
PLANTINGS = list_plantings()


def write_sequences(folder: Path) -> None:
    """Write 200 records a class that differ in composition; ten of 40 genomes are one lineage."""
    rng = np.random.default_rng(0)
    rows = []
    for name, shares in (
        ("viral", (0.23, 0.27, 0.27, 0.23)),
        ("nonviral", (0.27, 0.23, 0.23, 0.27)),
    ):
        ids = [f"{name}{n % 40}_chunk_{n}F1" for n in range(200)]
        rows += [f"{name}{g}\t{name} {'A' if g < 10 else g}\n" for g in range(40)]
        for kind, letters, p in (
            ("nucleotide", "ACGT", shares),
            ("protein", "ACDEF" if name == "viral" else "GHIKL", None),
        ):
            texts = ["".join(rng.choice(list(letters), 60, p=p)) for _ in ids]
            lines = [f">{i}\n{text}\n" for i, text in zip(ids, texts, strict=True)]
            (folder / f"{name}_{kind}.fa").write_text("".join(lines))
    (folder / "taxonomy.tsv").write_text("".join(rows))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Return a small run with all its stages done."""
    folder = tmp_path_factory.mktemp("finished")
    write_sequences(folder)
    (folder / "gate.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")  # no search for similar proteins
        pipeline = Pipeline(load_config(folder / "gate.toml"), folder / "work")
        pipeline.predictions()
        yield pipeline


def work_dir(pipeline: Pipeline) -> Path:
    """Return where the artifacts of a run lie."""
    return pipeline.cache.work_dir


def selftest(pipeline: Pipeline, *names: str, keep_in: Path | None = None) -> SelfTestResult:
    """Run the self-test with some faults, or all; every reading of the clock is 1 s later."""
    ticks = count()
    return run_selftest(
        pipeline,
        keep_in or work_dir(pipeline),
        plantings=[(c, fault) for c, fault in PLANTINGS if not names or fault.name in names],
        clock=lambda: float(next(ticks)),
        now=lambda: ENDED,
    )


def missed(result: SelfTestResult) -> set[str]:
    """Return the faults that were not taken as expected."""
    return {outcome.fault for outcome in result.outcomes if not outcome.is_caught}


def test_selftest_when_the_gate_is_honest_then_every_fault_is_caught(
    finished: Pipeline, tmp_path: Path
) -> None:
    """Sixteen faults, each noticed by the criterion that should."""
    result = selftest(finished, keep_in=tmp_path)

    assert missed(result) == set()
    assert len(result.outcomes) == 16


def test_selftest_when_a_criterion_is_another_packages_then_its_faults_are_planted(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the answers of the run, with no more than its own module."""
    write_class_balance(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    criterion = importlib.import_module("class_balance").CRITERION
    plantings = [(criterion, fault) for fault in criterion.faults()]

    (outcome,) = run_selftest(finished, tmp_path, plantings=plantings).outcomes

    assert (outcome.criterion, outcome.found, outcome.is_caught) == (
        "class-balance",
        State.FAIL,
        True,
    )
    assert outcome.detail.startswith("The larger class holds 100.0%")


@pytest.mark.parametrize(
    ("function", "criterion"),
    [
        ("criteria.accuracy.judge_accuracy", "accuracy-drop"),
        ("pipeline.stopwatch.measure_until_settled", "embedding-time"),
        ("criteria.representative.judge_representative", "representative-split"),
        ("criteria.split_integrity.judge_split_integrity", "split-integrity"),
        ("criteria.baseline.judge_baseline", "baseline-sanity"),
        ("criteria.embedding_integrity.judge_embeddings", "embedding-integrity"),
        ("criteria.assay_sensitivity.judge_assay", "assay-sensitivity"),
    ],
)
def test_selftest_when_a_criterion_always_passes_then_its_faults_are_missed(
    finished: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    function: str,
    criterion: str,
) -> None:
    """A gate that lets everything through is what the self-test is for."""
    blind = CriterionResult(id=criterion, state=State.PASS, detail="fine", value=Fraction(0))
    monkeypatch.setattr(f"harness.{function}", lambda *_, **__: blind)

    judged = (f for c, f in PLANTINGS if c.id == criterion and State.ERROR not in f.expected)
    must_fail = {fault.name for fault in judged if State.PASS not in fault.expected}

    assert missed(selftest(finished, *must_fail, keep_in=tmp_path)) == must_fail


def test_selftest_when_a_criterion_always_fails_then_what_should_pass_is_missed(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A gate that refuses everything is broken, too."""
    harsh = CriterionResult(id="accuracy-drop", state=State.FAIL, detail="bad")
    monkeypatch.setattr("harness.criteria.accuracy.judge_accuracy", lambda *_, **__: harsh)

    must_not = {"candidate = baseline: predictions", "4% of the rows flipped"}

    assert missed(selftest(finished, *must_not, keep_in=tmp_path)) == must_not


def test_selftest_when_the_drop_is_not_the_planted_one_then_it_is_missed(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The right state for a wrong number is luck."""
    wrong = CriterionResult(id="accuracy-drop", state=State.FAIL, detail="bad", value=Fraction(9))
    monkeypatch.setattr("harness.criteria.accuracy.judge_accuracy", lambda *_, **__: wrong)

    assert missed(selftest(finished, "8% of the rows flipped", keep_in=tmp_path))


def test_selftest_when_missing_predictions_are_passed_over_then_it_is_missed(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Comparing the rows that are left is how a truncated file slips through."""

    def join(
        rows: pd.DataFrame, baseline: pd.DataFrame, candidate: pd.DataFrame, _: object
    ) -> pd.DataFrame:
        sides = {"baseline": baseline, "candidate": candidate}
        for side, scores in sides.items():
            rows = rows.merge(scores.rename(columns={"score": f"{side}_score"}), on="id")
        return rows

    monkeypatch.setattr("harness.pipeline.stages.join_predictions", join)

    assert missed(selftest(finished, "truncated predictions", keep_in=tmp_path))


def test_selftest_when_a_criterion_breaks_then_its_error_is_shown_and_the_rest_is_run(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An exception is a state, as in the gate; an error that names no ids proves nothing."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such column")

    monkeypatch.setattr("harness.pipeline.stages.join_predictions", broken)

    result = selftest(finished, "truncated predictions", "a test row in training", keep_in=tmp_path)

    assert missed(result) == {"truncated predictions"}
    assert [outcome.detail for outcome in result.outcomes if not outcome.is_caught] == [
        "RuntimeError: no such column"
    ]


def test_selftest_when_the_limits_are_loosened_then_the_deployments_still_hold(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is tested is the gate, not the configuration."""
    loose = Thresholds(max_accuracy_drop_points=Fraction(50), max_time_ratio=Fraction(2))
    monkeypatch.setattr(finished, "config", dataclasses.replace(finished.config, thresholds=loose))

    assert missed(selftest(finished, "8% of the rows flipped", keep_in=tmp_path)) == set()


def test_selftest_when_it_has_run_then_the_work_directory_holds_nothing_of_the_faults(
    finished: Pipeline,
) -> None:
    """A planted fault that is kept would poison the next run."""
    finished.vectors.features("baseline", finished.samples.split().test)
    before = {path for path in work_dir(finished).rglob("*") if "selftest" not in str(path)}

    selftest(finished, *(f.name for c, f in PLANTINGS if c.id != "representative-split"))

    after = {path for path in work_dir(finished).rglob("*") if "selftest" not in str(path)}
    assert after == before


def test_facts_when_a_selftest_is_kept_then_the_verdict_tells_it(finished: Pipeline) -> None:
    """Counts and time, for the same configuration."""
    selftest(finished, "50% of the time")

    expected = {"passed": 1, "failed": 0, "total": 1, "finished": "2026-01-02T00:00:00+00:00"}
    assert describe_run(finished)["selftest"] == expected


def test_facts_when_the_selftest_is_of_another_configuration_then_it_is_not_told(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed is another run."""
    selftest(finished, "50% of the time")
    monkeypatch.setattr(finished, "config", dataclasses.replace(finished.config, seed=7))

    assert "selftest" not in describe_run(finished)


def test_facts_when_the_selftest_is_of_another_version_then_it_is_not_told(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version's criteria are other criteria."""
    selftest(finished, "50% of the time")
    monkeypatch.setattr("harness.pipeline.facts.__version__", "99")

    assert "selftest" not in describe_run(finished)


def test_facts_when_the_kept_selftest_is_damaged_then_it_says_what_to_do(
    finished: Pipeline,
) -> None:
    """A result that cannot be read is no result."""
    selftest(finished, "50% of the time")
    (kept,) = (work_dir(finished) / "selftest").glob("*.json")
    kept.write_text("{}")

    with pytest.raises(ArtifactError, match="run harness selftest"):
        describe_run(finished)
    kept.unlink()


@pytest.mark.parametrize("is_broken", [False, True])
def test_command_when_a_criterion_is_broken_then_it_exits_1(
    finished: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_broken: bool,
) -> None:
    """The exit code is what a pipeline of checks reads."""
    if is_broken:
        blind = CriterionResult(id="accuracy-drop", state=State.PASS, detail="fine")
        monkeypatch.setattr("harness.criteria.accuracy.judge_accuracy", lambda *_, **__: blind)
    few = tuple(
        p for p in PLANTINGS if p[1].name in ("8% of the rows flipped", "a test row in training")
    )
    monkeypatch.setattr(
        "harness.pipeline.selftest.run_selftest", functools.partial(run_selftest, plantings=few)
    )
    work = work_dir(finished)
    options = ["--gate-config", str(work.parent / "gate.toml"), "--work-dir", str(work)]
    monkeypatch.setattr(sys, "argv", ["harness", "selftest", *options])

    with pytest.raises(SystemExit) as stopped:
        cli.main()

    assert int(stopped.value.code or 0) == is_broken
    shown = capsys.readouterr()
    assert ("2 of 2 as expected" in shown.out) != is_broken
    assert "a test row in training: 1 fault" in shown.err


def outcome(*, is_caught: bool) -> FaultOutcome:
    """Return how the gate took a fault."""
    return FaultOutcome(
        fault="a [leak]",
        criterion="split-integrity",
        expected=(State.FAIL,),
        found=State.FAIL if is_caught else State.PASS,
        detail="Nothing found.",
        is_caught=is_caught,
    )


def shown(result: SelfTestResult, **console: Any) -> str:
    """Return what is printed."""
    stream = io.StringIO()
    show_selftest(result, Console(file=stream, width=100, **console))
    return stream.getvalue()


def test_show_when_a_fault_was_missed_then_the_finding_and_the_count_are_told() -> None:
    """Plain text, one line a fault, and names are not taken for markup."""
    result = SelfTestResult(outcomes=(outcome(is_caught=False),), finished="now")

    lines = shown(result, force_terminal=False).splitlines()

    assert lines[1:] == [
        "a [leak]  split-integrity  FAIL      PASS   NOT AS EXPECTED",
        "a [leak]: PASS. Nothing found.",
        "0 of 1 as expected",
    ]


def test_show_when_in_a_terminal_then_the_table_is_drawn() -> None:
    """With frames, and the same words."""
    result = SelfTestResult(outcomes=(outcome(is_caught=True),), finished="now")

    text = shown(result, force_terminal=True)

    assert "│ a [leak]" in text
    assert "1 of 1 as expected" in text


def test_report_when_the_verdict_holds_a_selftest_then_it_is_shown() -> None:
    """One line beside the environment."""
    kept = {"passed": 11, "failed": 1, "total": 12, "finished": "2026-01-02T00:00:00+00:00"}

    required = {"verdict": "HALT", "rehearsal": True, "profile": "tiny", "started": "now"}
    blank = required | {"halted_by": [], "criteria": []}
    blocks = environment_blocks(build(Verdict, blank | {"selftest": kept}))

    assert "11 of 12 planted faults were taken as expected" in json.dumps(
        [dataclasses.asdict(block) for block in blocks]
    )
