"""The command line: what it prints, and how it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness import cli
from harness.verdict.history import remember
from harness.verdict.verdict import write_verdict


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command as from a shell; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def write_sequences(folder: Path) -> Path:
    """Write a small FASTA pair per class, a taxonomy and a gate.toml; return the last."""
    for name, first in (("viral", "ACC"), ("bacteria", "GTT")):
        rows = range(60)
        dna = [first * 3 + "".join("ACGT"[(n // 4**k) % 4] * 3 for k in range(4)) for n in rows]
        ids = [f"{name}{n % 6}_chunk_{n}F1" for n in rows]
        for kind, letters in (
            ("nucleotide", dna),
            ("protein", [f"MK{'ACDEF'[n % 5]}{n}" for n in rows]),
        ):
            texts = [t.translate(str.maketrans("0123456789", "GHIKLMNPQR")) for t in letters]
            lines = [f">{i}\n{t}\n" for i, t in zip(ids, texts, strict=True)]
            (folder / f"{name}_{kind}.fa").write_text("".join(lines))
    path = folder / "gate.toml"
    path.write_text(
        'device = "cpu"\n[data]\nviral = ["viral"]\nnonviral = ["bacteria"]\n'
        '[baseline]\nname = "b"\n[candidate]\nname = "c"\n'
    )
    return path


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
