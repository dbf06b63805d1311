"""The fixtures of the gate: which profile, which pipeline, which stopwatch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config import GateConfig, load_config
from harness.errors import MissingInput
from harness.pipeline import Judge, Pipeline, Stopwatch, compute_threads
from harness.plugin import GateSession

TINY = Path(__file__).parent / "profiles" / "tiny.toml"


@pytest.fixture(scope="session", params=["tiny", pytest.param("production", marks=pytest.mark.gpu)])
def profile(request: pytest.FixtureRequest) -> str:
    """Return the profile's name; ``-m gpu`` selects the production profile."""
    return str(request.param)


@pytest.fixture(scope="session")
def gate_config(profile: str, gate_session: GateSession) -> GateConfig:
    """Return the settings: the tiny profile's, or those that the user wrote."""
    if profile == "tiny":
        return load_config(TINY)
    if not gate_session.config_path.is_file():
        raise MissingInput(
            f"There is no {gate_session.config_path}",
            remedy="Write one (README.md, 'Going to production'), or name it with --gate-config",
        )
    return load_config(gate_session.config_path)


@pytest.fixture(scope="session")
def judge(gate_config: GateConfig, gate_session: GateSession) -> Iterator[Judge]:
    """Return what computes the criteria; the stages behind it are run when first needed."""
    pipeline = Pipeline(gate_config, gate_session.work_dir, progress=gate_session.progress)
    judge = Judge(pipeline)
    gate_session.describe(judge.facts)
    with compute_threads(gate_config.threads):
        yield judge


@pytest.fixture(scope="session")
def stopwatch(judge: Judge) -> Iterator[Stopwatch]:
    """Return what the timing tests share: both sides, warmed up, and their rounds."""
    with judge.stopwatch() as stopwatch:
        stopwatch.warm_up()
        yield stopwatch
