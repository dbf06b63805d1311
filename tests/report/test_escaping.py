"""Text from data does no harm, in markdown, HTML and a terminal: the same structure, all shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.report.document import markdown_code, markdown_text, visible
from harness.report.pages import (
    criteria_panel,
    render_markdown,
    render_model_card,
    render_step_summary,
)
from harness.report.terminal import render_terminal
from harness.verdict.contents import Verdict
from tests.report.conftest import Content, typed

NASTY = (
    "a|b\\|c",
    "`rm` ``x`` \\`",
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    "![x](http://example.org/a.png) [y](javascript:z)",
    "line\r\n# heading\n\n- item\n---",
    "\u202eevil\u2066\u200b\x1b[31m\x00",
    "&lt;b&gt; &#x3c;",
    "**bold** __b__ ~~s~~ $x$ @team #1 :smile:",
    "1. one\t2) two",
    "--- \\",
    "> quote",
    "- item",
    "+ item",
    "===",
    "---",
    "# heading",
    "2) two",
    '" onload="x',
    "{{ 7 * 7 }} {% raw %}",
    "[link]: http://example.org",
)
TEXTS = st.text(min_size=1, max_size=20) | st.sampled_from(NASTY)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


MakeVerdict = Callable[[], Content]


class _Tags(HTMLParser):
    """Collects the start tags with the names of their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _tags(html: str) -> _Tags:
    parser = _Tags()
    parser.feed(html)
    parser.close()
    return parser


def _kinds(tokens: list[Token] | None) -> list[str]:
    """Return the structure of a parsed text; code and text count alike."""
    kinds = [(token.type, _kinds(token.children)) for token in tokens or []]
    flat = [kind for name, inner in kinds for kind in (name, *inner)]
    return [kind for kind in flat if kind not in {"text", "text_special", "code_inline"}]


def _shown(tokens: list[Token] | None) -> str:
    return "".join(
        _shown(token.children) if token.children else token.content for token in tokens or []
    )


def _verdict_with(text: str, make_verdict: MakeVerdict) -> Verdict:
    """Return a verdict that holds a text wherever data can put one."""
    verdict = make_verdict() | {"command": f"pytest {text}"}
    verdict["criteria"][0] |= {
        "state": "FAIL", "detail": text, "warnings": [text], "next_steps": [text]
    }  # fmt: skip
    verdict["criteria"][0]["evidence"] |= {"largest_genome": {"name": text}}
    verdict["criteria"][2]["evidence"]["lineages"][0]["lineage"] = text
    verdict["criteria"][3]["evidence"]["hard"][0] |= {"what": text, "examples": [text]}
    verdict["breakdowns"]["lineage"][0]["group"] = text
    verdict["baseline"]["name"] = text
    verdict["artifacts"]["checkpoint"]["path"] = text
    verdict["environment"]["device"] = text
    return typed(verdict | {"verdict": "HALT", "halted_by": [text], "training": {}})


def _markdown_structure(text: str, make_verdict: MakeVerdict) -> list[str]:
    verdict = _verdict_with(text, make_verdict)
    kinds = _kinds(MARKDOWN.parse(render_markdown(verdict, [], folder=Path())))
    return [kind for kind in kinds if kind not in {"html_inline", "softbreak"}]


@cache
def _plain_markdown(make_verdict: MakeVerdict) -> list[str]:
    return _markdown_structure("x", make_verdict)


@settings(max_examples=100)
@given(text=TEXTS)
def test_markdown_text_in_a_table_shows_itself(text: str) -> None:
    """A cell holds the text as it was, and the row stays a row of two cells."""
    tokens = MARKDOWN.parse(f"| a | b |\n| --- | --- |\n| {markdown_text(text)} | end |\n")
    assert _kinds(tokens).count("td_open") == 2
    cells = [token for token in tokens if token.type == "inline"]
    assert _shown(cells[2].children) == visible(text).strip()
    assert _kinds(cells[2].children) == []


@settings(max_examples=100)
@given(text=TEXTS)
def test_markdown_code_in_a_table_shows_itself(text: str) -> None:
    """A fixed-width cell holds the text as it was; at most a code element surrounds it."""
    tokens = MARKDOWN.parse(f"| a | b |\n| --- | --- |\n| {markdown_code(text)} | end |\n")
    cell = [token for token in tokens if token.type == "inline"][2]
    shown = _shown(cell.children).removeprefix("<code>").removesuffix("</code>")
    assert shown == visible(text).strip()
    assert set(_kinds(cell.children)) <= {"html_inline"}


@settings(max_examples=100)
@given(text=TEXTS)
def test_markdown_text_in_a_paragraph_stays_a_paragraph(text: str) -> None:
    """No text from data becomes a heading, a list, a quote, a rule or code."""
    tokens = MARKDOWN.parse(f"Before.\n\n{markdown_text('x' + text)}\n\nAfter.\n")
    alone = MARKDOWN.parse(f"Before.\n\n{markdown_text(text) or 'x'}\n\nAfter.\n")
    assert _kinds(tokens) == _kinds(alone) == ["paragraph_open", "inline", "paragraph_close"] * 3


@settings(max_examples=10, deadline=None)
@given(text=TEXTS)
@example(text=" ".join(NASTY))
def test_markdown_report_keeps_its_structure(make_verdict: MakeVerdict, text: str) -> None:
    """Whatever data says, the report has the headings, tables and lists that it always has."""
    assert _markdown_structure(f"x{text}x", make_verdict) == _plain_markdown(make_verdict)


@settings(max_examples=10, deadline=None)
@given(text=TEXTS)
@example(text=" ".join(NASTY))
def test_html_panel_keeps_its_structure(make_verdict: MakeVerdict, text: str) -> None:
    """Whatever data says, the panel has the elements and attributes that it always has."""
    report, plain = (
        _tags(criteria_panel(_verdict_with(t, make_verdict), [])) for t in (f"x{text}", "x")
    )
    assert report.tags == plain.tags
    assert visible(f"x{text}").strip() in " ".join(report.text)


@settings(max_examples=10, deadline=None)
@given(text=TEXTS)
@example(text=" ".join(NASTY))
def test_reports_hold_no_hidden_characters(make_verdict: MakeVerdict, text: str) -> None:
    """No control or bidirectional character from data reaches any report."""
    verdict = _verdict_with(text, make_verdict)
    reports = (
        render_markdown(verdict, [], folder=Path()),
        criteria_panel(verdict, []),
        render_step_summary(verdict),
        render_terminal(verdict, width=80, is_terminal=True, use_colour=False, report_path="r"),
        render_model_card(verdict).split("---\n", 2)[2],  # the metadata is quoted by YAML
    )
    hidden = {c for report in reports for c in report if unicodedata.category(c)[0] == "C"}
    assert {c for c in hidden if unicodedata.category(c) in ("Cc", "Cf", "Cs")} <= {"\n"}


@pytest.mark.parametrize("name", ["NC_029549.1_chunk_3R2", "T4-like", "Methanobacterium sp. MB1"])
def test_ordinary_names_are_left_as_they_are(name: str) -> None:
    """The raw markdown of ordinary data stays readable."""
    assert markdown_text(name) == name
    assert markdown_code(name) == f"`{name}`"


def test_visible_control_characters_are_named() -> None:
    """A reader sees that something was hidden, and what."""
    assert visible("a\u202eb\x1bc\nd") == "a[U+202E]b[U+001B]c d"
