"""The table that accuracy is judged by: made anew from whatever it hangs on, or refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness.artifacts import digest_file
from harness.config import load_config
from harness.errors import ArtifactError, DataError
from harness.pipeline import Pipeline, stages
from harness.pipeline.stages import read_predictions
from tests.cli.test_commands import write_sequences

BROUGHT = """
[baseline]
name = "b"
predictions = "scores.csv"
[candidate]
name = "c"
predictions = "scores.csv"
"""


ACCESSIONS = [f"{source}{n}" for source in ("viral", "bacteria") for n in range(6)]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a gate.toml: both sides bring the same scores, and a taxonomy knows all genomes."""
    monkeypatch.setenv("PATH", "")  # no MMseqs2, for which these proteins are too short
    path = write_sequences(tmp_path)
    text = path.read_text().partition("[baseline]")[0]
    path.write_text(f'{text}taxonomy = "taxonomy.tsv"\n{BROUGHT}')
    write_taxonomy(path, {name: name for name in ACCESSIONS})
    test = open_run(path).samples.split().test
    pd.DataFrame({"id": test, "score": 0.5}).to_csv(tmp_path / "scores.csv", index=False)
    return path


def write_taxonomy(config: Path, genomes: dict[str, str]) -> None:
    """Write the genome of each accession."""
    lines = [f"{name}\tlineage\t{genome}\n" for name, genome in genomes.items()]
    (config.parent / "taxonomy.tsv").write_text("".join(lines))


def open_run(config: Path) -> Pipeline:
    """Return the run, as a new process would open it."""
    return Pipeline(load_config(config), config.parent / "work")


def test_predictions_when_the_taxonomy_was_corrected_then_they_have_the_new_genomes(
    config: Path,
) -> None:
    """The scores are the same, and what they are judged by is not."""
    before = open_run(config).predictions()
    write_taxonomy(config, dict.fromkeys(ACCESSIONS, "one assembly"))

    after = open_run(config).predictions()

    assert before["genome"].nunique() > 1
    assert after["genome"].unique().tolist() == ["one assembly"]


def test_predictions_when_the_test_set_was_redrawn_then_those_of_the_old_one_are_refused(
    config: Path,
) -> None:
    """The table that was joined for the old one is not taken for them."""
    open_run(config).predictions()
    config.write_text(f"seed = 7\n{config.read_text()}")
    open_run(config).samples.split(redraw=True)

    with pytest.raises(DataError, match="expected predictions of exactly the"):
        open_run(config).predictions()


def test_predictions_when_a_file_is_changed_while_it_is_used_then_it_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest in the verdict is that of what was judged."""
    path = config.parent / "scores.csv"

    def read_slowly(path: Path) -> pd.DataFrame:
        scores = read_predictions(path)
        path.write_text("id,score\n")
        return scores

    monkeypatch.setattr(stages, "read_predictions", read_slowly)

    with pytest.raises(ArtifactError, match="was changed while this run used it"):
        open_run(config).scores("baseline")
    assert path.read_text() == "id,score\n"


def test_files_when_one_is_changed_afterwards_then_they_tell_of_the_one_that_was_judged(
    config: Path,
) -> None:
    """So that no head is authorised that took its place."""
    run = open_run(config)
    run.predictions()
    path = run.cache.artifacts["predictions"].path / "predictions.parquet"
    judged = digest_file(path)
    path.write_text("another")

    assert run.files()["predictions"]["sha256"] == judged


def test_directory_when_the_taxonomy_was_corrected_then_the_test_set_and_its_looks_stay(
    config: Path,
) -> None:
    """What is said of genomes is no other data."""
    before = open_run(config).samples
    directory, test = before.directory(), before.split().test.tolist()
    write_taxonomy(config, dict.fromkeys(ACCESSIONS, "one assembly"))

    after = open_run(config).samples

    assert (after.directory(), after.split().test.tolist()) == (directory, test)
    assert after.records()["genome"].unique().tolist() == ["one assembly"]


def test_sources_when_many_stages_ask_for_them_then_each_is_hashed_once(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be gigabytes."""
    hashed: list[str] = []

    def count(path: Path) -> str:
        hashed.append(path.name)
        return digest_file(path)

    monkeypatch.setattr("harness.pipeline.samples.digest_file", count)
    run = open_run(config)
    run.predictions()
    run.samples.directory()
    run.samples.n_rejected()

    assert len(hashed) == len(set(hashed)) == 5


def test_genomes_when_the_taxonomy_knows_some_then_the_others_are_one(config: Path) -> None:
    """Accessions of which nothing is known may be contigs of one assembly."""
    write_taxonomy(config, {"viral0": "viral0", "bacteria0": "bacteria0"})
    samples = open_run(config).samples
    test = samples.part("test")

    genomes = samples.genomes(test["id"][::-1])

    is_known = test["accession"].isin(["viral0", "bacteria0"])
    expected = test["accession"].where(is_known, "not in the taxonomy")[::-1]
    assert genomes is not None
    assert genomes.tolist() == expected.tolist()
    assert samples.without_taxonomy()["id"].tolist() == test["id"][~is_known].tolist()


def test_genomes_when_nothing_is_known_then_none(config: Path) -> None:
    """Each accession then counts as a genome only for drawing, never for a bound."""
    config.write_text(config.read_text().replace('taxonomy = "taxonomy.tsv"\n', ""))
    samples = open_run(config).samples

    assert samples.genomes(samples.part("test")["id"]) is None
    assert samples.without_taxonomy().empty
