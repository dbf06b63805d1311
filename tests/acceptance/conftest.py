"""The real acceptance tests on a fifth of the embedded data, with time that stands still.

The faults are planted by the tests, in the code that the gate runs; the gate has no switch for
them. Each run happens inside this process, so that torch is loaded once.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import harness.embedding.esm.reference  # noqa: F401 - an inner run would load it anew each time
from harness.config import load_config
from harness.embedding import Embedder
from harness.pipeline import Pipeline, judge
from harness.pipeline.stopwatch import Stopwatch

ACCEPTANCE = Path(__file__).parents[2] / "acceptance"
PROFILE = """
device = "cpu"
threads = 1
[data]
viral = ["viral"]
nonviral = ["nonviral"]
taxonomy = "taxonomy.tsv"
test_fraction = "0.3"
[baseline]
name = "baseline"
random_weights = {layers = 1, hidden_size = 160, heads = 2, intermediate_size = 32, seed = 1}
[candidate]
name = "candidate"
random_weights = {layers = 1, hidden_size = 128, heads = 2, intermediate_size = 32, seed = 2}
[nucleotide]
kind = "kmer"
k = 1
[training]
epochs = 12
learning_rate = "0.0005"
[timing]
sequences = 20
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of the gate left behind."""

    exit_code: int
    verdict: dict[str, Any]
    report: str

    def state(self, criterion: str) -> str:
        """Return how a criterion came out."""
        return str(self._row(criterion)["state"])

    def detail(self, criterion: str) -> str:
        """Return what was found."""
        return str(self._row(criterion)["detail"])

    def _row(self, criterion: str) -> dict[str, Any]:
        rows = {row["id"]: row for row in self.verdict["criteria"]}
        return dict(rows[criterion])


class FakeClock:
    """Seconds pass only where the embedders below say so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self.seconds


class Timed:
    """An embedder whose every call takes a given time."""

    def __init__(self, embedder: Embedder, seconds: float, clock: FakeClock) -> None:
        self._embedder, self._seconds, self._clock = embedder, seconds, clock
        self.name, self.dim, self.digest = embedder.name, embedder.dim, embedder.digest
        self.dtype, self.facts = embedder.dtype, embedder.facts

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Embed, and let the time pass."""
        self._clock.seconds += self._seconds
        return self._embedder.embed(sequences, token_budget, on_progress)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with small data, a profile, and a work directory with all stages in it."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copy(ACCEPTANCE / "data" / "taxonomy.tsv", folder)
    for path in (ACCEPTANCE / "data").glob("*.fa.gz"):
        lines = gzip.decompress(path.read_bytes()).split(b">")[1:]
        (folder / path.stem).write_bytes(b"".join(b">" + line for line in lines[::2]))
    (folder / "tiny.toml").write_text(PROFILE)
    pipeline = Pipeline(load_config(folder / "tiny.toml"), folder / "work")
    pipeline.predictions()
    return folder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Replace the gate's clock: a baseline round takes 4 s, a candidate round 1 s."""
    clock = FakeClock()
    set_seconds(monkeypatch, clock, baseline=4.0, candidate=1.0)
    monkeypatch.setattr("harness.criteria.speed.read_clock", clock)
    return clock


@pytest.fixture(autouse=True)
def _leave_out_what_is_tested_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Draw no figures and search no similar proteins: they would only take time."""
    monkeypatch.setattr("harness.report.figures.draw_figures", lambda *_: [])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the inner run is no worker


def forget(pytester: pytest.Pytester, *kinds: str) -> None:
    """Remove artifacts that were made without the fault that a test plants."""
    for kind in kinds:
        shutil.rmtree(pytester.path / "work" / kind)


def set_seconds(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, *, baseline: float, candidate: float
) -> None:
    """Let a round of each side take so many seconds."""
    seconds = {"baseline": baseline, "candidate": candidate}

    def timed(embedders: dict[str, Embedder], *arguments: Any, **settings: Any) -> Stopwatch:
        slowed = {side: Timed(e, seconds[side], clock) for side, e in embedders.items()}
        return Stopwatch(slowed, *arguments, clock=clock, **settings)

    monkeypatch.setattr(judge, "Stopwatch", timed)


@pytest.fixture
def run_gate(pytester: pytest.Pytester, prepared: Path, clock: FakeClock) -> Callable[..., Outcome]:
    """Return what runs the acceptance tests on the prepared data and reads what they wrote."""
    shutil.copytree(prepared, pytester.path / "acceptance" / "profiles")
    for name in ("conftest.py", "test_criteria.py"):
        shutil.copy(ACCEPTANCE / name, pytester.path / "acceptance")
    pytester.makeini('[pytest]\naddopts = --import-mode=importlib -m "not gpu"\nmarkers = gpu')
    shutil.move(pytester.path / "acceptance" / "profiles" / "work", pytester.path / "work")

    def run(*arguments: str) -> Outcome:
        result = pytester.runpytest_inprocess("acceptance", "-p", "no:randomly", *arguments)
        reports = pytester.path / "reports"
        return Outcome(
            exit_code=int(result.ret),
            verdict=json.loads((reports / "verdict.json").read_text()),
            report=(reports / "report.md").read_text(),
        )

    return run
