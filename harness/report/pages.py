"""The report as pages: GitHub's markdown, a workflow's summary, a model card, and the HTML panel.

What the report says is decided in :mod:`harness.report.outcome`; here and in the templates are its
form, and the escaping of every text that comes from data. The panel is static and self-contained,
for phones too: it holds its own style, which also lets the rest of pytest's page fit a narrow or a
dark screen.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report.accuracy import metric_rows
from harness.report.document import (
    ABSENT,
    TITLE,
    Column,
    Figure,
    markdown_code,
    markdown_text,
    side_name,
    visible,
)
from harness.report.outcome import build_document
from harness.verdict.contents import SeedResult, Verdict

__all__ = [
    "criteria_panel",
    "panel_page",
    "render_markdown",
    "render_model_card",
    "render_step_summary",
]


# GitHub shows these in colour; the state stands beside them in words.
MARKDOWN_SYMBOLS = {
    "PASS": "✅",
    "FAIL": "❌",
    "INCONCLUSIVE": "❔",
    "NOT_RUN": "⬜",
    "ERROR": "❗",
}


def render_markdown(verdict: Verdict, figures: Sequence[Figure], *, folder: Path) -> str:
    """Return the whole report as markdown.

    Parameters
    ----------
    verdict : Verdict
        Of any run, however early it ended.
    figures : sequence of Figure
        What was drawn for it.
    folder : Path
        Where the report will lie: figures are linked relative to it.
    """
    template = markdown_environment().get_template("report.md.jinja")
    document = build_document(verdict, figures)
    text = template.render(document=document, folder=folder, symbols=MARKDOWN_SYMBOLS)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@cache
def markdown_environment() -> Environment:
    """Return the templates' environment; every text from data must go through a filter of it."""
    environment = _open_templates(autoescape=False)
    environment.filters |= {
        "text": markdown_text,
        "code": markdown_code,
        "line": visible,
        "rule": _rule,
        "link": _link,
    }
    environment.globals["cell"] = _cell
    return environment


def _open_templates(*, autoescape: bool, **how: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=autoescape,  # noqa: S701 - markdown has its own filters
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **how,
    )
    environment.tests["block"] = lambda block, name: type(block).__name__ == name
    return environment


def _cell(text: str, column: Column) -> str:
    is_code = column.kind == "code" and text != ABSENT
    return markdown_code(text) if is_code else markdown_text(text)


def _rule(column: Column) -> str:
    return "---:" if column.kind == "number" else "---"


def _link(path: Path, folder: Path) -> str:
    """Link relative to the report, in angle brackets, so that blanks do not end it."""
    relative = os.path.relpath(path, folder).replace(os.sep, "/")
    return f"<{visible(relative).replace('<', '%3C').replace('>', '%3E')}>"


def render_step_summary(verdict: Verdict) -> str:
    """Return the verdict, the criteria and the first thing to do, as a little markdown."""
    template = markdown_environment().get_template("summary.md.jinja")
    text = template.render(document=build_document(verdict), symbols=MARKDOWN_SYMBOLS)
    return f"{text.strip()}\n"


# What Hugging Face's leaderboards call the metrics that they name otherwise.
_METRIC_TYPES = {"mcc": "matthews_correlation", "brier": "brier_score"}


def render_model_card(verdict: Verdict) -> str:
    """Return the README of the candidate's head: evaluation, data, limits, and whether it may ship.

    Parameters
    ----------
    verdict : Verdict
        Of any run, however early it ended.

    Returns
    -------
    str
        YAML metadata followed by markdown.
    """
    template = markdown_environment().get_template("modelcard.md.jinja")
    body = template.render(
        name=_name(verdict),
        document=build_document(verdict),
        verdict=verdict,
        metrics=metric_rows(verdict),
        seeds=[head.seed for head in _candidate_heads(verdict)],
        symbols=MARKDOWN_SYMBOLS,
        baseline=side_name(verdict, "baseline"),
        candidate=side_name(verdict, "candidate"),
    )
    return f"---\n{_metadata(verdict)}\n---\n\n{body.strip()}\n"


def _candidate_heads(verdict: Verdict) -> tuple[SeedResult, ...]:
    trained = verdict.training.get("candidate")
    return trained.heads if trained else ()


def _metadata(verdict: Verdict) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-classification",
            task_name="viral or not, per translated frame",
            dataset_type="virnucpro-harness-test",
            dataset_name="held-out test set of the acceptance gate",
            dataset_split="test",
            metric_type=_METRIC_TYPES.get(name, visible(name)),
            metric_value=number,
            metric_name=visible(name),
        )
        for name, number in verdict.candidate.metrics.items()
        if number is not None
    ]
    tags = ["biology", "virus", "metagenomics", f"gate-{verdict.verdict.lower()}"]
    data = ModelCardData(
        model_name=_name(verdict),
        base_model=visible(verdict.candidate.model or "") or None,
        tags=tags + (["rehearsal"] if verdict.rehearsal else []),
        eval_results=results or None,
    )
    return str(data.to_yaml()).strip()


def _name(verdict: Verdict) -> str:
    return visible(f"VirNucPro head on {side_name(verdict, 'candidate')}")


# Characters of a cell that fits on a phone, of one that fits on a desktop, and of a word that
# fits nowhere.
SHORT, MEDIUM, LONG_WORD = 20, 34, 30


def criteria_panel(verdict: Verdict, figures: Sequence[Figure]) -> str:
    """Return the verdict, the criteria and all sections as one piece of static HTML.

    Parameters
    ----------
    verdict : Verdict
        Of any run, however early it ended.
    figures : sequence of Figure
        What was drawn for it; the PNG files are embedded.

    Returns
    -------
    str
        A style and a section element, without script and without a link to anywhere outside.
    """
    style = (files("harness.report") / "templates" / "panel.css").read_text(encoding="utf-8")
    template = _html_environment().get_template("panel.html.jinja")
    return template.render(document=build_document(verdict, figures), style=style)


def panel_page(verdict: Verdict, figures: Sequence[Figure]) -> str:
    """Return the panel as a page of its own: the HTML report without pytest's part."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{TITLE}</title>\n</head>\n<body>\n<h1>{TITLE}</h1>\n"
        f"{criteria_panel(verdict, figures)}\n</body>\n</html>\n"
    )


@cache
def _html_environment() -> Environment:
    shown = {"finalize": lambda value: visible(value) if type(value) is str else value}
    environment = _open_templates(autoescape=True, **shown)
    environment.filters |= {"embedded": _embedded, "width_class": _width_class}
    return environment


def _width_class(text: str) -> str:
    """Return how a cell may be broken: nowhere, on a phone only, or, a digest say, anywhere."""
    if max(map(len, text.split()), default=0) > LONG_WORD:
        return " gate-long"
    return " gate-short" if len(text) < SHORT else " gate-medium" if len(text) < MEDIUM else ""


def _embedded(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode('ascii')}"
