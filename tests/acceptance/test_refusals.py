"""The gate passes an honest run, and refuses each planted fault by the criterion that should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from harness.criteria import REQUIRED_CRITERIA
from harness.data import Split, draw_split, testset
from harness.embedding import Embedder
from harness.embedding.esm.embedder import EsmEmbedder
from harness.pipeline import Side
from harness.pipeline.vectors import Vectors

from .conftest import FakeClock, Outcome, forget, set_seconds

Run = Callable[..., Outcome]


def test_gate_when_nothing_is_wrong_then_all_seven_pass_and_it_is_a_rehearsal(
    run_gate: Run,
) -> None:
    """Real sequences, two models, both heads, every criterion; random weights authorise nothing."""
    outcome = run_gate()

    assert {name: outcome.state(name) for name in REQUIRED_CRITERIA} == dict.fromkeys(
        REQUIRED_CRITERIA, "PASS"
    )
    assert outcome.exit_code == 0
    assert outcome.verdict["verdict"] == "PASS"
    assert outcome.verdict["rehearsal"] is True
    assert outcome.verdict["timing"]["n_out_of_memory"] == {"baseline": 0, "candidate": 0}
    assert (
        outcome.verdict["baseline"]["token_budget"] == outcome.verdict["candidate"]["token_budget"]
    )
    assert "REHEARSAL" in outcome.report


def test_gate_when_the_candidates_features_are_shuffled_then_accuracy_fails(
    run_gate: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    """Rows that belong to other records make a head that knows nothing."""
    honest = Vectors.features

    def shuffled(self: Vectors, side: Side, ids: pd.Series[str]) -> npt.NDArray[np.float32]:
        rows = honest(self, side, ids)
        return np.random.default_rng(0).permutation(rows) if side == "candidate" else rows

    monkeypatch.setattr(Vectors, "features", shuffled)
    forget(pytester, "heads")

    outcome = run_gate()

    assert outcome.state("accuracy-drop") == "FAIL"
    assert outcome.exit_code == 1
    assert "Lineages that lost most" in outcome.report
    assert "The candidate fits even its training rows less well" in outcome.report


def test_gate_when_the_candidates_embeddings_are_shuffled_then_integrity_fails(
    run_gate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedder that mixes up its rows is caught by embedding a few alone."""
    honest = EsmEmbedder.embed

    def mixed(self: EsmEmbedder, *arguments: Any, **settings: Any) -> npt.NDArray[np.float32]:
        return honest(self, *arguments, **settings)[::-1]

    def load(self: Vectors, side: Side, dtype: str) -> Embedder:
        embedder = loaded(self, side, dtype)
        if side == "candidate":
            embedder.digest = "mixed"  # so that it gets a store of its own
            monkeypatch.setattr(type(embedder), "embed", mixed)
        return embedder

    loaded = Vectors._load_embedder
    monkeypatch.setattr(Vectors, "_load_embedder", load)

    outcome = run_gate()

    assert outcome.state("embedding-integrity") == "FAIL"
    assert outcome.exit_code == 1


@pytest.mark.parametrize(("candidate_seconds", "state"), [(2.0, "PASS"), (2.04, "FAIL")])
def test_gate_when_the_candidate_is_slower_than_half_then_time_fails(
    run_gate: Run,
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    candidate_seconds: float,
    state: str,
) -> None:
    """50% of 4 s passes, 51% does not."""
    set_seconds(monkeypatch, clock, baseline=4.0, candidate=candidate_seconds)

    outcome = run_gate()

    assert outcome.state("embedding-time") == state
    assert outcome.exit_code == (0 if state == "PASS" else 1)


def test_gate_when_the_nucleotides_decide_alone_then_the_test_set_proves_nothing(
    run_gate: Run, pytester: pytest.Pytester
) -> None:
    """4-mers tell the embedded viruses apart, so that no protein embedder could fail on them."""
    profile = pytester.path / "acceptance" / "profiles" / "tiny.toml"
    profile.write_text(profile.read_text().replace("k = 1\n", "k = 4\n"))

    outcome = run_gate()

    assert outcome.state("assay-sensitivity") == "INCONCLUSIVE"
    assert "could not have shown the loss" in outcome.detail("assay-sensitivity")
    assert outcome.exit_code == 1


