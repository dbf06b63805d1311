"""What a side may bring in place of a model, and which criteria that leaves to be judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.config import load_config
from harness.data.virnucpro import write_merged
from harness.pipeline import Pipeline, Side
from harness.training import load_head
from harness.training.head import Head

from .conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def profiles(run_gate: Run, pytester: pytest.Pytester) -> Path:
    """Return the folder with the data and the profile of the run."""
    return pytester.path / "acceptance" / "profiles"


def bring(profiles: Path, addition: str, *, instead_of_model: bool = False) -> Path:
    """Write a gate.toml whose baseline brings something; return it."""
    lines = (profiles / "tiny.toml").read_text().splitlines()
    model = next(line for line in lines if line.startswith("random_weights"))
    lines[lines.index(model)] = addition if instead_of_model else f"{model}\n{addition}"
    path = profiles / "gate.toml"
    path.write_text("\n".join(lines))
    return path


def write_foreign_head(profiles: Path, work: Path, side: Side = "baseline") -> None:
    """Write the head that a side was given as VirNucPro's own tools would."""
    pipeline = Pipeline(load_config(profiles / "tiny.toml"), work)
    head = load_head(pipeline.heads.head(side).path / "head.safetensors")
    torch.save({"model_state_dict": head.state_dict()}, profiles / "500_model.pth")


def warnings_of(outcome: Outcome, criterion: str) -> str:
    """Return the warnings of a criterion in one text."""
    rows = {row["id"]: row for row in outcome.verdict["criteria"]}
    return "; ".join(rows[criterion]["warnings"])


def write_features(
    profiles: Path, work: Path, side: Side = "baseline", *, told: bool = False
) -> None:
    """Write a side's features of all records as VirNucPro's merged files.

    Their first column tells the label, if asked for.
    """
    pipeline = Pipeline(load_config(profiles / "tiny.toml"), work)
    records = pipeline.samples.records()
    for label, name in ((1, "viral_merged"), (0, "bacteria_merged")):
        ids = records["id"][records["label"] == label]
        (profiles / "merged" / name).mkdir(parents=True)
        features = pipeline.vectors.features(side, ids)
        if told:
            features[:, 0] = 100 * label
        write_merged(
            profiles / "merged" / name / "output_1_merged.pt",
            ids.tolist(),
            features,
            label=label,
        )


