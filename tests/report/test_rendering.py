"""Every renderer on every kind of verdict: it answers, it marks, it never raises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from harness.report.figures import draw_figures
from harness.report.pages import (
    criteria_panel,
    render_markdown,
    render_model_card,
    render_step_summary,
)
from harness.report.terminal import render_json, render_terminal
from harness.verdict.contents import SCHEMA_PATH, Verdict
from tests.report.conftest import Content, typed

SCHEMA: dict[str, Any] = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
KINDS = ("markdown", "html", "terminal", "summary", "card")

# Any JSON, with numbers as the schema bounds them.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**29), 10**29) | st.floats(-1e30, 1e30) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = ("baseline", "candidate", "nucleotide", "accuracy", "mcc", "lineage", "0", "1", "length")
KEYS = st.sampled_from((*NAMES, "gc", "checkpoint", "predictions")) | st.text(max_size=5)


def allowed(schema: Content) -> st.SearchStrategy[Any]:
    """Return what a part of the schema allows."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return VALUES if name == "value" else allowed(SCHEMA["$defs"][name])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    kinds = schema.get("type", "object")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return st.one_of(*(allowed_of(kind, schema) for kind in kinds))


def allowed_of(kind: str, schema: Content) -> st.SearchStrategy[Any]:
    """Return what a part of the schema allows of one type."""
    if kind == "integer":
        return st.integers(schema.get("minimum"), schema.get("maximum"))
    if kind == "number":
        least, most = schema["minimum"], schema["maximum"]
        return st.floats(least, most) | st.floats(max(least, -9), min(most, 9))
    if kind == "string":
        has_pattern = "pattern" in schema
        return st.from_regex(schema["pattern"], fullmatch=True) if has_pattern else st.text()
    if kind == "array":
        bounds = {"min_size": schema.get("minItems", 0), "max_size": schema.get("maxItems", 3)}
        return st.lists(allowed(schema["items"]), **bounds)
    if kind == "object":
        return allowed_object(schema)
    return {"null": st.none(), "boolean": st.booleans()}[kind]


def allowed_object(schema: Content) -> st.SearchStrategy[Any]:
    """Return an object with some of what it may have; a criterion with its own evidence."""
    if cases := [case for case in schema.get("allOf", ()) if "if" in case]:
        one, properties = {**schema, "allOf": []}, schema["properties"]
        own = [c["if"]["properties"] | c["then"]["properties"] for c in cases]
        return st.one_of(*(allowed({**one, "properties": properties | o}) for o in [{}, *own]))
    parts = {name: allowed(part) for name, part in schema.get("properties", {}).items()}
    must = {name: parts.pop(name) for name in schema.get("required", ())}
    if not parts and not must:
        inner = allowed(schema.get("additionalProperties", {"$ref": "value"}))
        return st.dictionaries(KEYS, inner, max_size=3)
    return st.fixed_dictionaries(must, optional=parts)


VERDICTS = allowed(SCHEMA).map(lambda content: {k: v for k, v in content.items() if k != "digest"})


def all_texts(verdict: Verdict) -> dict[str, str]:
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


@pytest.mark.parametrize("kind", ["markdown", "html", "summary"])
def test_first_screen_when_a_rehearsal_failed_then_stands_in_the_order_of_the_decision(
    kind: str, failed: Content
) -> None:
    """What was judged, the answer, what marks it, the criteria, what to do; then all else."""
    told = {"looser_than_deployment": ["max_time_ratio"], "reservations": ["Weights are unknown."]}
    text = all_texts(typed(failed | told))[kind]
    order = [
        "FastESM2, 2 layers (random weights)",
        "ESM2, 6 layers (random weights)",
        "450 rows",
        "Deployment halted",
        "failed: accuracy-drop (7.11 points; limit: below 5)",
        "REHEARSAL (tiny profile",
        "Looser than a deployment allows",
        "Weights are unknown.",
        *(row["id"] for row in failed["criteria"]),
        "Train the candidate's head for longer.",
        *(["Metrics on the test set"] if kind != "summary" else []),
    ]
    text = text.replace("`", "").replace("&#39;", "'").replace("\\", "")
    found = 0
    for words in order:
        assert words in text[found:], f"{words} does not follow what it should"
        found = text.index(words, found) + len(words)


