"""What accuracy is judged by: read, joined by id, made anew where need be, or refused."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.artifacts import digest_file
from harness.config import load_config
from harness.data import read_records
from harness.errors import ArtifactError, DataError, MissingInput
from harness.pipeline import Judge, Pipeline, stages
from harness.pipeline.stages import join_predictions, read_metrics, read_predictions
from tests.pipeline.conftest import SETTINGS, write_sequences

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
    lines = [f"{name}\tSomeviridae\t{genome}\n" for name, genome in genomes.items()]
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
    open_run(config).samples.drawn(redraw=True)

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
    path = run.cache.obtained["predictions"].path / "predictions.parquet"
    judged = digest_file(path)
    path.write_text("another")

    assert run.files()["predictions"]["sha256"] == judged


def test_predictions_when_the_kept_table_and_its_manifest_were_forged_then_refused(
    config: Path,
) -> None:
    """Rows are those of the split and scores those of now, whatever a cached file says."""
    first = open_run(config)
    honest = first.predictions()
    folder = first.cache.obtained["predictions"].path
    pd.testing.assert_frame_equal(open_run(config).predictions(), honest)
    honest.iloc[18:].to_parquet(folder / "predictions.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {"predictions.parquet": digest_file(folder / "predictions.parquet")}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(ArtifactError, match="holds other rows than were computed just now"):
        open_run(config).predictions()


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
    known = [f"{label}{number}" for label in ("viral", "bacteria") for number in range(3)]
    write_taxonomy(config, {name: name for name in known})
    samples = open_run(config).samples
    test = samples.part("test")

    genomes = samples.genomes(test["id"][::-1])

    is_known = test["accession"].isin(known)
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


def scores(ids: list[str]) -> pd.DataFrame:
    """Return a score for each id that tells the ids apart."""
    return pd.DataFrame({"id": ids, "score": [int(name) / 1000 for name in ids]})


def write(path: Path, text: str) -> Path:
    """Write a text file and return its path."""
    path.write_text(text, encoding="utf-8")
    return path


def test_read_when_csv_then_ids_stay_text_and_other_columns_are_ignored(tmp_path: Path) -> None:
    """007 and NA are ids like any other."""
    path = write(tmp_path / "p.csv", "id,label,score\n007,1,0.75\nNA,0,1e-3\n")

    found = read_predictions(path)

    assert found.to_dict("list") == {"id": ["007", "NA"], "score": [0.75, 0.001]}


def test_read_when_gzipped_or_parquet_then_read_alike(tmp_path: Path) -> None:
    """By its name; scores of float32 become float64."""
    table = pd.DataFrame({"id": ["a", "b"], "score": np.array([0.25, 1.0], dtype="float32")})
    table.to_csv(tmp_path / "p.csv.gz", index=False)
    table.to_parquet(tmp_path / "p.parquet")

    for path in tmp_path.iterdir():
        pd.testing.assert_frame_equal(read_predictions(path), table.astype({"score": "float64"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,p\na,0.5\n", "column 'score' is missing; expected id and score, has id, p"),
        ("id,score\na,0.5\na,0.6\n", "1 ids occur twice: a"),
        ("id,score\na,nan\nb,0.5\n", "1 ids have a score that is no probability.*: a"),
        ("id,score\na,3.2\n", "no probability"),
        ("id,score\na,-0.1\n", "no probability"),
        ("id,score\na,viral\n", "no probability"),
        ("id,score\na,0.5\nb", "no probability.*: b"),
        ("id,score\na,0.5\n,0.6\n", "1 rows have no id; the first is row 2"),
        ("", "cannot be read"),
        ("id,score\na,0.5\nb,0.5,7,8\n", "cannot be read"),
    ],
)
def test_read_when_a_row_is_unusable_then_the_file_and_ids_are_named(
    tmp_path: Path, text: str, message: str
) -> None:
    """Nothing is dropped or guessed."""
    path = write(tmp_path / "p.csv", text)

    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["p.parquet", "p.tsv"])
def test_read_when_the_file_is_of_another_kind_then_refused(tmp_path: Path, name: str) -> None:
    """Damaged, or not what its name says."""
    path = write(tmp_path / name, "id,score\na,0.5\n")

    with pytest.raises(DataError, match=name):
        read_predictions(path)


@pytest.mark.parametrize(("begin", "end", "instead"), [(-200, None, b""), (200, 220, b"x" * 20)])
def test_read_when_a_gzipped_file_is_cut_off_or_damaged_then_refused(
    tmp_path: Path, begin: int, end: int | None, instead: bytes
) -> None:
    """An interrupted copy is an error, not a shorter table."""
    rng = np.random.default_rng(0)
    text = "id,score\n" + "".join(f"r{i},{x}\n" for i, x in enumerate(rng.random(500)))
    packed = bytearray(gzip.compress(text.encode()))
    packed[begin:end] = instead
    (tmp_path / "p.csv.gz").write_bytes(packed)

    with pytest.raises(DataError, match="the gzip content is damaged or cut short"):
        read_predictions(tmp_path / "p.csv.gz")


def test_read_when_there_is_no_file_then_it_is_a_missing_input(tmp_path: Path) -> None:
    """So the criterion is NOT_RUN, with the remedy."""
    with pytest.raises(MissingInput, match=r"gate\.toml"):
        read_predictions(tmp_path / "p.csv")
    with pytest.raises(MissingInput, match=r"gate\.toml"):
        read_metrics(tmp_path / "m.json")


def test_read_metrics_when_numbers_are_given_then_accuracy_is_exact(tmp_path: Path) -> None:
    """0.9048 stays 9048/10000."""
    path = write(tmp_path / "m.json", '{"accuracy": 0.9048, "n": 210000, "recall": 0.92}')

    assert read_metrics(path) == (Fraction(9048, 10_000), 210_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"accuracy": 0.9}, "expected an object with accuracy and n"),
        ({"accuracy": 0.9, "n": 10, "acc": 1}, "expected an object with accuracy and n"),
        ({"accuracy": 90.48, "n": 10}, "accuracy is .*; expected a number from 0 to 1"),
        ({"accuracy": "0.9", "n": 10}, "accuracy is 0.9"),
        ({"accuracy": True, "n": 10}, "accuracy is True"),
        ({"accuracy": 0.9, "n": 0}, "n is 0"),
        ({"accuracy": 0.9, "n": 10.5}, "n is 21/2"),
        ({"accuracy": 0.9, "n": 10, "mcc": -2}, "mcc is -2; expected a number from -1 to 1"),
        ([0.9, 10], "expected an object with accuracy and n"),
        (None, "expected an object with accuracy and n"),
    ],
)
def test_read_metrics_when_they_are_unusable_then_refused(
    tmp_path: Path, content: object, message: str
) -> None:
    """A percentage is not a share."""
    path = write(tmp_path / "m.json", json.dumps(content))

    with pytest.raises(DataError, match=message):
        read_metrics(path)


@pytest.mark.parametrize("text", ["", "accuracy: 0.9", '{"accuracy": NaN, "n": 10}'])
def test_read_metrics_when_it_is_no_json_object_of_numbers_then_refused(
    tmp_path: Path, text: str
) -> None:
    """NaN is no accuracy."""
    with pytest.raises(DataError, match=r"m\.json"):
        read_metrics(write(tmp_path / "m.json", text))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 999).map(str), min_size=1, max_size=20, unique=True), st.data())
def test_join_when_the_order_differs_then_rows_meet_by_id(
    ids: list[str], data: st.DataObject
) -> None:
    """The test rows' order and columns are kept."""
    shuffled = data.draw(st.permutations(ids))
    rows = pd.DataFrame({"id": ids, "label": 1, "genome": "g"}, index=range(5, 5 + len(ids)))

    joined = join_predictions(rows, scores(shuffled), scores(ids[::-1]))

    assert list(rows) == ["id", "label", "genome"]
    assert joined["id"].tolist() == ids
    assert joined["baseline_score"].tolist() == [int(name) / 1000 for name in ids]
    assert joined["candidate_score"].tolist() == joined["baseline_score"].tolist()
    assert list(joined) == ["id", "label", "genome", "baseline_score", "candidate_score"]


