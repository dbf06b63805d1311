"""The short summary for a pull request or a workflow page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.content.contents import build_document
from harness.report.content.document import Blocker, Criterion
from harness.report.escaping import markdown_code, markdown_text
from harness.report.markdown import MARKDOWN_SYMBOLS

__all__ = ["render_step_summary"]


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
