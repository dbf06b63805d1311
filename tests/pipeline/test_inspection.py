"""What is inspected where both sides bring features: their nucleotide columns are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.config import load_config
from harness.data.virnucpro import write_merged
from harness.pipeline import Pipeline
from harness.pipeline.judge import inspect_embeddings
from tests.cli.test_commands import write_sequences

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
    records = Pipeline(load_config(config), tmp_path / "work").samples.records()
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