def test_reports_of_any_verdict_name_every_criterion(verdict: Content) -> None:
    """Whatever came of the run, each criterion has its row in each report."""
    names = [row["id"] for row in verdict["criteria"]]
    texts = all_texts(typed(verdict))
    assert [(kind, n) for kind, text in texts.items() for n in names if n not in text] == []


@pytest.mark.parametrize("kind", KINDS)
def test_reports_of_a_halt_begin_with_deployment_halted(kind: str, failed: Content) -> None:
    """The words that nobody may miss stand before all that was found."""
    top, _, _ = all_texts(typed(failed))[kind].partition("accuracy-drop")
    assert "Deployment halted" in top


@pytest.mark.parametrize("kind", KINDS)
def test_reports_without_a_checkpoint_say_so(kind: str, deployable: Content) -> None:
    """A candidate whose head comes from elsewhere may pass, and authorises nothing."""
    del deployable["artifacts"]["checkpoint"]
    text = all_texts(typed(deployable))[kind]
    assert "Ready to deploy" not in text
    assert "no checkpoint to authorise" in " ".join(text.split())


@pytest.mark.parametrize("kind", KINDS)
def test_reports_of_a_rehearsal_are_marked(kind: str, passed: Content) -> None:
    """A pass on tiny random models can nowhere be taken for a deployment."""
    text = all_texts(typed(passed))[kind]
    assert "REHEARSAL" in text
    assert "random weights" in text
    assert "Ready to deploy" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_reports_under_looser_limits_say_so(kind: str, deployable: Content) -> None:
    """A production pass with a softened threshold authorises nothing, and says which one."""
    text = all_texts(typed(deployable | {"looser_than_deployment": ["max_time_ratio"]}))[kind]
    assert "Ready to deploy" not in text
    assert "max" in text
    assert "authorises no deployment" in " ".join(text.split())


@pytest.mark.parametrize("kind", KINDS)
def test_reports_of_a_deployable_pass_carry_no_mark(kind: str, deployable: Content) -> None:
    """A real pass is not drowned in warnings."""
    text = all_texts(typed(deployable))[kind]
    assert "Ready to deploy" in text or "The acceptance gate passed this head" in text
    assert "REHEARSAL" not in text
    assert "random weights" not in text


def test_reports_of_an_incomplete_run_say_halted(passed: Content) -> None:
    """What a killed run leaves behind cannot be read as a pass."""
    texts = all_texts(typed(passed | {"verdict": "INCOMPLETE"}))
    assert all("Run incomplete: deployment halted" in text for text in texts.values())


@settings(max_examples=400, deadline=None, suppress_health_check=[*HealthCheck])
@given(content=VERDICTS)
def test_reports_of_whatever_the_schema_allows_are_rendered(content: Content) -> None:
    """No verdict that passes the check can break a report."""
    verdict = typed(content)
    texts = all_texts(verdict) | {"json": render_json(verdict)}
    assert all(text.encode() for text in texts.values())


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[*HealthCheck])
@given(content=VERDICTS)
def test_figures_of_whatever_the_schema_allows_are_drawn(content: Content, tmp_path: Path) -> None:
    """Whatever the numbers and names, a figure is drawn or left out, and the reports hold it."""
    verdict = typed(content)
    figures = draw_figures(verdict, tmp_path)
    event(f"drawn: {[figure.name for figure in figures]}")
    assert render_markdown(verdict, figures, folder=tmp_path).count(".svg>)") == len(figures)
    assert criteria_panel(verdict, figures).count("<img") == len(figures)
