"""Every renderer on every kind of verdict: it answers, it marks, it never raises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from harness.report.figures import draw_figures
from harness.report.html import criteria_panel
from harness.report.markdown import render_markdown, render_model_card, render_step_summary
from harness.report.terminal import render_json, render_terminal

SCHEMA = Path(__file__).parents[2] / "harness" / "verdict" / "verdict.schema.json"

# What a run that went wrong may leave in the free-form parts of a verdict.
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1.5", "nan", "-inf", "PASS"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
TEXTS = st.lists(st.text(max_size=8), max_size=2)


NUMBERS = st.floats(0, 5) | st.floats(0, 1e13) | st.integers(0, 99) | st.floats() | st.integers()


def _objects(*keys: str, numbers: str = "") -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have some of the expected keys; mostly numbers under those in ``numbers``."""
    values = dict.fromkeys(keys, VALUES) | dict.fromkeys(numbers.split(), NUMBERS | VALUES)
    return st.fixed_dictionaries({}, optional=values)


def _tables(*keys: str, numbers: str = "") -> st.SearchStrategy[Any]:
    return st.lists(_objects(*keys, numbers=numbers), max_size=4) | VALUES


HISTORIES = _tables(numbers="epoch train_loss validation_loss learning_rate")
ROUNDS = st.lists(st.floats(0, 5) | NUMBERS, max_size=4)
TIMINGS = st.fixed_dictionaries(
    {},
    optional={
        "baseline_seconds": ROUNDS,
        "candidate_seconds": ROUNDS,
        "closing_baseline_seconds": ROUNDS,
        "ratio": NUMBERS | VALUES,
        "attempts": _tables("baseline_seconds", "candidate_seconds"),
    },
)
BINS = st.builds(
    lambda edges, counts: {
        "edges": sorted(edges),
        "train": counts[: len(edges) - 1],
        "test": counts[-len(edges) + 1 :],
    },
    st.lists(st.floats(0, 9) | st.floats(allow_nan=False), min_size=2, max_size=4, unique=True),
    st.lists(st.floats(0, 1) | st.integers(-1), min_size=3, max_size=3),
)
SHARES = st.floats(0, 1) | NUMBERS
HISTOGRAMS = st.fixed_dictionaries({}, optional={"length": BINS, "gc": BINS | VALUES})
EVIDENCE = st.dictionaries(st.text(max_size=5), VALUES, max_size=3) | st.fixed_dictionaries(
    {},
    optional={
        "checks": _tables("label", "what", "state", numbers="value p alpha"),
        "lineages": _tables("label", "lineage", "state", numbers="n_train n_test ratio p"),
        "histograms": st.fixed_dictionaries({}, optional={"1": HISTOGRAMS, "0": VALUES}),
        "hard": _tables("what", numbers="count"),
        "drop_points": NUMBERS | VALUES,
    },
)
CRITERIA = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["accuracy-drop", "embedding-time", "representative-split"])
        | st.text(max_size=8),
        "state": st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE", "NOT_RUN", "ERROR"]),
        "value": st.none() | st.text(max_size=6),
        "numerator": st.none() | st.integers(),
        "denominator": st.none() | st.integers(),
        "limit": st.none() | st.sampled_from(["5", "0.5", "much"]),
        "unit": st.text(max_size=6),
        "interval": st.none() | st.lists(st.text(max_size=4), min_size=2, max_size=2),
        "detail": st.text(max_size=20),
        "next_steps": TEXTS,
        "test": st.none() | st.text(max_size=6),
    },
    optional={"warnings": TEXTS, "evidence": EVIDENCE},
)
SIDES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=8),
        "is_random": st.booleans(),
        "metrics": st.dictionaries(
            st.sampled_from(["accuracy", "roc_auc", "other"]),
            st.none() | st.floats() | st.integers(),
        ),
        "intervals": VALUES.map(lambda value: {"accuracy": value}),
        "confusion_matrix": st.lists(
            st.lists(st.integers(0, 9) | st.integers(), min_size=2, max_size=2),
            min_size=2,
            max_size=2,
        ),
    },
)
DIFFERENCES = st.fixed_dictionaries({"value": VALUES, "interval": VALUES})
GROUPS = st.lists(_objects("group", "interval", numbers="n drop_points"), max_size=3)
MODELS = st.fixed_dictionaries({}, optional={"history": HISTORIES, "recipe": VALUES})
STAGES = st.fixed_dictionaries(
    {"name": VALUES, "elapsed_seconds": VALUES, "is_reused": VALUES},
    optional={"gpu_memory_bytes": VALUES},
)
VERDICTS = st.fixed_dictionaries(
    {
        "schema_version": st.just(1),
        "digest": st.just("0" * 64),
        "verdict": st.sampled_from(["PASS", "HALT", "INCOMPLETE"]),
        "rehearsal": st.booleans(),
        "profile": st.sampled_from(["tiny", "production"]),
        "started": st.text(max_size=20) | st.just("0001-01-01T00:00:00+14:00"),
        "halted_by": TEXTS,
        "criteria": st.lists(CRITERIA, max_size=3),
    },
    optional={
        "rehearsal_reasons": TEXTS,
        "looser_than_deployment": TEXTS,
        "finished": st.none() | st.text(max_size=8),
        "command": st.text(max_size=20),
        "baseline": SIDES,
        "candidate": SIDES,
        "differences": st.dictionaries(st.sampled_from(["accuracy", "mcc"]), DIFFERENCES),
        "breakdowns": st.dictionaries(st.sampled_from(["lineage", "length"]), GROUPS),
        "data": _objects("n_records", "sources"),
        "split": st.fixed_dictionaries(
            {}, optional={"n_test": VALUES, "looks": st.integers(0), "history_warning": st.text()}
        ),
        "training": st.fixed_dictionaries({}, optional={"baseline": MODELS, "candidate": MODELS}),
        "timing": TIMINGS,
        "stages": st.lists(STAGES, max_size=2),
        "peak_memory_bytes": st.none() | st.integers(),
        "artifacts": st.fixed_dictionaries(
            {}, optional={"predictions": st.fixed_dictionaries({"path": VALUES, "sha256": VALUES})}
        ),
        "environment": _objects("python", "packages"),
    },
)


