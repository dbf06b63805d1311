"""The rehearsal kit: whole, loadable, marked, and never over what is there."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config import load_config
from harness.data.fasta import read_fasta
from harness.embedding import load_embedder
from harness.embedding.dnabert import DnabertEmbedder
from harness.embedding.dnabert_checkpoint import open_dnabert
from harness.embedding.esm.checkpoint import open_checkpoint
from harness.embedding.virnucpro import DNABERT_DIM
from harness.errors import DataError, MissingInput
from harness.pipeline import rehearsal
from harness.pipeline.rehearsal import SCALES, gate_toml, write_kit

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[2] / "acceptance" / "data"
TINY = SCALES["tiny"]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny kit."""
    folder = tmp_path_factory.mktemp("kits") / "kit"
    write_kit(folder, TINY, data=DATA)
    return folder


def test_kit_when_its_settings_are_read_then_all_they_name_is_there(kit: Path) -> None:
    """Models are folders beside the file; sequences are pairs; nothing is a hub id."""
    config = load_config(kit / "gate.toml")

    assert [Path(side.model or "").parent for side in (config.baseline, config.candidate)] == [
        kit.resolve()
    ] * 2
    assert config.data.taxonomy is not None
    assert config.data.taxonomy.is_file()
    assert not config.looser_than_deployment()


@pytest.mark.parametrize(
    ("name", "model_type", "n_files"),
    [("esm2_t36_3B_UR50D", "esm", 2), ("FastESM2_650", "fast_esm", 1)],
)
def test_kit_when_a_checkpoint_is_opened_then_it_is_of_the_hubs_form_and_random(
    kit: Path, name: str, model_type: str, n_files: int
) -> None:
    """The one in shards, the other in a file, and both say that they know nothing."""
    checkpoint = open_checkpoint(kit / name)

    assert (checkpoint.model_type, len(checkpoint.weight_files)) == (model_type, n_files)
    assert checkpoint.is_untrained()
    assert load_embedder(str(kit / name)).embed(["MKVLAAGICW"]).shape == (1, checkpoint.dim)


def test_kit_when_its_dnabert_embeds_then_as_wide_as_the_real_one_and_untrained(kit: Path) -> None:
    """Its tokeniser has learnt from the data: 4,096 tokens, a sequence has about a hundred."""
    text = read_fasta(DATA / "viral_nucleotide.fa.gz")["sequence"][0].as_py()

    embedder = DnabertEmbedder(load_config(kit / "gate.toml").nucleotide.model)

    assert (embedder.dim, embedder.facts.is_random) == (DNABERT_DIM, True)
    assert open_dnabert(str(kit / "DNABERT-S")).shape["vocab_size"] == 4096
    assert 80 < len(embedder.tokenise([text])[0]) < 130


def test_kit_when_the_code_of_a_checkpoint_runs_then_it_shows(kit: Path, tmp_path: Path) -> None:
    """Whoever trusts remote code gets an error, and leaves a trace."""
    code = Path(shutil.copy(kit / "FastESM2_650" / "modeling_fastesm.py", tmp_path))

    with pytest.raises(RuntimeError, match="must never"):
        exec(code.read_text(), {"__file__": str(code)})

    assert (tmp_path / "EXECUTED").exists()


def test_kit_when_full_then_its_shapes_and_settings_are_productions(tmp_path: Path) -> None:
    """ESM2 3B in two files, FastESM2_650, DNABERT-S, on CUDA, one attempt."""
    full = SCALES["full"]
    path = tmp_path / "gate.toml"
    path.write_text(gate_toml(full))

    config = load_config(path)

    assert (config.device, config.baseline.dtype, config.threads) == ("cuda", "bfloat16", None)
    assert (config.timing.sequences, config.timing.attempts) == (1000, 1)
    assert full.needed_bytes() == pytest.approx(14.5e9, rel=0.01)


def test_write_when_the_folder_holds_something_then_it_is_refused(tmp_path: Path) -> None:
    """Nobody's files are overwritten."""
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(DataError, match="not empty"):
        write_kit(tmp_path, TINY, data=DATA)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_write_when_the_disk_is_too_small_then_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how much is needed, and how much there is."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000_000))

    with pytest.raises(MissingInput, match=r"takes 14.5 GB.*has 2.0 GB free"):
        write_kit(tmp_path / "kit", SCALES["full"], data=DATA)

    assert not list(tmp_path.iterdir())


def test_write_when_it_breaks_off_then_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half kit would be taken for a whole one."""

    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rehearsal, "write_random_checkpoint", broken)

    with pytest.raises(KeyboardInterrupt):
        write_kit(tmp_path / "kit", TINY, data=DATA)

    assert not list(tmp_path.iterdir())


def test_write_when_the_data_set_is_not_there_then_the_remedy_says_where_to_call(
    tmp_path: Path,
) -> None:
    """The data set stands in the project, not in the package."""
    with pytest.raises(MissingInput, match="--data"):
        write_kit(tmp_path / "kit", TINY, data=tmp_path)


def test_package_then_every_file_of_the_acceptance_tests_travels_with_it() -> None:
    """A kit that an installed package makes holds the whole gate."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    placed = {
        Path(target) / path.name: path
        for target, patterns in settings["tool"]["setuptools"]["data-files"].items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if not path.name.startswith(".")
    }
    tracked = [
        path
        for path in (ROOT / "acceptance").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    ]

    share = Path("share/virnucpro-harness")
    expected = {share / path.relative_to(ROOT): path for path in (*tracked, ROOT / "pytest.ini")}
    assert placed == expected
