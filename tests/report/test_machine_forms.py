"""What other programs read: the JSON form, the step summary, the model card."""

from __future__ import annotations

import json
from typing import Any

from huggingface_hub import ModelCard

from harness.report.markdown import render_model_card, render_step_summary
from harness.report.terminal import render_json

Verdict = dict[str, Any]


def _metadata(card: str) -> dict[str, Any]:
    data: Any = ModelCard(card, ignore_metadata_errors=False).data
    content: dict[str, Any] = data.to_dict()
    return content


def test_json_gives_criteria_by_name(failed: Verdict) -> None:
    """A program finds a criterion's state by its id."""
    report = json.loads(render_json(failed))
    assert report["verdict"] == "HALT"
    assert report["criteria"]["accuracy-drop"]["state"] == "FAIL"
    assert report["metrics"]["candidate"]["accuracy"] == 0.9244


def test_json_of_a_number_that_is_not_finite_is_null(passed: Verdict) -> None:
    """Any JSON parser can read the result."""
    passed["baseline"]["metrics"]["mcc"] = float("nan")
    assert "NaN" not in render_json(passed)


def test_step_summary_is_short(verdict: Verdict) -> None:
    """The summary fits a screen: headline, marks, six criteria, what to do."""
    assert len(render_step_summary(verdict).splitlines()) <= 24


def test_step_summary_gives_the_first_step(failed: Verdict) -> None:
    """A reader of a workflow page need not open the report to know what to do."""
    assert "Train the candidate's head for longer." in render_step_summary(failed)


def test_model_card_holds_evaluation_results(passed: Verdict) -> None:
    """Hugging Face reads the candidate's metrics from the metadata."""
    results = _metadata(render_model_card(passed))["model-index"][0]["results"]
    metrics = {m["type"]: m["value"] for result in results for m in result["metrics"]}
    assert metrics["accuracy"] == 0.9244
    assert metrics["matthews_correlation"] == 0.8521


def test_model_card_of_a_rehearsal_is_marked(passed: Verdict) -> None:
    """A head of a rehearsal says that it must not be deployed, in text and tags."""
    card = render_model_card(passed)
    assert "rehearsal" in _metadata(card)["tags"]
    assert "**This head is not authorised for deployment.**" in card


def test_model_card_of_a_pass_still_asks_for_verification(deployable: Verdict) -> None:
    """The card authorises nothing by itself."""
    card = render_model_card(deployable)
    assert "only after `harness verify`" in card
    assert "rehearsal" not in _metadata(card)["tags"]


def test_model_card_metadata_survives_a_hostile_name(passed: Verdict) -> None:
    """A name cannot end the metadata or add a key to it."""
    passed["candidate"]["name"] = "x\n---\nlicense: evil: [a"
    metadata = _metadata(render_model_card(passed))
    assert set(metadata) == {"tags", "model-index"}
    assert "license: evil: [a" in metadata["model-index"][0]["name"]


def test_model_card_without_measurements_says_so(halted: Verdict) -> None:
    """A run that measured nothing yields a card without results."""
    card = render_model_card(halted)
    assert "Nothing was measured." in card
    assert "model-index" not in _metadata(card)