def test_gate_when_the_baseline_brings_features_and_a_model_then_all_seven_are_judged(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """Its head is trained on the features; the model is timed, and must be what made them."""
    write_features(profiles, pytester.path / "work")
    gate_toml = bring(profiles, 'features = "merged"')

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert [r["state"] for r in outcome.verdict["criteria"]] == ["PASS"] * 7
    stores = next(
        r["evidence"]["stores"]
        for r in outcome.verdict["criteria"]
        if r["id"] == "embedding-integrity"
    )
    assert "baseline features" in [store["name"] for store in stores]


def test_gate_when_the_features_are_of_another_model_then_it_halts(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """A model that did not make the features may not be timed in its place."""
    write_features(profiles, pytester.path / "work")
    gate_toml = bring(profiles, 'features = "merged"')
    gate_toml.write_text(gate_toml.read_text().replace("seed = 1", "seed = 7"))

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("embedding-integrity") == "FAIL"
    assert outcome.state("embedding-time") == "ERROR"
    assert outcome.exit_code == 1


def test_gate_when_features_have_other_nucleotides_then_it_halts(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """The protein embedders are compared; a column that tells the label would decide instead."""
    write_features(profiles, pytester.path / "work", side="candidate", told=True)
    lines = bring(profiles, "").read_text().partition("[candidate]")
    settings = lines[2].replace("random_weights", 'features = "merged"\nrandom_weights', 1)
    gate_toml = profiles / "gate.toml"
    gate_toml.write_text(f"{lines[0]}[candidate]{settings}")

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml), "-k", "whole or accuracy")

    assert outcome.state("embedding-integrity") == "FAIL"
    assert "nucleotide embeddings of the run" in outcome.detail("embedding-integrity")


def test_gate_when_the_baseline_brings_features_alone_then_its_time_is_not_run(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """Accuracy is judged, paired; what has no model cannot be timed, and that blocks."""
    write_features(profiles, pytester.path / "work")
    gate_toml = bring(profiles, 'features = "merged"', instead_of_model=True)

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("accuracy-drop") == "PASS"
    assert outcome.state("embedding-integrity") == "PASS"
    assert outcome.state("embedding-time") == "NOT_RUN"
    assert "no model" in outcome.detail("embedding-time")
    assert outcome.exit_code == 1


def test_gate_when_the_baseline_brings_predictions_alone_then_only_accuracy_is_judged(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """Predictions from elsewhere are joined by id; embeddings and time are not run."""
    pipeline = Pipeline(load_config(profiles / "tiny.toml"), pytester.path / "work")
    pipeline.scores("baseline").to_csv(profiles / "baseline.csv", index=False)
    gate_toml = bring(profiles, 'predictions = "baseline.csv"', instead_of_model=True)

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("accuracy-drop") == "PASS"
    assert outcome.state("embedding-integrity") == "NOT_RUN"
    assert outcome.state("embedding-time") == "NOT_RUN"


def test_gate_when_predictions_are_cut_short_then_accuracy_is_an_error_that_names_some(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """A truncated file is never compared on the rows that are left."""
    pipeline = Pipeline(load_config(profiles / "tiny.toml"), pytester.path / "work")
    scores = pipeline.scores("baseline")
    scores[:-3].to_csv(profiles / "baseline.csv", index=False)
    gate_toml = bring(profiles, 'predictions = "baseline.csv"', instead_of_model=True)

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("accuracy-drop") == "ERROR"
    assert scores["id"].iloc[-1] in outcome.report
    assert outcome.exit_code == 1


def test_gate_when_the_baseline_brings_bare_metrics_then_the_comparison_is_unpaired(
    run_gate: Run, profiles: Path
) -> None:
    """The weakest evidence: the report says so, and embeddings and time are not run."""
    (profiles / "baseline.json").write_text('{"accuracy": 0.87, "n": 210000}')
    gate_toml = bring(profiles, 'metrics = "baseline.json"', instead_of_model=True)

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("accuracy-drop") in ("PASS", "INCONCLUSIVE")
    assert "unpaired" in outcome.detail("accuracy-drop")
    assert outcome.state("baseline-sanity") == "PASS"
    assert outcome.state("embedding-time") == "NOT_RUN"


def test_gate_when_the_baseline_brings_a_head_then_it_is_evaluated_here_and_marked(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """Paired on the test rows, as if it had been trained here; and it may have seen them."""
    write_foreign_head(profiles, pytester.path / "work")
    gate_toml = bring(profiles, 'checkpoint = "500_model.pth"')
    honest = run_gate("-m", "gpu", "--gate-config", str(profiles / "tiny.toml")).verdict

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert [r["state"] for r in outcome.verdict["criteria"]] == ["PASS"] * 7
    assert outcome.verdict["baseline"]["metrics"] == honest["baseline"]["metrics"]
    for criterion in ("accuracy-drop", "baseline-sanity"):
        assert "may have seen the test rows" in warnings_of(outcome, criterion)
    assert "may have seen the test rows" in outcome.report
    assert outcome.verdict["baseline"]["may_have_seen_test_rows"] is True
    assert list(outcome.verdict["training"]) == ["candidate"]


def test_gate_when_the_baseline_brings_a_head_then_the_candidates_is_authorised(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """The candidate was trained here; the baseline's file is recorded, and ships nowhere."""
    write_foreign_head(profiles, pytester.path / "work")
    gate_toml = bring(profiles, 'checkpoint = "500_model.pth"')

    artifacts = run_gate("-m", "gpu", "--gate-config", str(gate_toml)).verdict["artifacts"]

    own = load_head(Path(artifacts["checkpoint"]["path"]))
    assert own.hidden_dim == 512
    assert artifacts["checkpoint"]["sha256"] != artifacts["baseline checkpoint"]["sha256"]
    assert artifacts["baseline checkpoint"]["path"].endswith("500_model.pth")


def test_gate_when_the_head_is_of_another_width_then_the_error_names_the_embedder(
    run_gate: Run, profiles: Path
) -> None:
    """A head for ESM2 3B is never fed other features."""
    torch.save({"model_state_dict": Head(3328).state_dict()}, profiles / "500_model.pth")
    gate_toml = bring(profiles, 'checkpoint = "500_model.pth"')

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("accuracy-drop") == "ERROR"
    assert "ESM2 3B" in outcome.detail("accuracy-drop")


def test_gate_when_the_head_is_not_there_then_accuracy_is_not_run(
    run_gate: Run, profiles: Path
) -> None:
    """The remedy stands in the report; nothing is trained in its place."""
    gate_toml = bring(profiles, 'checkpoint = "500_model.pth"')

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("accuracy-drop") == "NOT_RUN"
    assert "500_model.pth: no such file" in outcome.detail("accuracy-drop")


def test_gate_when_the_candidate_brings_a_head_then_there_is_no_checkpoint_to_authorise(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """Whether it has seen the test rows is not known, so even a PASS names no file to deploy."""
    write_foreign_head(profiles, pytester.path / "work", "candidate")
    text = (profiles / "tiny.toml").read_text()
    named = text.replace('name = "candidate"', 'name = "candidate"\ncheckpoint = "500_model.pth"')
    (profiles / "gate.toml").write_text(named)

    outcome = run_gate("-m", "gpu", "--gate-config", str(profiles / "gate.toml"))

    assert outcome.state("accuracy-drop") == "PASS"
    assert "the drop too small" in warnings_of(outcome, "accuracy-drop")
    assert "checkpoint" not in outcome.verdict["artifacts"]
