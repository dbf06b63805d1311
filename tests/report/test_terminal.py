"""The terminal summary: its width, its last line, its quiet and colourless forms.

What other programs read: the JSON form, the step summary, the model card.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from huggingface_hub import ModelCard
from rich.cells import cell_len

from harness.report.pages import render_model_card, render_step_summary
from harness.report.terminal import render_json, render_terminal
from tests.report.conftest import Content, bare, typed

PATH = "reports/report.html"


def _render(verdict: Content, **changes: Any) -> list[str]:
    settings: dict[str, Any] = {
        "width": 80, "is_terminal": True, "use_colour": False, "report_path": PATH
    }  # fmt: skip
    return render_terminal(typed(verdict), **settings | changes).splitlines()


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_terminal_lines_fit_the_width(verdict: Content, width: int, is_terminal: bool) -> None:
    """No line of any verdict is wider than the terminal, so nothing wraps a second time."""
    lines = _render(verdict, width=width, is_terminal=is_terminal)
    assert max(map(cell_len, lines[:-1])) <= width


def test_terminal_lines_fit_with_wide_characters_and_long_names(passed: Content) -> None:
    """Characters of two cells and names without a blank are broken, not cut or overflowing."""
    passed["baseline"]["name"] = "蛋白质" * 30
    passed["criteria"][0] |= {"id": "a-criterion-with-a-very-long-name" * 3, "value": "9" * 30}
    lines = _render(passed)
    assert max(map(cell_len, lines[:-1])) <= 80


def test_terminal_last_line_is_verdict_and_report(verdict: Content) -> None:
    """The last thing on the screen is the answer and where to read on."""
    last = _render(verdict)[-1]
    assert last.startswith(verdict["verdict"])
    assert last.endswith(PATH)


def test_terminal_last_line_keeps_a_long_path_whole(passed: Content) -> None:
    """A path can be copied: it is never broken, however long."""
    path = "/a/very/long/path" * 8 + "/report.html"
    assert _render(passed, report_path=path)[-1].endswith(path)


def test_terminal_without_colour_has_no_escape_codes(verdict: Content) -> None:
    """NO_COLOR is honoured, also where tables are drawn."""
    assert "\x1b" not in "".join(_render(verdict))


def test_terminal_with_colour_colours_the_state(passed: Content) -> None:
    """Colour is added to the words, which stay."""
    text = "\n".join(_render(passed, use_colour=True))
    assert "\x1b[1;32m✓ PASS" in text


def test_terminal_in_a_log_draws_no_lines(passed: Content) -> None:
    """Plain text has no box characters, colour or not."""
    text = "".join(_render(passed, is_terminal=False, use_colour=True))
    assert not set(text) & set("│╭─┼\x1b")


def test_terminal_of_a_failure_says_what_to_do(failed: Content) -> None:
    """The reason and the first step stand on the screen."""
    text = "\n".join(_render(failed))
    assert "The candidate loses 7.11 points" in text
    assert "Next: Train the candidate's head for longer." in text


def test_terminal_of_other_problems_names_them(passed: Content) -> None:
    """What halts a run besides its criteria is told too."""
    broken = passed | {"verdict": "HALT", "halted_by": ["acceptance/test_a.py::test_x failed"]}
    assert "Halted by: acceptance/test_a.py::test_x failed" in _render(broken)


def _metadata(card: str) -> dict[str, Any]:
    data: Any = ModelCard(card, ignore_metadata_errors=False).data
    content: dict[str, Any] = data.to_dict()
    return content


def test_json_gives_criteria_by_name(failed: Content) -> None:
    """A program finds a criterion's state by its id."""
    report = json.loads(render_json(typed(failed)))
    assert report["verdict"] == "HALT"
    assert report["criteria"]["accuracy-drop"]["state"] == "FAIL"
    assert report["metrics"]["candidate"]["accuracy"] == 0.9244


def test_step_summary_is_short(verdict: Content) -> None:
    """The summary fits a screen: headline, marks, six criteria, what to do."""
    assert len(render_step_summary(typed(verdict)).splitlines()) <= 24


def test_step_summary_gives_the_first_step(failed: Content) -> None:
    """A reader of a workflow page need not open the report to know what to do."""
    assert "Train the candidate's head for longer." in render_step_summary(typed(failed))


def test_model_card_holds_evaluation_results(passed: Content) -> None:
    """Hugging Face reads the candidate's metrics from the metadata."""
    results = _metadata(render_model_card(typed(passed)))["model-index"][0]["results"]
    metrics = {m["type"]: m["value"] for result in results for m in result["metrics"]}
    assert metrics["accuracy"] == 0.9244
    assert metrics["matthews_correlation"] == 0.8521


def test_model_card_of_a_rehearsal_is_marked(passed: Content) -> None:
    """A head of a rehearsal says that it must not be deployed, in text and tags."""
    card = render_model_card(typed(passed))
    assert "rehearsal" in _metadata(card)["tags"]
    assert "**This head is not authorised for deployment.**" in card


def test_model_card_when_seeds_were_trained_then_names_the_one_that_ships() -> None:
    """The file is one head of several."""
    told = {"epochs_run": 9, "validation_loss": 0.2, "validation_accuracy": 0.9}
    head = {"path": "head.safetensors", "sha256": "0" * 64}
    training = {"candidate": {"heads": [told | {"seed": 42}, told | {"seed": 43}]}}

    card = render_model_card(bare(training=training, artifacts={"checkpoint": head}))

    assert "It is the head of seed 42, which was declared" in card
    assert "those of 43 were trained" in card


def test_model_card_of_a_pass_still_asks_for_verification(deployable: Content) -> None:
    """The card authorises nothing by itself."""
    card = render_model_card(typed(deployable))
    assert "only after `harness verify`" in card
    assert "rehearsal" not in _metadata(card)["tags"]


def test_model_card_metadata_survives_a_hostile_name(passed: Content) -> None:
    """A name cannot end the metadata or add a key to it."""
    passed["candidate"]["name"] = "x\n---\nlicense: evil: [a"
    metadata = _metadata(render_model_card(typed(passed)))
    assert set(metadata) == {"tags", "model-index"}
    assert "license: evil: [a" in metadata["model-index"][0]["name"]


def test_model_card_without_measurements_says_so(halted: Content) -> None:
    """A run that measured nothing yields a card without results."""
    card = render_model_card(typed(halted))
    assert "Nothing was measured." in card
    assert "model-index" not in _metadata(card)
