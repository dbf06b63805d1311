"""The HTML panel: self-contained, accessible, readable in both colour schemes and on a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from harness.report.figures import Figure
from harness.report.pages import criteria_panel, panel_page
from harness.verdict.contents import Verdict
from tests.report.conftest import Content, typed

Drawn = tuple[Verdict, list[Figure]]
Element = tuple[str, dict[str, str | None]]

# Every pair of ink and ground that the style uses, by the names of its variables.
INK_ON_GROUND = (
    ("ink", "page"), ("soft", "page"), ("link", "page"), ("ink", "card"), ("soft", "card"),
    ("pass", "page"), ("fail", "page"), ("unsure", "page"), ("not-run", "page"),
    ("on-state", "pass"), ("on-state", "fail"), ("on-state", "rehearsal"), ("mark-ink", "mark"),
    ("unsure", "card"), ("pass", "card"), ("fail", "card"),
)  # fmt: skip
# The same of the criteria's pictures.
SHAPE_ON_GROUND = (
    ("ink", "passing"), ("ink", "failing"), ("soft", "passing"), ("soft", "failing"),
    ("fail", "failing"), ("fail", "passing"), ("unsure", "passing"), ("unsure", "failing"),
)  # fmt: skip
# WCAG 2.2, level AA: success criterion 1.4.3, text of normal size, and 1.4.11, shapes.
TEXT_CONTRAST, SHAPE_CONTRAST = 4.5, 3.0
HEADINGS = {f"h{level}" for level in range(1, 7)}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def _elements(html: str) -> list[Element]:
    parser = _Elements()
    parser.feed(html)
    return parser.found


def _style() -> str:
    return (files("harness.report") / "templates" / "panel.css").read_text(encoding="utf-8")


def _variables(scheme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.+?)\}", _style(), flags=re.DOTALL)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))


def _luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour, after WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), INK_ON_GROUND + SHAPE_ON_GROUND)
def test_panel_colours_contrast_enough(scheme: str, ink: str, ground: str) -> None:
    """All can be read and seen by people with weak sight, in both colour schemes."""
    colours = _variables(scheme)
    low, high = sorted(_luminance(colours[name]) for name in (ink, ground))
    least = TEXT_CONTRAST if (ink, ground) in INK_ON_GROUND else SHAPE_CONTRAST
    assert (high + 0.05) / (low + 0.05) >= least


def test_panel_colours_are_all_checked() -> None:
    """A colour that is not one of the variables, or not checked, would escape the contrast test."""
    style = _style()
    literal = re.findall(r"(?:color|background): (#\w+)", style)
    assert literal == ["#ffffff"]  # behind the figures, which are drawn on white
    used = set(re.findall(r"(?:color|background|fill|stroke): var\(--([\w-]+)\)", style))
    lines = {"line"}
    checked = {name for pair in INK_ON_GROUND + SHAPE_ON_GROUND for name in pair}
    assert used - lines <= checked


def test_panel_is_self_contained(drawn: Drawn) -> None:
    """No script, and no address that a browser would ask for."""
    panel = criteria_panel(*drawn)
    assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe", panel)
    sources = [attrs["src"] for tag, attrs in _elements(panel) if tag == "img"]
    assert all(str(source).startswith("data:image/png;base64,") for source in sources)


def test_panel_embeds_every_figure_with_its_words(drawn: Drawn) -> None:
    """Confusion matrices, curves and losses are inside the file, each with an alternative text."""
    images = [attrs for tag, attrs in _elements(criteria_panel(*drawn)) if tag == "img"]
    assert [image["alt"] for image in images] == [figure.alt for figure in drawn[1]]
    assert len(images) == 11


def test_panel_headings_stand_in_order(verdict: Content) -> None:
    """Headings begin at 2, under the page's own, and skip no level."""
    levels = [
        int(tag[1]) for tag, _ in _elements(criteria_panel(typed(verdict), [])) if tag in HEADINGS
    ]
    assert levels[0] == 2
    assert set(levels[1:]) == {3}


