"""A run whose nucleotides are embedded by a checkpoint's own code."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import dynamic_module_utils

from harness.config import load_config
from harness.errors import MissingInput
from harness.pipeline import Pipeline
from harness.pipeline.facts import describe_run
from tests.cli.test_commands import write_sequences
from tests.embedding.nucleotide.test_dnabert import write_checkpoint


@pytest.fixture
def gate_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return settings that name a checkpoint with code, without leave to run it."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    write_checkpoint(tmp_path / "dna", tmp_path / "trace")
    path = write_sequences(tmp_path)
    path.write_text(f'{path.read_text()}[nucleotide]\nmodel = "dna"\n')
    return path


def test_run_when_code_of_a_checkpoint_ran_then_its_digest_is_on_record(
    gate_toml: Path, tmp_path: Path
) -> None:
    """A verdict says which foreign code had a part in it."""
    gate_toml.write_text(f"{gate_toml.read_text()}trust_remote_code = true\n")
    run = Pipeline(load_config(gate_toml), tmp_path / "work")

    store = run.vectors.nucleotide_embeddings()

    code = describe_run(run)["artifacts"]["nucleotide code"]
    assert (len(store), store.dim) == (120, 8)
    assert (code["path"], len(code["sha256"])) == (str(tmp_path / "dna"), 64)


def test_run_when_the_settings_do_not_allow_it_then_no_code_runs(
    gate_toml: Path, tmp_path: Path
) -> None:
    """The setting reaches the loader, and its absence too."""
    run = Pipeline(load_config(gate_toml), tmp_path / "work")

    with pytest.raises(MissingInput, match="trust_remote_code = true"):
        run.vectors.nucleotide_embeddings()

    assert not (tmp_path / "trace").exists()