@pytest.mark.parametrize(
    ("baseline", "candidate", "message"),
    [
        ("12345678", "123456789", r"baseline: .* 1 are missing \(9\), 0 are of other rows"),
        ("123456789", "1234567890", r"candidate: .* 0 are missing \(none\), 1 .* rows \(0\)"),
        ("123456789", "120", r"candidate: .* 7 are missing \(3, 4, 5, 6, 7 and 2 more\)"),
        ("1234567891", "123456789", "baseline: 1 ids occur twice: 1"),
    ],
)
def test_join_when_a_side_has_other_rows_then_some_are_listed(
    baseline: str, candidate: str, message: str
) -> None:
    """Nothing is quietly cut to the rows that are left; five are named at most."""
    rows = pd.DataFrame({"id": list("123456789"), "label": 1})

    with pytest.raises(DataError, match=message):
        join_predictions(rows, scores(list(baseline)), scores(list(candidate)))


def test_drawn_when_a_test_set_is_brought_then_it_is_told(tmp_path: Path) -> None:
    """Its own share of each class is what it is judged by."""
    write_sequences(tmp_path)
    ids = read_records([tmp_path / "viral"], [tmp_path / "bacteria"]).records["id"].iloc[::7]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    path = tmp_path / "gate.toml"
    path.write_text(SETTINGS.replace("[data]", '[data]\ntest_ids = "ids.txt"'))
    run = Pipeline(load_config(path), tmp_path / "work")

    assert run.samples.split().test.tolist() == sorted(ids)
    assert run.samples.split().to_dict()["brought"] is True
    checks = Judge(run).comparison().checks
    assert [check.value for check in checks if check.what == "class count"][:2] == [0, 0]
