"""The report as GitHub's markdown; what it says is decided in `content`.

The short summary for a pull request or a workflow page.

The model card beside a checkpoint, in the form that Hugging Face reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report.accuracy import metric_rows
from harness.report.contents import build_document
from harness.report.document import (
    ABSENT,
    Blocker,
    Column,
    Criterion,
    Figure,
    markdown_code,
    markdown_text,
    side_name,
    visible,
)
from harness.report.outcome import read_criteria, read_outcome
from harness.report.reading import as_json, as_mapping, as_number, as_text

__all__ = [
    "MARKDOWN_SYMBOLS",
    "markdown_environment",
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


def render_markdown(verdict: Mapping[str, Any], figures: Sequence[Figure], *, folder: Path) -> str:
    """Return the whole report as markdown.

    Parameters
    ----------
    verdict : mapping
        What ``verdict.json`` holds; any part that the schema does not require may be missing.
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
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=False,  # noqa: S701 - markdown, which has its own filters
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "text": markdown_text,
        "code": markdown_code,
        "line": visible,
        "rule": _rule,
        "link": _link,
    }
    environment.globals["cell"] = _cell
    environment.tests["block"] = _is_block
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


def _is_block(block: object, name: str) -> bool:
    return type(block).__name__ == name


def render_step_summary(verdict: Mapping[str, Any]) -> str:
    """Return the verdict, the criteria and the first thing to do, as a little markdown."""
    document = build_document(verdict)
    outcome = document.outcome
    sign = "✅" if outcome.may_deploy else "☑️" if outcome.verdict == "PASS" else "⛔"
    lines = [f"### {sign} {markdown_text(outcome.answer)}", ""]
    lines += [f"{markdown_text(outcome.because)}", ""] if outcome.because else []
    lines += [f"> {markdown_text(mark)}" for mark in outcome.marks]
    lines += ["", "| Criterion | State | Value | Limit |", "| --- | --- | ---: | ---: |"]
    lines += [_row(criterion) for criterion in document.criteria]
    lines.append("")
    lines += [_blocker(blocker) for blocker in document.blockers]
    return "\n".join(lines).rstrip() + "\n"


def _blocker(blocker: Blocker) -> str:
    names = ", ".join(map(markdown_code, blocker.criteria))
    texts = [blocker.detail, *blocker.next_steps[:1]]
    return f"- {names}: {' '.join(map(markdown_text, texts))}"


def _row(criterion: Criterion) -> str:
    symbol = MARKDOWN_SYMBOLS.get(criterion.state, "❗")
    cells = (
        markdown_code(criterion.id),
        f"{symbol}&nbsp;{markdown_text(criterion.state_words)}",
        markdown_text(criterion.value),
        markdown_text(criterion.limit),
    )
    return f"| {' | '.join(cells)} |"


# Our metric names, as Hugging Face's leaderboards call them.
_METRIC_TYPES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "roc_auc": "roc_auc",
    "average_precision": "average_precision",
    "mcc": "matthews_correlation",
    "brier": "brier_score",
}


def render_model_card(verdict: Mapping[str, Any]) -> str:
    """Return the README of the candidate's head: evaluation, data, limits, and whether it may ship.

    Parameters
    ----------
    verdict : mapping
        What ``verdict.json`` holds; any part that the schema does not require may be missing.

    Returns
    -------
    str
        YAML metadata followed by markdown.
    """
    verdict = as_json(verdict)
    template = markdown_environment().get_template("modelcard.md.jinja")
    body = template.render(
        name=_name(verdict),
        outcome=read_outcome(verdict),
        criteria=read_criteria(verdict),
        metrics=metric_rows(verdict),
        symbols=MARKDOWN_SYMBOLS,
        baseline=side_name(verdict, "baseline"),
        candidate=side_name(verdict, "candidate"),
        embedder=as_text(as_mapping(verdict.get("candidate")).get("model")),
        checkpoint=_artifact(verdict, "checkpoint"),
        split=_artifact(verdict, "split"),
        counts={
            key: as_number(as_mapping(verdict.get("split")).get(key))
            for key in ("n_train", "n_validation", "n_test")
        },
    )
    return f"---\n{_metadata(verdict)}\n---\n\n{body.strip()}\n"


def _metadata(verdict: Mapping[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    metrics = as_mapping(as_mapping(verdict.get("candidate")).get("metrics"))
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
        for name, value in metrics.items()
        if (number := as_number(value)) is not None
    ]
    outcome = read_outcome(verdict)
    base = visible(as_text(as_mapping(verdict.get("candidate")).get("model")))
    data = ModelCardData(
        model_name=_name(verdict),
        base_model=base or None,
        tags=["biology", "virus", "metagenomics", f"gate-{outcome.verdict.lower()}"]
        + (["rehearsal"] if "REHEARSAL" in outcome.short_mark else []),
        eval_results=results or None,
    )
    return str(data.to_yaml()).strip()


def _name(verdict: Mapping[str, Any]) -> str:
    return visible(f"VirNucPro head on {side_name(verdict, 'candidate')}")


def _artifact(verdict: Mapping[str, Any], name: str) -> str:
    return as_text(as_mapping(as_mapping(verdict.get("artifacts")).get(name)).get("sha256"))
