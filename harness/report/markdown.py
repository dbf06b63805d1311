"""The report as GitHub's markdown; what it says is decided in `content`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report.content.contents import build_document
from harness.report.content.document import Column, Figure
from harness.report.content.wording import ABSENT
from harness.report.escaping import markdown_code, markdown_text, visible

__all__ = ["MARKDOWN_SYMBOLS", "markdown_environment", "render_markdown"]

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
