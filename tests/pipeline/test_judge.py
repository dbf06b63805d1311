"""What a run tells the criteria: where heads come from, how they learned, what is inspected."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.config import load_config
from harness.criteria import CriterionResult, State
from harness.criteria.accuracy import explain_drop
from harness.criteria.baseline import explain_baseline
from harness.criteria.criterion import Run
from harness.data import read_records
from harness.data.virnucpro import write_merged
from harness.embedding.random_weights import write_random_checkpoint
from harness.errors import ArtifactError, NotFiniteError
from harness.pipeline import Judge, Pipeline
from harness.pipeline.judge import inspect_embeddings
from tests.pipeline.conftest import SETTINGS, write_sequences

LINEAGES = [{"group": "T4-like", "n": 100, "drop_points": 12.0}]
OVERFITTED = {
    "history": [
        {"train_loss": 0.5, "validation_loss": 0.4},
        {"train_loss": 0.1, "validation_loss": 0.8},
    ],
    "best_epoch": 1,
    "evaluated": "final",
    "recipe": {"epochs": 200},
}


def run(
    *, trained: tuple[str, ...] = (), brought: str | None = None, unknown: tuple[str, ...] = ()
) -> Judge:
    """Return a run of ten test rows that has trained some heads.

    Its baseline brings a head or not; some rows are of accessions that the taxonomy does not know.
    """
    path = Path(brought) if brought else None
    sides = {
        "baseline": SimpleNamespace(predictions=None, checkpoint=path),
        "candidate": SimpleNamespace(predictions=None, checkpoint=None),
    }
    trainings = dict.fromkeys(trained, OVERFITTED)
    samples = SimpleNamespace(
        without_taxonomy=lambda: pd.DataFrame({"accession": list(unknown)}, dtype="str"),
        part=lambda _: pd.DataFrame({"id": range(10)}),
    )
    pipeline = SimpleNamespace(
        config=SimpleNamespace(**sides), trainings=lambda: trainings, samples=samples
    )
    return Judge(cast("Pipeline", pipeline))


def result(state: State, value: int = 6, **facts: Any) -> CriterionResult:
    """Return a judged drop of so many points."""
    return CriterionResult(
        id="accuracy-drop", state=state, value=Fraction(value), detail="", **facts
    )


def test_explain_drop_when_it_failed_then_lineages_and_learning_follow_the_steps() -> None:
    """What was lost comes first, then where, then why."""
    judged = result(State.FAIL, next_steps=("Win back 5 rows.",))

    steps = explain_drop(judged, run(trained=("candidate",)), lineages=LINEAGES).next_steps

    assert steps[0] == "Win back 5 rows."
    assert "T4-like (12 of 100 rows" in steps[1]
    assert steps[2].startswith("Overfitting: the candidate's validation loss rose")


@pytest.mark.parametrize(
    ("state", "value"), [(State.PASS, 1), (State.INCONCLUSIVE, 0), (State.INCONCLUSIVE, -2)]
)
def test_explain_drop_when_nothing_was_lost_then_nothing_is_explained(
    state: State, value: int
) -> None:
    """A test set that is too small is not the head's fault."""
    explained = explain_drop(
        result(state, value), run(trained=("baseline", "candidate")), lineages=LINEAGES
    )

    assert explained == result(state, value)


def test_explain_baseline_when_it_is_near_chance_then_its_training_is_looked_at() -> None:
    """If it was trained here."""
    trained = explain_baseline(result(State.FAIL), run(trained=("baseline",)))
    foreign = explain_baseline(result(State.FAIL), run(trained=("candidate",)))

    assert "the baseline's validation loss rose" in trained.next_steps[0]
    assert foreign.next_steps == ()


def test_explain_when_the_baseline_brings_a_head_then_a_pass_is_marked_as_well() -> None:
    """In both criteria that rest on it, beside what they already say."""
    brought = run(brought="heads/500_model.pth")
    judged = result(State.PASS, warnings=("Recall moved.",))

    for explain in (explain_baseline, explain_drop):
        first, mark = explain(judged, brought).warnings
        assert first == "Recall moved."
        assert "not trained here (500_model.pth): it may have seen the test rows" in mark


