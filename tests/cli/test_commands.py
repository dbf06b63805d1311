"""The command line: what each command prints and writes, where it looks, and how it fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness import cli
from harness.cli.verdicts import _tabulate
from harness.config import load_config
from harness.data.unpickle import load_restricted
from harness.embedding.virnucpro import MergedFeatures
from harness.pipeline import Pipeline
from harness.pipeline.doctor import Check, State
from harness.training import fit_head, save_head, trainer
from harness.training.checkpoints import save_snapshot
from harness.verdict.contents import parse_verdict
from harness.verdict.history import remember
from harness.verdict.verdict import write_verdict
from tests.pipeline.conftest import SETTINGS, write_sequences
from tests.plugin.conftest import Project
from tests.training.conftest import QUICK, draw_rows

Command = Callable[..., tuple[int, str, str]]

SHAPE = "random_weights = {layers = 1, hidden_size = 8, heads = 1, intermediate_size = 8}\n"
KMER = '[nucleotide]\nkind = "kmer"\nk = 2\n'


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a call of the command in the test's folder: its exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a gate.toml whose sides name nothing; their tables are its last lines."""
    return write_sequences(tmp_path)


def add(config: Path, *, baseline: str = "", candidate: str = "", nucleotide: str = KMER) -> None:
    """Add lines to the tables of a gate.toml."""
    text = config.read_text().replace('name = "b"\n', f'name = "b"\n{baseline}')
    config.write_text(text + candidate + nucleotide)


def test_prepare_when_the_sequences_are_sound_then_a_summary_is_printed(
    harness: Command, config: Path
) -> None:
    """Counts, lengths and rejects, and where the table lies."""
    code, shown, _ = harness("prepare")

    assert code == 0
    assert "records: 120 (60 viral, 60 not viral)" in shown
    assert f"records: {Path('work', 'records')}" in shown


def test_split_when_drawn_then_the_sizes_are_printed(harness: Command, config: Path) -> None:
    """Ten percent of each class for the test set."""
    assert "test: 12 records" in harness("split")[1]


def test_split_when_another_seed_is_asked_for_then_only_an_explicit_redraw_gets_it(
    harness: Command, config: Path
) -> None:
    """A test set is never silently replaced by a luckier one."""
    harness("split")
    config.write_text("seed = 7\n" + config.read_text())

    refused, _, message = harness("split")
    redrawn, _, _ = harness("split", "--redraw")

    assert (refused, redrawn) == (1, 0)
    assert "redraw" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["prepare"], (1, "There is no gate.toml.\nWrite one")),
        (["verify", "head.safetensors"], (1, "There is no head.safetensors")),
        (["report", "verdict.json"], (1, "no verdict can be read")),
        (["export", "x", "y"], (1, "There is no x")),
        (["export", ".", "y"], (2, ". is a folder; expected a head")),
    ],
)
def test_command_when_it_is_given_nothing_of_use_then_it_says_what_it_expects(
    harness: Command, arguments: list[str], expected: tuple[int, str]
) -> None:
    """An expected error is a message, not a traceback."""
    code, _, message = harness(*arguments)

    assert (code, expected[1] in message) == (expected[0], True)


def test_embed_when_no_model_is_named_then_the_setting_is(harness: Command, config: Path) -> None:
    """A side without a model cannot be embedded."""
    add(config)

    code, _, message = harness("embed")

    assert (code, "[baseline] names no model" in message) == (1, True)


@pytest.mark.parametrize("brought", ["features", "embeddings", "predictions", "metrics"])
def test_embed_when_a_side_brings_what_is_needed_then_the_other_is_embedded(
    harness: Command, config: Path, brought: str
) -> None:
    """What was computed elsewhere is named, and left as it is."""
    add(config, baseline=f'{brought} = "elsewhere"\n', candidate=SHAPE)

    code, said, _ = harness("embed")

    assert code == 0
    assert f"baseline: brings {config.parent / 'elsewhere'}; nothing is embedded" in said
    assert "candidate: 120 x 8 in " in said


def test_embed_when_both_sides_bring_features_then_no_nucleotides_are(
    harness: Command, config: Path
) -> None:
    """They are in the features already, so no embedder of theirs need be named."""
    features = 'features = "elsewhere"\n'
    add(config, baseline=features, candidate=features, nucleotide="")

    code, said, _ = harness("embed")

    assert (code, "nucleotide: both sides bring features" in said) == (0, True)


