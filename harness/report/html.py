"""The criteria panel on top of the HTML report: static, self-contained, for phones too.

It holds its own style, which also lets the rest of the page fit a narrow or a dark screen.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report.document import Figure, visible
from harness.report.outcome import build_document
from harness.verdict.contents import Verdict

__all__ = ["TITLE", "criteria_panel", "panel_page"]

TITLE = "Acceptance of the candidate"
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
    template = _environment().get_template("panel.html.jinja")
    return template.render(document=build_document(verdict, figures), style=style)


def panel_page(verdict: Verdict, figures: Sequence[Figure]) -> str:
    """Return the panel as a page of its own: the HTML report without pytest's part."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{TITLE}</title>\n</head>\n<body>\n<h1>{TITLE}</h1>\n"
        f"{criteria_panel(verdict, figures)}\n</body>\n</html>\n"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"embedded": _embedded, "width_class": _width_class}
    environment.tests["block"] = lambda block, name: type(block).__name__ == name
    return environment


def _width_class(text: str) -> str:
    """Return how a cell may be broken: nowhere, on a phone only, or, a digest say, anywhere."""
    if max(map(len, text.split()), default=0) > LONG_WORD:
        return " gate-long"
    return " gate-short" if len(text) < SHORT else " gate-medium" if len(text) < MEDIUM else ""


def _embedded(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode('ascii')}"