@pytest.mark.slow
def test_gate_when_the_test_set_is_of_one_lineage_then_it_is_not_representative(
    run_gate: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    """A test set of T4-like phages says nothing about the others."""

    def skewed(records: pd.DataFrame, **settings: object) -> Split:
        honest = draw_split(records, **settings)  # type: ignore[arg-type] # passed through
        ids = records.set_index("id")
        viral = honest.test[ids.loc[honest.test, "label"].to_numpy() == 1]
        chosen = ids.index[ids["lineage"] == "T4-like"].to_series()[: len(viral)]
        return swap(honest, out=viral, into=chosen)

    monkeypatch.setattr(testset, "draw_split", skewed)
    forget(pytester, "test-sets")

    outcome = run_gate()

    assert outcome.state("representative-split") == "FAIL"
    assert "T4-like" in outcome.report
    assert outcome.exit_code == 1


def test_gate_when_a_test_row_is_in_training_too_then_the_split_leaks(
    run_gate: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    """One row is enough."""

    def leaking(records: pd.DataFrame, **settings: object) -> Split:
        honest = draw_split(records, **settings)  # type: ignore[arg-type] # passed through
        return swap(honest, out=honest.test[:0], into=honest.test[:1], keep_in_test=True)

    monkeypatch.setattr(testset, "draw_split", leaking)
    forget(pytester, "test-sets")

    outcome = run_gate()

    assert outcome.state("split-integrity") == "FAIL"
    assert outcome.exit_code == 1


def test_gate_when_only_one_criterion_is_selected_then_it_halts(run_gate: Run) -> None:
    """What was not run has not passed."""
    outcome = run_gate("-k", "shares_nothing")

    assert outcome.state("split-integrity") == "PASS"
    assert outcome.state("accuracy-drop") == "NOT_RUN"
    assert outcome.verdict["verdict"] == "HALT"
    assert outcome.exit_code == 1


def test_gate_when_there_is_no_gate_toml_then_everything_is_not_run_with_a_remedy(
    run_gate: Run,
) -> None:
    """The deployment gate does not skip: it halts and says what is missing."""
    outcome = run_gate("-m", "gpu")

    assert {r["state"] for r in outcome.verdict["criteria"]} == {"NOT_RUN"}
    assert "gate.toml" in outcome.verdict["criteria"][0]["detail"]
    assert "--gate-config" in outcome.verdict["criteria"][0]["next_steps"][0]
    assert outcome.exit_code == 1


def test_gate_when_a_gpu_is_asked_for_and_there_is_none_then_the_rest_is_evaluated(
    run_gate: Run, pytester: pytest.Pytester
) -> None:
    """What needs no device is judged; what does is NOT_RUN, and says how to supply it."""
    profile = (pytester.path / "acceptance" / "profiles" / "tiny.toml").read_text()
    gate_toml = pytester.path / "acceptance" / "profiles" / "gate.toml"
    gate_toml.write_text(profile.replace('device = "cpu"', 'device = "cuda"'))

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert outcome.state("split-integrity") == "PASS"
    assert outcome.state("accuracy-drop") == "NOT_RUN"
    assert "finds no GPU" in outcome.report
    assert outcome.exit_code == 1


def test_gate_when_the_production_profile_has_all_it_needs_on_the_cpu_then_it_runs_there(
    run_gate: Run, pytester: pytest.Pytester
) -> None:
    """The same tests serve both profiles; random weights make a rehearsal of either."""
    gate_toml = pytester.path / "acceptance" / "profiles" / "tiny.toml"

    outcome = run_gate("-m", "gpu", "--gate-config", str(gate_toml))

    assert (outcome.exit_code, outcome.verdict["profile"]) == (0, "production")
    assert outcome.verdict["rehearsal_reasons"][0] == "the baseline's weights are random"


def test_gate_when_run_twice_then_the_second_run_reuses_what_is_unchanged(
    run_gate: Run,
) -> None:
    """Nothing is embedded or trained again."""
    run_gate()

    stages = {s["name"]: s["is_reused"] for s in run_gate().verdict["stages"]}

    assert all(stages[name] for name in ("read the records", "embed baseline", "train candidate"))


def swap(
    split: Split, *, out: pd.Series[str], into: pd.Series[str], keep_in_test: bool = False
) -> Split:
    """Return a split with some rows moved out of the test set and others into it."""
    everything = pd.concat([split.train, split.validation, split.test])
    test = pd.concat([split.test[~split.test.isin(out)], into]).drop_duplicates()
    train = everything[~everything.isin(test) & ~everything.isin(split.validation)]
    if keep_in_test:
        train = pd.concat([train, into])
    validation = split.validation[~split.validation.isin(test)]
    return replace(
        split,
        test=test.sort_values(ignore_index=True),
        train=train.sort_values(ignore_index=True),
        validation=validation.sort_values(ignore_index=True),
    )