def test_panel_states_are_words_and_symbols(verdict: Content) -> None:
    """The state of a criterion does not depend on its colour."""
    panel = criteria_panel(typed(verdict), [])
    words = re.findall(r'gate-state"><span aria-hidden="true">(.)</span> ([A-Z ]+)<', panel)
    assert [state for _, state in words] == [
        row["state"].replace("_", " ") for row in verdict["criteria"]
    ]


def test_panel_draws_each_criterion_that_has_a_number_and_a_limit(passed: Content) -> None:
    """The picture is told in words as well; a criterion without numbers has none."""
    pictures = [
        attrs for tag, attrs in _elements(criteria_panel(typed(passed), [])) if tag == "svg"
    ]
    has_numbers = [row for row in passed["criteria"] if row["value"] and row["limit"]]
    assert len(pictures) == len(has_numbers) == 4
    assert pictures[0]["aria-label"] == (
        "value: 0.67 points; limit: below 5 points; interval: −0.52 to 2.91 points"  # noqa: RUF001
    )


@pytest.mark.parametrize(
    ("kind", "banner"),
    [("passed", "rehearsal"), ("failed", "halt"), ("halted", "halt"), ("deployable", "go")],
)
def test_panel_banner_is_green_only_for_a_deployment(
    kind: str, banner: str, request: pytest.FixtureRequest
) -> None:
    """A rehearsal that passed must not look like a go."""
    panel = criteria_panel(typed(request.getfixturevalue(kind)), [])
    assert f'<div class="gate-banner gate-{banner}">' in panel


@pytest.mark.parametrize(
    ("name", "width"), [("short", "short"), ("of middling length", "short"), ("x" * 64, "long")]
)
def test_panel_cells_break_where_they_must(name: str, width: str, passed: Content) -> None:
    """A digest is broken anywhere, a number nowhere."""
    passed["environment"] = {"what": name}
    assert f'<td class="gate-number gate-{width}">{name}</td>' in criteria_panel(typed(passed), [])


def test_page_is_the_panel_and_a_title(drawn: Drawn) -> None:
    """Rendered again without pytest, the report holds the very panel of the run."""
    page = panel_page(*drawn)
    assert criteria_panel(*drawn) in page
    assert [tag for tag, _ in _elements(page)][:4] == ["html", "head", "meta", "title"]


def test_panel_tables_can_be_scrolled_by_keyboard(passed: Content) -> None:
    """A table wider than a phone scrolls in its own named region."""
    elements = _elements(criteria_panel(typed(passed), []))
    regions = [attrs for tag, attrs in elements if tag == "div" and attrs.get("role") == "region"]
    assert len(regions) == sum(tag == "table" for tag, _ in elements)
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


BROWSER_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-sync", "--disable-background-networking", "--disable-component-update",
    "--window-size=1300,900", "--virtual-time-budget=10000", "--dump-dom",
)  # fmt: skip
# What scrolls sideways is cut; a browser's window is never narrower than 500 px, but a frame is.
PROBE = """<script>onload = () => parent.postMessage(JSON.stringify({
 overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
 cut: [...document.querySelectorAll(".gate *")].filter(
  e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX != "visible").length,
 requests: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length,
 images: [...document.images].filter(i => i.naturalWidth > 0).length}), "*")</script>"""
FRAME = """<!DOCTYPE html><title>x</title><script>onmessage = e => document.title = e.data</script>
<iframe src="panel.html" width="{width}" height="900" style="border: 0"></iframe>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
@pytest.mark.parametrize("width", [400, 1200])
def test_panel_in_a_browser_fits_and_asks_for_nothing(
    width: int, drawn: Drawn, tmp_path: Path
) -> None:
    """On a phone and on a desktop the page fits the screen, no table is cut, and all is inside."""
    panel = panel_page(*drawn).replace("<details ", "<details open ")
    (tmp_path / "panel.html").write_text(panel.replace("</body>", f"{PROBE}</body>"), "utf-8")
    page = tmp_path / "frame.html"
    page.write_text(FRAME.format(width=width), "utf-8")
    command = [str(CHROMIUM), *BROWSER_OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert '<title>{"overflow":0,"cut":0,"requests":0,"images":11}</title>' in done.stdout