@pytest.mark.parametrize("place", [".", "acceptance", "docs/deep", "../outside"])
def test_report_when_called_where_pytest_was_then_it_finds_the_verdict(
    pytester: pytest.Pytester, harness: Command, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """In the root of the project, in a folder below it, and where there is no project."""
    project, folder = Project(pytester), pytester.path / place
    project.write_passing()
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    project.run_bare(str(project.root / "acceptance"), "-p", "no:html")
    assert (project.root / "reports").exists() == (place != "../outside")

    code, shown, _ = harness("report", "--format", "json")

    assert (code, '"verdict": "PASS"' in shown) == (0, True)


@pytest.mark.parametrize("fmt", ["markdown", "html", "json", "terminal", "model-card"])
def test_report_when_the_run_halted_then_every_format_says_so(
    harness: Command, tmp_path: Path, fmt: str
) -> None:
    """A verdict is rendered again without running anything."""
    verdict = {
        "schema_version": 1,
        "verdict": "HALT",
        "rehearsal": True,
        "rehearsal_reasons": ["the tiny profile proves the gate, not a model"],
        "profile": "tiny",
        "started": "2026-11-01T00:00:00+00:00",
        "finished": "2026-11-01T01:00:00+00:00",
        "halted_by": ["accuracy-drop: NOT_RUN"],
        "criteria": [],
    }
    write_verdict(tmp_path / "verdict.json", parse_verdict(verdict, origin="the test"))

    code, shown, _ = harness("report", "verdict.json", "--format", fmt)

    assert (code, "HALT" in shown) == (0, True)


def remember_verdict(directory: Path) -> None:
    """Add a verdict to the history of the test set in a directory."""
    shown = {"accuracy": {"value": -0.0125, "interval": [-0.03, 0]}}
    verdict = {
        "schema_version": 1,
        "verdict": "HALT",
        "rehearsal": True,
        "profile": "tiny",
        "started": "2026-11-01T00:00:00+00:00",
        "halted_by": [],
        "criteria": [],
        "differences": shown,
        "split": {"directory": str(directory), "ids_sha256": {"test": "ab" * 32}},
    }
    assert remember(parse_verdict(verdict, origin="the test")) == ""


def test_history_when_the_test_set_was_judged_then_table_and_figure_are_made(
    harness: Command, config: Path
) -> None:
    """Drop by drop, and how worn the test set is; without a verdict there is nothing to show."""
    harness("split")
    code, _, message = harness("history")
    assert (code, "No verdict on the test set in" in message) == (1, True)
    remember_verdict(next((config.parent / "work" / "test-sets").iterdir()))

    code, shown, _ = harness("history", "--figure", "trend.svg")

    assert (code, "has been judged once" in shown) == (0, True)
    assert (config.parent / "trend.svg").read_text().startswith("<?xml")
    assert harness("history", "--figure", "trend.pdf")[0] == 2


def test_doctor_when_the_gate_could_start_then_it_says_so_and_exits_0(
    harness: Command, config: Path
) -> None:
    """Plain lines where nobody looks at a terminal."""
    add(config, baseline=SHAPE, candidate=SHAPE)

    code, shown, _ = harness("doctor")

    lines = shown.splitlines()
    assert (code, lines[-1]) == (0, "The gate could start")
    assert "ok      device: cpu" in lines


def test_doctor_when_something_is_missing_then_it_is_named_and_exits_1(
    harness: Command, config: Path
) -> None:
    """All that is missing, at once."""
    code, shown, _ = harness("doctor")

    last = shown.splitlines()[-1]
    assert (code, last) == (1, "The gate cannot start: [baseline], [candidate], [nucleotide]")


def test_doctor_when_a_package_does_not_load_then_it_still_answers(
    harness: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken environment is what a doctor is for."""
    monkeypatch.setitem(sys.modules, "harness.pipeline.doctor", None)

    code, shown, _ = harness("doctor")

    assert (code, "a package does not load" in shown) == (1, True)


def test_table_when_a_detail_holds_brackets_then_they_are_shown() -> None:
    """Names of sections are no markup."""
    check = Check(name="[baseline]", state=State.MISSING, detail="[bold]x", remedy="Do [this]")
    console = Console(width=80, force_terminal=True, color_system=None)

    with console.capture() as captured:
        console.print(_tabulate([check]))

    assert [part in captured.get() for part in ("[baseline]", "[bold]x", "Do [this]")] == [True] * 3


def test_export_of_a_head_then_the_file_names_the_day_of_training(
    harness: Command, tmp_path: Path
) -> None:
    """The checkpoint itself knows no day, since equal trainings give equal bytes."""
    train, validation = draw_rows(32, 2048), draw_rows(32, 2048, seed=1)
    trained = fit_head(
        train.features,
        train.labels,
        validation_features=validation.features,
        validation_labels=validation.labels,
        recipe=QUICK,
    )
    save_head(tmp_path / "head.safetensors", trained)
    os.utime(tmp_path / "head.safetensors", (1_000_000_000, 1_000_000_000))

    code, shown, _ = harness("export", "--format", "virnucpro", "head.safetensors", "head.pth")

    content = load_restricted(tmp_path / "head.pth")
    assert isinstance(content, dict)
    assert content["metadata"]["training_date"] == "2001-09-09"
    assert (code, shown) == (0, "virnucpro: head.pth\n")


def test_export_of_a_run_then_its_files_can_be_brought_as_features(
    harness: Command, config: Path
) -> None:
    """What one run has embedded, VirNucPro and another gate can read."""
    add(config, candidate=SHAPE)

    code, shown, _ = harness("export", "gate.toml", "out")

    assert code == 0
    assert "candidate: 120 records in files of *_ESM.pt, *_merged.pt" in shown
    merged = MergedFeatures(config.parent / "out")
    assert (len(merged), merged.dim) == (120, 4**2 + 8)


ROOT = Path(__file__).parents[2]
DIES_AFTER_EPOCH_4 = """
import itertools, os, signal
from harness.cli import main
from harness.training import trainer
save, epochs = trainer.save_snapshot, itertools.count(1)
def save_and_die(*arguments, **keywords):
    save(*arguments, **keywords)
    if next(epochs) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
trainer.save_snapshot = save_and_die
main()
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with gate.toml and a work directory in which the candidate is embedded."""
    folder = tmp_path_factory.mktemp("run")
    write_sequences(folder).write_text(SETTINGS)
    pipeline = Pipeline(load_config(folder / "gate.toml"), folder / "work")
    pipeline.samples.split()
    pipeline.vectors.feature_stores("candidate")
    return folder


@pytest.fixture
def options(embedded: Path, tmp_path: Path) -> list[str]:
    """Return the arguments of a training of the candidate, with a work directory of its own."""
    return arguments(embedded, tmp_path / "work")


def arguments(embedded: Path, work_dir: Path) -> list[str]:
    """Return the arguments of a training of the candidate."""
    shutil.copytree(embedded / "work", work_dir)
    return [
        "train", "candidate",
        "--gate-config", str(embedded / "gate.toml"), "--work-dir", str(work_dir),
    ]  # fmt: skip


def head_bytes(work_dir: Path) -> bytes:
    """Return the only head of a work directory."""
    (head,) = work_dir.glob("heads/*/head.safetensors")
    return head.read_bytes()


@pytest.mark.slow
def test_train_when_it_is_killed_then_goes_on_and_the_head_is_the_same(
    harness: Command, options: list[str], embedded: Path, tmp_path: Path
) -> None:
    """SIGKILL leaves no time for anything; the head is equal to the last bit."""
    killed = subprocess.run(
        [sys.executable, "-c", DIES_AFTER_EPOCH_4, *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL

    code, _, shown = harness(*options)
    assert (code, "train candidate: epoch" in shown) == (0, True)
    assert harness(*arguments(embedded, tmp_path / "whole"))[0] == 0

    assert head_bytes(tmp_path / "work") == head_bytes(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_train_when_asked_to_stop_then_saves_and_says_how_to_go_on(
    harness: Command, options: list[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The same command goes on with the next epoch."""

    def save_and_ask(*arguments: Any, **keywords: Any) -> None:
        save_snapshot(*arguments, **keywords)
        patched.undo()
        signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "save_snapshot", save_and_ask)
        code, _, shown = harness(*options)
    assert (code, f"stopped by {number.name} in epoch 2 after 0 of" in shown) == (130, True)
    assert "run the same again to go on from there" in shown

    code, _, shown = harness(*options)

    assert (code, "train candidate: epoch" in shown) == (0, True)
