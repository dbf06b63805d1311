"""Source order and pytest-benchmark: what the timing tests of acceptance/ rely on."""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import Project

ORDERED = """
import pytest
seen = []

@pytest.mark.parametrize("position", range(6))
def test_in_order(position):
    seen.append(position)
    assert seen == list(range(position + 1))
"""
TIMED = """
def test_timed(benchmark):
    benchmark.pedantic(lambda: None, rounds=3, warmup_rounds=0)
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_order_when_tests_are_shuffled_then_is_the_source_order(
    project: Project, seed: str
) -> None:
    """pytest-randomly shuffles whatever it finds; a timing test needs what ran before it."""
    project.write(ORDERED)
    project.run(f"--randomly-seed={seed}").assert_outcomes(passed=6)


def test_order_when_failed_tests_come_first_then_is_the_source_order(project: Project) -> None:
    """--failed-first reorders after every ordinary hook has been called."""
    project.write(ORDERED.replace("assert seen", "assert position != 3 and seen"))
    project.run().assert_outcomes(passed=5, failed=1)
    project.write(ORDERED)
    project.run("--failed-first").assert_outcomes(passed=6)


def test_benchmark_when_rounds_were_timed_then_json_lies_with_the_reports(
    passing: Project,
) -> None:
    """All rounds are kept, by the clock that waits for the device, and no host is named."""
    passing.write(TIMED)
    outcome = passing.run()
    assert outcome.ret == pytest.ExitCode.OK
    outcome.stdout.fnmatch_lines(["*timer=harness.criteria.speed.read_clock*"])
    written = json.loads((passing.root / "reports" / "benchmark.json").read_text())
    assert len(written["benchmarks"][0]["stats"]["data"]) == 3
    assert "node" not in written["machine_info"]


def test_benchmark_when_the_time_was_judged_then_all_attempts_stand_beside_the_rounds(
    project: Project,
) -> None:
    """What pytest-benchmark did not run itself, it keeps as well."""
    project.write_passing(without=["embedding-time"])
    project.write(TIMED)
    project.write(
        """
        @pytest.mark.criterion("embedding-time")
        def test_time(record):
            attempts = [{"baseline_seconds": [2.0]}, {"baseline_seconds": [1.0]}]
            record(CriterionResult(
                id="embedding-time", state=State.PASS, detail=".", evidence={"attempts": attempts}
            ))
        """,
        "test_time.py",
    )
    project.run()
    written = json.loads((project.root / "reports" / "benchmark.json").read_text())
    assert len(written["acceptance"]["embedding-time"]["attempts"]) == 2


def test_benchmark_when_user_chose_a_path_then_it_is_kept(passing: Project) -> None:
    """The gate sets only what nobody has set."""
    passing.write(TIMED)
    path = passing.root / "mine.json"
    passing.run("--benchmark-json", str(path))
    assert path.is_file()
    assert not (passing.root / "reports" / "benchmark.json").exists()


@pytest.mark.parametrize(
    "source",
    [
        "def test_untimed(): pass",
        """
        def test_broken(benchmark):
            def work():
                raise OSError
            benchmark.pedantic(work, rounds=3)
        """,
    ],
)
def test_benchmark_when_nothing_was_timed_then_the_other_reports_are_written(
    project: Project, source: str
) -> None:
    """pytest-benchmark would raise at the end, and take the other reports with it."""
    project.write(source)
    project.run("--benchmark-autosave")
    left = {path.name for path in (project.root / "reports").iterdir()}
    assert left == {".lock", "report.md", "report.html", "junit.xml", "verdict.json"}
    assert not any("ended" in reason for reason in project.verdict["halted_by"])


def test_benchmark_when_compared_with_the_last_run_then_machines_are_the_same(
    passing: Project,
) -> None:
    """pytest-benchmark's history goes on working; it warns where machines differ."""
    passing.write(TIMED)
    assert passing.run("--benchmark-autosave").ret == pytest.ExitCode.OK
    outcome = passing.run("--benchmark-compare")
    assert outcome.ret == pytest.ExitCode.OK
    outcome.stdout.fnmatch_lines(["test_timed (NOW)*"])


def test_benchmark_when_clock_reads_nonsense_then_the_test_fails(passing: Project) -> None:
    """A reading that is not finite measures nothing, so it must not become a round."""
    passing.write(
        """
        from types import SimpleNamespace

        def test_timed(benchmark, monkeypatch):
            broken = SimpleNamespace(perf_counter=lambda: float("nan"))
            monkeypatch.setattr("harness.criteria.speed.time", broken)
            benchmark.pedantic(lambda: None, rounds=3)
        """
    )
    assert passing.run().ret == pytest.ExitCode.TESTS_FAILED
    assert passing.verdict["halted_by"] == ["acceptance/test_more.py::test_timed failed in call"]
    assert not (passing.root / "reports" / "benchmark.json").exists()