@pytest.mark.parametrize("explain", [explain_baseline, explain_drop])
def test_explain_when_rows_are_of_unknown_accessions_then_they_are_counted_and_named(
    explain: Callable[[CriterionResult, Run], CriterionResult],
) -> None:
    """Named where adding them may settle it; a PASS is only marked."""
    strange = run(unknown=("A", "B", "B", "C", "D", "E", "F"))

    passed, open_result = (explain(result(s), strange) for s in (State.PASS, State.INCONCLUSIVE))

    for explained in (passed, open_result):
        assert explained.warnings == (
            "7 of 10 test rows are of accessions that the taxonomy does not know; they count as "
            "one genome",
        )
    assert passed.next_steps == ()
    assert open_result.next_steps[0] == "Add to the taxonomy: A, B, C, D, E and 1 more"


def test_judge_when_nothing_was_timed_then_the_time_is_an_error() -> None:
    """A time that nobody measured is not within the limit."""
    with pytest.raises(ArtifactError, match="nothing was timed: run acceptance/ whole"):
        run()("embedding-time")


def test_judge_when_there_is_no_such_criterion_then_the_others_are_named() -> None:
    """A misspelt name in an acceptance test must not pass for a criterion."""
    with pytest.raises(ValueError, match="no criterion 'accuracy'; there are accuracy-drop"):
        run()("accuracy")


DNABERT_DIM, PROTEIN_DIM = 768, 4


@pytest.mark.parametrize(("column", "differs"), [(767, True), (768, False)])
def test_inspect_when_both_bring_features_then_the_nucleotides_must_be_the_same(
    tmp_path: Path, column: int, differs: bool
) -> None:
    """The last of DNABERT-S's columns is one of them; the first of the protein's may differ."""
    config = write_sequences(tmp_path)
    text = config.read_text()
    for name in ("b", "c"):
        text = text.replace(f'name = "{name}"', f'name = "{name}"\nfeatures = "{name}"')
    config.write_text(text)
    records = read_records([tmp_path / "viral"], [tmp_path / "bacteria"]).records
    shape = (len(records), DNABERT_DIM + PROTEIN_DIM)
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for name, told in (("b", 0), ("c", 100)):
        features[:, column] += told
        for label, folder in ((0, "bacteria_merged"), (1, "viral_merged")):
            is_class = (records["label"] == label).to_numpy()
            path = tmp_path / name / folder / "output_1_merged.pt"
            path.parent.mkdir(parents=True)
            ids = records["id"][is_class].tolist()
            write_merged(path, ids, features[is_class], label=label)

    baseline, candidate = inspect_embeddings(Pipeline(load_config(config), tmp_path / "work"))

    assert (baseline.name, baseline.differs) == ("baseline features", False)
    assert (candidate.name, candidate.differs) == ("candidate features", differs)


def test_embeddings_when_they_overflow_then_integrity_fails_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    """A model too large for float16 is no error of the gate's, and no record is to blame."""
    (tmp_path / "large").mkdir()
    write_random_checkpoint(
        tmp_path / "large", layers=1, hidden_size=8, heads=1, intermediate_size=8, seed=2
    )
    path = tmp_path / "large" / "model.safetensors"
    weights = load_file(path)
    name = "esm.encoder.layer.0.output.dense.bias"
    save_file(weights | {name: torch.full_like(weights[name], 1e5)}, path)
    toml = write_sequences(tmp_path)
    toml.write_text(SETTINGS.replace(
        SETTINGS.splitlines()[11], 'model = "large"\ndtype = "float16"'
    ))  # fmt: skip

    result = Judge(Pipeline(load_config(toml), tmp_path / "work"))("embedding-integrity")

    assert (result.state, result.next_steps) == (State.FAIL, (f"{NotFiniteError.remedy}.",))
    assert "large in float16" in result.detail
