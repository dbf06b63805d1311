"""A run's test windows: embedded with the records, scored by both sides, judged and written."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.config import load_config
from harness.criteria.result import State
from harness.data.windows import cut_windows, open_frames
from harness.pipeline import Judge, Pipeline
from harness.pipeline.stages import read_predictions
from tests.pipeline.conftest import SETTINGS


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Return a finished run on FASTA pairs whose genomes are named."""
    folder = tmp_path_factory.mktemp("run")
    rng = random.Random(1)
    for name, letters in (("viral", "ACG"), ("bacteria", "CGA")):
        genomes = {f"{name}{n}": "".join(rng.choices(letters, (1, 2, 4), k=5_000)) for n in "12"}
        frames = [
            next(open_frames(accession, number, window))
            for accession, sequence in genomes.items()
            for number, window in cut_windows(sequence)
        ]
        pairs = {"nucleotide": "nucleotides", "protein": "protein"}
        for kind, column in pairs.items():
            lines = [f">{each.id}\n{getattr(each, column)}\n" for each in frames]
            (folder / f"{name}_{kind}.fa").write_text("".join(lines))
        lines = [f">{accession}\n{sequence}\n" for accession, sequence in genomes.items()]
        (folder / f"{name}.fna").write_text("".join(lines))
    named = 'nonviral = ["bacteria"]\nwindows = ["viral.fna", "bacteria.fna"]'
    text = SETTINGS.replace('nonviral = ["bacteria"]', named)
    (folder / "gate.toml").write_text(text)
    pipeline = Pipeline(load_config(folder / "gate.toml"), folder / "work")
    pipeline.deployed()
    return pipeline


def test_frames_when_embedded_then_stand_in_the_records_store_and_in_no_part(
    pipeline: Pipeline,
) -> None:
    """The unannotated frames of test windows are embedded once; none is trained or tested on."""
    records, frames = pipeline.samples.records(), pipeline.samples.windows().frames
    others = set(frames["id"]) - set(records["id"])
    split = pipeline.samples.split()
    assert len(others) > len(split.test)
    store = pipeline.vectors.embeddings("candidate").store
    assert set(store.ids) == set(records["id"]) | others
    assert others.isdisjoint({*split.train, *split.validation, *split.test})
    assert pipeline.predictions()["id"].tolist() == split.test.tolist()


def test_windows_when_judged_then_are_those_of_virnucpros_two_files(pipeline: Pipeline) -> None:
    """What is written in VirNucPro's format says of each window what is judged."""
    windows = Judge(pipeline).windows()
    assert windows is not None
    assert len(windows) == len(pipeline.samples.split().test)
    files = pipeline.files()
    for side in ("baseline", "candidate"):
        path = files[f"{side}_prediction_results_highestscore.csv"]["path"]
        written = pd.read_csv(path).set_index("Modified_ID")["Is_Virus"]
        expected = windows.set_index("window_id")[f"{side}_score"].astype(bool)
        assert written.to_dict() == expected.to_dict()


def test_results_when_brought_as_predictions_then_judge_the_same_windows(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """VirNucPro's own file of a side's frames takes the place of that side's head."""
    path = Path(pipeline.files()["baseline_prediction_results.txt"]["path"])
    named = tmp_path / "prediction_results.txt"
    other_window = "other_chunk_1F1\tvirus\t0.25\t0.75\n"
    named.write_text(path.read_text() + other_window)
    baseline = replace(pipeline.config.baseline, predictions=named)
    config = replace(pipeline.config, baseline=baseline)
    again = Pipeline(config, pipeline.cache.work_dir)
    found, expected = again.deployed().windows, pipeline.deployed().windows
    assert found is not None
    assert expected is not None
    pd.testing.assert_frame_equal(found, expected[list(found)])  # without other seeds' heads


def test_windows_when_a_side_brings_its_rows_alone_then_the_reservation_says_so(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """Predictions of the test rows are judged by rows, and the report says that this is less."""
    pipeline.scores("baseline").to_parquet(tmp_path / "rows.parquet")
    baseline = replace(pipeline.config.baseline, predictions=tmp_path / "rows.parquet")
    run = Pipeline(replace(pipeline.config, baseline=baseline), pipeline.cache.work_dir)
    n_rows = len(read_predictions(tmp_path / "rows.parquet"))
    assert run.deployed().windows is None
    (sentence,) = run.deployed().reservations
    assert sentence.startswith(
        f"Not judged as deployed: of the test windows the baseline brings {n_rows} of their"
    )


def test_windows_when_no_genome_is_known_then_accuracy_is_judged_and_cannot_pass(
    pipeline: Pipeline,
) -> None:
    """Without a taxonomy the windows, like the rows, lack what a PASS takes; no error."""
    windows = Judge(pipeline).windows()
    assert windows is not None
    assert "genome" not in windows
    result = Judge(pipeline)("accuracy-drop")
    assert result.state in {State.FAIL, State.INCONCLUSIVE}
    assert "By windows, as deployed" in result.detail
