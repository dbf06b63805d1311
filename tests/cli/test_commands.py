"""The command line: what it prints, and how it fails.

``harness doctor``: exit code 0 only if the gate could start.

``harness export``: what is given decides what can be written.

``harness train``: stopped, killed, gone on with.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
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
from harness.verdict.history import remember
from harness.verdict.verdict import write_verdict
from tests.pipeline.conftest import SETTINGS, write_sequences
from tests.training.conftest import QUICK, draw_rows


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command as from a shell; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_prepare_when_the_sequences_are_sound_then_a_summary_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts, lengths and rejects, and where the table lies."""
    config = write_sequences(tmp_path)

    code = run(
        monkeypatch, "prepare", "--gate-config", str(config), "--work-dir", str(tmp_path / "work")
    )

    assert code == 0
    assert "records: 120 (60 viral, 60 not viral)" in capsys.readouterr().out


def test_split_when_drawn_then_the_sizes_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten percent of each class for the test set."""
    config = write_sequences(tmp_path)

    run(monkeypatch, "split", "--gate-config", str(config), "--work-dir", str(tmp_path / "work"))

    assert "test: 12 records" in capsys.readouterr().out


def test_split_when_another_seed_is_asked_for_then_only_an_explicit_redraw_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test set is never silently replaced by a luckier one."""
    config = write_sequences(tmp_path)
    options = ["--gate-config", str(config), "--work-dir", str(tmp_path / "work")]
    run(monkeypatch, "split", *options)
    config.write_text("seed = 7\n" + config.read_text())

    refused = run(monkeypatch, "split", *options)
    message = capsys.readouterr().err
    redrawn = run(monkeypatch, "split", "--redraw", *options)

    assert (refused, redrawn) == (1, 0)
    assert "redraw" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "There is no gate.toml.\nWrite one"),
        (["verify", "head.safetensors"], "There is no head.safetensors"),
        (["report", "verdict.json"], "no verdict can be read"),
    ],
)
def test_command_when_something_is_missing_then_it_says_what_and_exits_1(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """An expected error is a message, not a traceback."""
    monkeypatch.chdir(tmp_path)

    assert run(monkeypatch, *arguments) == 1
    assert message in capsys.readouterr().err


def test_embed_when_no_model_is_named_then_the_setting_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A side without a model cannot be embedded."""
    config = write_sequences(tmp_path)
    config.write_text(config.read_text() + '[nucleotide]\nkind = "kmer"\nk = 2\n')

    code = run(
        monkeypatch, "embed", "--gate-config", str(config), "--work-dir", str(tmp_path / "work")
    )

    assert code == 1
    assert "[baseline] names no model" in capsys.readouterr().err


@pytest.mark.parametrize("brought", ["features", "embeddings", "predictions", "metrics"])
def test_embed_when_a_side_brings_what_is_needed_then_the_other_is_embedded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    brought: str,
) -> None:
    """What was computed elsewhere is named, and left as it is."""
    config = write_sequences(tmp_path)
    text = config.read_text().replace('name = "b"\n', f'name = "b"\n{brought} = "elsewhere"\n')
    shape = "random_weights = {layers = 1, hidden_size = 8, heads = 1, intermediate_size = 8}\n"
    config.write_text(f'{text}{shape}[nucleotide]\nkind = "kmer"\nk = 2\n')

    code = run(
        monkeypatch, "embed", "--gate-config", str(config), "--work-dir", str(tmp_path / "work")
    )

    said = capsys.readouterr().out
    assert code == 0
    assert f"baseline: brings {tmp_path / 'elsewhere'}; nothing is embedded" in said
    assert "candidate: 120 x 8 in " in said


def test_embed_when_both_sides_bring_features_then_no_nucleotides_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are in the features already, so no embedder of theirs need be named."""
    config = write_sequences(tmp_path)
    text = config.read_text()
    for name in ("b", "c"):
        text = text.replace(f'name = "{name}"\n', f'name = "{name}"\nfeatures = "elsewhere"\n')
    config.write_text(text)

    code = run(
        monkeypatch, "embed", "--gate-config", str(config), "--work-dir", str(tmp_path / "work")
    )

    assert code == 0
    assert "nucleotide: both sides bring features" in capsys.readouterr().out


@pytest.mark.parametrize("fmt", ["markdown", "html", "json", "terminal", "model-card"])
def test_report_when_the_run_halted_then_every_format_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fmt: str,
) -> None:
    """A verdict is rendered again without running anything."""
    verdict = {
        "schema_version": 1,
        "verdict": "HALT",
        "rehearsal": True,
        "profile": "tiny",
        "started": "2026-11-01T00:00:00+00:00",
        "halted_by": ["accuracy-drop: NOT_RUN"],
        "criteria": [],
    }
    path = tmp_path / "verdict.json"
    write_verdict(path, verdict)

    code = run(monkeypatch, "report", str(path), "--format", fmt)

    assert code == 0
    assert "HALT" in capsys.readouterr().out


def remember_verdict(directory: Path) -> None:
    """Add a verdict to the history of the test set in a directory."""
    drop = {"id": "accuracy-drop", "value": "1.25", "interval": ["0", "3"]}
    verdict = {"finished": "2026-11-01T00:00:00+00:00", "verdict": "HALT", "profile": "tiny"}
    split = {"directory": str(directory), "ids_sha256": {"test": "ab" * 32}}
    assert remember(verdict | {"rehearsal": True, "split": split, "criteria": [drop]}) == ""


