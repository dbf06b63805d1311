"""Facts for the verdict: who provides them, and what becomes of those that cannot be used."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project


def provide(project: Project, *expressions: str, profile: str = "tiny") -> None:
    """Let a fixture of acceptance/ provide the facts that each expression yields."""
    lines = [f"    gate_session.describe(lambda: {text})" for text in expressions]
    project.write(
        "\n".join(
            [
                "import pytest",
                "@pytest.fixture(scope='session', autouse=True)",
                "def facts(gate_session):",
                *(lines or ["    pass"]),
            ]
        ),
        "conftest.py",
    )
    if profile == "production":
        project.write("pytestmark = pytest.mark.gpu\n" + read(project), "test_criteria.py")


def read(project: Project) -> str:
    """Return the source of the passing tests."""
    return (project.root / "acceptance" / "test_criteria.py").read_text()


def test_facts_when_provided_then_stand_in_the_verdict(passing: Project) -> None:
    """The stages say what they used and found; the verdict is where it is kept."""
    provide(passing, "{'data': {'n_records': 4000}}", "{'split': {'seeds': (1, 2)}}")
    assert passing.run().ret == pytest.ExitCode.OK
    assert passing.verdict["data"] == {"n_records": 4000}
    assert passing.verdict["split"] == {"seeds": [1, 2]}


def test_environment_when_a_run_ends_then_stands_in_the_verdict(passing: Project) -> None:
    """Whoever reads the verdict knows what it was obtained with, and by which command."""
    passing.run("-q")
    assert passing.verdict["environment"]["packages"]["pytest"] == pytest.__version__
    assert passing.verdict["command"] == "pytest acceptance -q"


def test_command_when_the_environment_adds_options_then_it_names_them(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them, nobody would find out what was run."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k 'a or b'")

    passing.run("-q")

    assert passing.verdict["command"] == (
        """PYTEST_ADDOPTS='-k '"'"'a or b'"'"'' pytest acceptance -q"""
    )


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1 / 0", "a provider of facts raised ZeroDivisionError"),
        ("{'data': {'n_records': {1, 2}}}", "the reported 'data' cannot be used"),
    ],
)
def test_facts_when_they_cannot_be_used_then_halts(
    passing: Project, expression: str, reason: str
) -> None:
    """A verdict that lacks what it should say is no PASS."""
    provide(passing, expression)
    assert passing.run().ret == pytest.ExitCode.TESTS_FAILED
    assert len(passing.verdict["halted_by"]) == 1
    assert passing.verdict["halted_by"][0].startswith(reason)


@pytest.mark.parametrize(
    ("expressions", "reasons"),
    [(["{'rehearsal_reasons': []}"], []), ([], ["nothing was evaluated"])],
)
def test_rehearsal_when_production_run_then_only_an_explicit_word_ends_it(
    passing: Project, expressions: list[str], reasons: list[str]
) -> None:
    """A run can authorise a deployment only if a stage says that nothing was a stand-in."""
    provide(passing, *expressions, profile="production")
    assert passing.run("-m", "gpu").ret == pytest.ExitCode.OK
    assert passing.verdict["rehearsal_reasons"] == reasons
    assert passing.verdict["rehearsal"] is bool(reasons)
