"""``harness doctor``: exit code 0 only if the gate could start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli.verdicts import _tabulate
from harness.pipeline.doctor import Check, State
from tests.cli.test_commands import run, write_sequences


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
