"""What a side may bring in place of a model, and which criteria that leaves to be judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config import load_config
from harness.data.formats.virnucpro import write_merged
from harness.pipeline import Pipeline

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


def write_features(profiles: Path, work: Path) -> None:
    """Write the baseline's features of all records as VirNucPro's merged files."""
    pipeline = Pipeline(load_config(profiles / "tiny.toml"), work)
    records = pipeline.samples.records()
    for label, name in ((1, "viral_merged"), (0, "bacteria_merged")):
        ids = records["id"][records["label"] == label]
        (profiles / "merged" / name).mkdir(parents=True)
        write_merged(
            profiles / "merged" / name / "output_1_merged.pt",
            ids.tolist(),
            pipeline.vectors.features("baseline", ids),
            label=label,
        )


def test_gate_when_the_baseline_brings_features_and_a_model_then_all_six_are_judged(
    run_gate: Run, profiles: Path, pytester: pytest.Pytester
) -> None:
    """Its head is trained on the features; the model is timed, and must be what made them."""
    write_features(profiles, pytester.path / "work")
    gate_toml = bring(profiles, 'features = "merged"')

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert [r["state"] for r in outcome.verdict["criteria"]] == ["PASS"] * 6
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
    (profiles / "baseline.json").write_text('{"accuracy": 0.95, "n": 210000}')
    gate_toml = bring(profiles, 'metrics = "baseline.json"', instead_of_model=True)

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("accuracy-drop") in ("PASS", "INCONCLUSIVE")
    assert "unpaired" in outcome.detail("accuracy-drop")
    assert outcome.state("baseline-sanity") == "PASS"
    assert outcome.state("embedding-time") == "NOT_RUN"