def _rows(names: str, **texts: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    numbers = dict.fromkeys(names.split(), NUMBERS)
    return st.lists(st.fixed_dictionaries(texts | numbers), min_size=1, max_size=4)


def _split_evidence(evidence: dict[str, Any]) -> dict[str, Any]:
    row = {"id": "representative-split", "state": "PASS", "evidence": evidence}
    return {"criteria": [row]}


# One figure's input each, complete, with numbers of any size in it.
DRAWABLE = st.one_of(
    _rows("n drop_points", group=st.text(), interval=st.lists(NUMBERS, min_size=2, max_size=2)).map(
        lambda rows: {"breakdowns": {"lineage": rows}}
    ),
    _rows("epoch train_loss validation_loss learning_rate").map(
        lambda rows: {"training": {"candidate": {"history": rows}}}
    ),
    st.lists(st.floats(0, 1e15), min_size=1, max_size=3).map(
        lambda rounds: {
            "timing": {"baseline_seconds": rounds, "candidate_seconds": rounds[::-1]},
            "baseline": {"name": "$" + "\N{SNOWMAN}" * len(rounds)},
        }
    ),
    st.lists(
        st.fixed_dictionaries({"lineage": st.text(), "train": SHARES, "test": SHARES}), max_size=4
    ).map(lambda rows: _split_evidence({"lineage_shares": {"1": rows}})),
    BINS.map(lambda bins: _split_evidence({"histograms": {"0": {"length": bins}}})),
    st.lists(st.integers(0, 9) | st.integers(0), min_size=4, max_size=4).map(
        lambda n: {"candidate": {"confusion_matrix": [n[:2], n[2:]]}}
    ),
)


def all_texts(verdict: dict[str, Any]) -> dict[str, str]:
    """Render everything but the figures."""
    terminal = render_terminal(
        verdict, width=80, is_terminal=True, use_colour=False, report_path="report.html"
    )
    return {
        "markdown": render_markdown(verdict, [], folder=Path()),
        "html": criteria_panel(verdict, []),
        "terminal": terminal,
        "summary": render_step_summary(verdict),
        "card": render_model_card(verdict),
    }


def test_reports_of_any_verdict_name_every_criterion(verdict: dict[str, Any]) -> None:
    """Whatever came of the run, each criterion has its row in each report."""
    names = [row["id"] for row in verdict["criteria"]]
    missing = [
        (kind, name)
        for kind, text in all_texts(verdict).items()
        for name in names
        if name not in text
    ]
    assert missing == []


def test_samples_are_valid_verdicts(verdict: dict[str, Any]) -> None:
    """What these tests render could have been written by the gate."""
    jsonschema.validate(verdict, json.loads(SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize("kind", ["markdown", "html", "terminal", "summary", "card"])
def test_reports_of_a_halt_begin_with_deployment_halted(kind: str, failed: dict[str, Any]) -> None:
    """The words that nobody may miss stand before all that was found."""
    top, _, _ = all_texts(failed)[kind].partition("accuracy-drop")
    assert "Deployment halted" in top


@pytest.mark.parametrize("kind", ["markdown", "html", "terminal", "summary", "card"])
def test_reports_without_a_checkpoint_say_so(kind: str, deployable: dict[str, Any]) -> None:
    """A candidate whose head comes from elsewhere may pass, and authorises nothing."""
    del deployable["artifacts"]["checkpoint"]
    text = all_texts(deployable)[kind]
    assert "Ready to deploy" not in text
    assert "no checkpoint to authorise" in " ".join(text.split())


@pytest.mark.parametrize("kind", ["markdown", "html", "terminal", "summary", "card"])
def test_reports_of_a_rehearsal_are_marked(kind: str, passed: dict[str, Any]) -> None:
    """A pass on tiny random models can nowhere be taken for a deployment."""
    text = all_texts(passed)[kind]
    assert "REHEARSAL" in text
    assert "random weights" in text
    assert "Ready to deploy" not in text


@pytest.mark.parametrize("kind", ["markdown", "html", "terminal", "summary", "card"])
def test_reports_under_looser_limits_say_so(kind: str, deployable: dict[str, Any]) -> None:
    """A production pass with a softened threshold authorises nothing, and says which one."""
    text = all_texts(deployable | {"looser_than_deployment": ["max_time_ratio"]})[kind]
    assert "Ready to deploy" not in text
    assert "max" in text
    assert "authorises no deployment" in " ".join(text.split())


@pytest.mark.parametrize("kind", ["markdown", "html", "terminal", "summary"])
def test_reports_of_a_deployable_pass_carry_no_mark(kind: str, deployable: dict[str, Any]) -> None:
    """A real pass is not drowned in warnings."""
    text = all_texts(deployable)[kind]
    assert "Ready to deploy" in text
    assert "REHEARSAL" not in text
    assert "random weights" not in text


def test_reports_of_an_incomplete_run_say_halted(passed: dict[str, Any]) -> None:
    """What a killed run leaves behind cannot be read as a pass."""
    texts = all_texts(passed | {"verdict": "INCOMPLETE"})
    assert all("Run incomplete: deployment halted" in text for text in texts.values())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(verdict=VERDICTS)
def test_reports_of_any_valid_verdict_are_rendered(verdict: dict[str, Any]) -> None:
    """Whatever the schema allows, every renderer answers, in text that can be written."""
    jsonschema.validate(verdict, json.loads(SCHEMA.read_text(encoding="utf-8")))
    texts = all_texts(verdict) | {"json": render_json(verdict)}
    assert all(text.encode() for text in texts.values())


def test_reports_of_the_same_verdict_are_the_same(verdict: dict[str, Any]) -> None:
    """Rendering again from the file changes no byte."""
    assert all_texts(verdict) == all_texts(json.loads(json.dumps(verdict)))


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[*HealthCheck])
@given(parts=DRAWABLE)
def test_figures_of_any_numbers_are_drawn(parts: dict[str, Any], tmp_path: Path) -> None:
    """Whatever the numbers and names, a figure is drawn or left out, and the reports hold it."""
    figures = draw_figures(parts, tmp_path)
    event(f"drawn: {[figure.name for figure in figures]}")
    assert render_markdown(parts, figures, folder=tmp_path).count("![") == len(figures)
    assert criteria_panel(parts, figures).count("<img") == len(figures)
