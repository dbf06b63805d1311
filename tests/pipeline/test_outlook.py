"""What a run will open and cost is known before it starts, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.data import read_records
from harness.data.virnucpro import write_embeddings
from harness.pipeline.doctor import Check, State
from harness.pipeline.outlook import examine
from tests.pipeline.conftest import SETTINGS, write_sequences

Look = Callable[..., dict[str, Check]]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Return the doctor's findings on a small run, some words of whose settings are changed."""
    write_sequences(tmp_path)

    def look(**changes: str) -> dict[str, Check]:
        text = SETTINGS
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "gate.toml").write_text(text)
        clock = count(step=0.5)
        checks = examine(tmp_path / "gate.toml", tmp_path / "work", clock=lambda: next(clock))
        return {check.name: check for check in checks}

    return look


def bring(folder: Path, n_lacking: int) -> None:
    """Write protein vectors of all records but some."""
    ids = read_records([folder / "viral"], [folder / "bacteria"]).records["id"]
    names = ids.iloc[n_lacking:].tolist()
    write_embeddings(folder / "x_ESM.pt", names, np.ones((len(names), 4), dtype=np.float32))


def test_run_when_all_is_there_then_records_time_disk_and_memory_are_told(look: Look) -> None:
    """A sequence per half second of the test's clock: what 120 of them take, per embedder."""
    checks = look()

    assert {check.state for check in checks.values()} <= {State.OK, State.NOTE}
    assert checks["records"].detail.startswith("records: 120 (60 viral, 60 not viral)")
    assert checks["time"].detail.startswith("about 0:00:0")
    assert "baseline 0:00:0" in checks["time"].detail
    assert "free at" in checks["disk"].detail


@pytest.mark.parametrize(("n_lacking", "state"), [(6, State.OK), (7, State.MISSING)])
def test_run_when_vectors_are_brought_then_it_is_told_whom_they_cover(
    look: Look, tmp_path: Path, n_lacking: int, state: State
) -> None:
    """Up to a twentieth may lack one."""
    bring(tmp_path, n_lacking)

    check = look(**{'name = "baseline"': 'name = "baseline"\nembeddings = "."'})[
        f"vectors in {tmp_path.name}"
    ]

    assert (check.state, f"{n_lacking} of 120" in check.detail) == (state, True)


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ('taxonomy = "t.tsv"', "records", "the taxonomy holds 0 of 12 accessions"),
        ('test_ids = "ids"', "test set", "1 of 1 ids of"),
    ],
)
def test_run_when_a_table_does_not_fit_the_records_then_it_is_missing(
    look: Look, tmp_path: Path, change: str, name: str, words: str
) -> None:
    """Found by joining them, before anything is embedded."""
    (tmp_path / "t.tsv").write_text("NC_1.1\tMicroviridae\n")
    (tmp_path / "ids").write_text("stranger\n")

    check = look(**{"[data]": f"[data]\n{change}"})[name]

    assert (check.state, words in check.detail) == (State.MISSING, True)


def test_run_when_the_disk_is_full_then_it_is_missing(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours before it would be."""
    full = SimpleNamespace(free=0)
    monkeypatch.setattr("harness.pipeline.outlook.shutil.disk_usage", lambda _: full)

    assert look()["disk"].state is State.MISSING
