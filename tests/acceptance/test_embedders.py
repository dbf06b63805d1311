"""The whole gate with embedders of two kinds: ESM2 in our engine, ProtT5 in transformers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.embedding.random_weights import write_random_checkpoint
from tests.embedding.test_transformers_encoder import write_prot_t5

from .conftest import Outcome

GATE_TOML = """
device = "cpu"
data.viral = ["viral"]
data.nonviral = ["nonviral"]
data.taxonomy = "taxonomy.tsv"
data.test_fraction = "0.3"
baseline = {name = "tiny ESM2", model = "esm2"}
candidate = {name = "tiny ProtT5", kind = "transformers", model = "prot_t5"}
nucleotide = {kind = "kmer", k = 1}
training = {epochs = 12, learning_rate = "0.0005"}
timing = {sequences = 20}
"""


def test_gate_when_the_candidate_is_prot_t5_then_all_is_judged_and_the_engines_are_named(
    run_gate: Callable[..., Outcome], pytester: pytest.Pytester
) -> None:
    """A third embedder is one entry in a config."""
    folder = pytester.path / "acceptance" / "profiles"
    (folder / "esm2").mkdir()
    write_random_checkpoint(
        folder / "esm2", layers=1, hidden_size=96, heads=2, intermediate_size=32, seed=1
    )
    write_prot_t5(folder / "prot_t5", width=320)
    (folder / "gate.toml").write_text(GATE_TOML)

    outcome = run_gate("-m", "gpu", "--gate-config", str(folder / "gate.toml"))

    assert outcome.exit_code == 0, outcome.verdict["halted_by"]
    assert {row["state"] for row in outcome.verdict["criteria"]} == {"PASS"}
    engines = [outcome.verdict[side]["engine"] for side in ("baseline", "candidate")]
    assert engines == ["packed ESM2 encoder", "transformers"]
    assert outcome.verdict["extraction"]["candidate"]["n_truncated"] == 0
    assert "The two sides run in different engines (baseline: packed ESM2" in outcome.report