def test_history_when_the_test_set_was_judged_then_table_and_figure_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Drop by drop, and how worn the test set is; without a verdict there is nothing to show."""
    config, figure = write_sequences(tmp_path), tmp_path / "trend.svg"
    options = ["--gate-config", str(config), "--work-dir", str(tmp_path / "work")]
    run(monkeypatch, "split", *options)
    assert run(monkeypatch, "history", *options) == 1
    assert "No verdict on the test set in" in capsys.readouterr().err
    remember_verdict(next((tmp_path / "work" / "test-sets").iterdir()))

    assert run(monkeypatch, "history", *options, "--figure", str(figure)) == 0

    assert "has been judged once" in capsys.readouterr().out
    assert figure.read_text().startswith("<?xml")
    assert run(monkeypatch, "history", *options, "--figure", "trend.pdf") == 2


def test_doctor_when_the_gate_could_start_then_it_says_so_and_exits_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain lines where nobody looks at a terminal."""
    config = write_sequences(tmp_path)
    shape = "random_weights = {layers = 1, hidden_size = 8, heads = 1, intermediate_size = 8}\n"
    text = config.read_text().replace('name = "b"\n', f'name = "b"\n{shape}')
    config.write_text(f'{text}{shape}[nucleotide]\nkind = "kmer"\n')

    code = run(monkeypatch, "doctor", "--gate-config", str(config))

    lines = capsys.readouterr().out.splitlines()
    assert (code, lines[-1]) == (0, "The gate could start")
    assert "ok      device: cpu" in lines


def test_doctor_when_something_is_missing_then_it_is_named_and_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is missing, at once."""
    code = run(monkeypatch, "doctor", "--gate-config", str(write_sequences(tmp_path)))

    last = capsys.readouterr().out.splitlines()[-1]
    assert (code, last) == (1, "The gate cannot start: [baseline], [candidate], [nucleotide]")


def test_doctor_when_a_package_does_not_load_then_it_still_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken environment is what a doctor is for."""
    monkeypatch.setitem(sys.modules, "harness.pipeline.doctor", None)

    assert run(monkeypatch, "doctor") == 1
    assert "a package does not load" in capsys.readouterr().out


def test_table_when_a_detail_holds_brackets_then_they_are_shown() -> None:
    """Names of sections are no markup."""
    check = Check(name="[baseline]", state=State.MISSING, detail="[bold]x", remedy="Do [this]")
    console = Console(width=80, force_terminal=True, color_system=None)

    with console.capture() as captured:
        console.print(_tabulate([check]))

    assert [part in captured.get() for part in ("[baseline]", "[bold]x", "Do [this]")] == [True] * 3


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """Return a head of the width that VirNucPro's predictor takes, written on a known day."""
    train, validation = draw_rows(32, 2048), draw_rows(32, 2048, seed=1)
    trained = fit_head(
        train.features,
        train.labels,
        validation_features=validation.features,
        validation_labels=validation.labels,
        recipe=QUICK,
    )
    path = tmp_path / "head.safetensors"
    save_head(path, trained)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def test_head_for_virnucpro_then_the_file_names_the_day_of_training(
    head: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint itself knows no day, since equal trainings give equal bytes."""
    target = head.with_suffix(".pth")

    assert run(monkeypatch, "export", "--format", "virnucpro", str(head), str(target)) == 0

    content = load_restricted(target)
    assert isinstance(content, dict)
    assert content["metadata"]["training_date"] == "2001-09-09"
    assert f"virnucpro: {target}" in capsys.readouterr().out


def test_source_that_is_not_there_then_error_says_what_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An expected error is a message, not a traceback."""
    code = run(
        monkeypatch, "export", "--format", "virnucpro", str(tmp_path / "x"), str(tmp_path / "y")
    )

    assert code == 1
    assert "There is no" in capsys.readouterr().err


def test_folder_then_error_says_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder is no head."""
    code = run(monkeypatch, "export", "--format", "virnucpro", str(tmp_path), str(tmp_path / "y"))

    assert code == 2
    assert "expected a head" in " ".join(capsys.readouterr().err.split())


def test_run_for_virnucpro_then_its_files_can_be_brought_as_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one run has embedded, VirNucPro and another gate can read."""
    config = write_sequences(tmp_path)
    shape = "random_weights = {layers = 1, hidden_size = 8, heads = 1, intermediate_size = 8}\n"
    config.write_text(f'{config.read_text()}{shape}[nucleotide]\nkind = "kmer"\nk = 2\n')
    options = ["--work-dir", str(tmp_path / "work")]

    code = run(
        monkeypatch, "export", "--format", "virnucpro", str(config), str(tmp_path / "out"), *options
    )

    assert code == 0
    assert "candidate: 120 records in files of *_ESM.pt, *_merged.pt" in capsys.readouterr().out
    merged = MergedFeatures(tmp_path / "out")
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
    pipeline.vectors.feature_digests("candidate")
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
    options: list[str],
    embedded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGKILL leaves no time for anything; the head is equal to the last bit."""
    killed = subprocess.run(
        [sys.executable, "-c", DIES_AFTER_EPOCH_4, *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL

    assert run(monkeypatch, *options) == 0
    assert run(monkeypatch, *arguments(embedded, tmp_path / "whole")) == 0

    assert head_bytes(tmp_path / "work") == head_bytes(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_train_when_asked_to_stop_then_saves_and_says_how_to_go_on(
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    """The same command goes on with the next epoch."""

    def save_and_ask(*arguments: Any, **keywords: Any) -> None:
        save_snapshot(*arguments, **keywords)
        patched.undo()
        signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "save_snapshot", save_and_ask)
        assert run(monkeypatch, *options) == 130
    shown = capsys.readouterr().err
    assert f"stopped by {number.name} in epoch 2 after 0 of" in shown
    assert "run the same again to go on from there" in shown

    assert run(monkeypatch, *options) == 0

    assert "candidate: 6 epochs" in capsys.readouterr().out
