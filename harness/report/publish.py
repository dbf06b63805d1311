"""The end of one gate run: the facts gathered, the verdict concluded, all reports written.

Whatever fails on the way blocks, is named in the verdict, and keeps nothing else from being
written; the verdict itself is written last. What reports look like is up to the modules that render
them; pytest's own files, HTML and JUnit, are corrected here, and name no host afterwards.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from harness.artifacts import CARD, write_atomically
from harness.report.document import visible
from harness.verdict.contents import Json, Verdict
from harness.verdict.history import note_looks, remember, with_warning
from harness.verdict.ledger import Ledger
from harness.verdict.provenance import describe_environment
from harness.verdict.verdict import VERDICT, build_verdict, check_facts, write_verdict

if TYPE_CHECKING:
    from harness.criteria.result import CriterionResult
    from harness.report.figures import Figure

__all__ = [
    "Publication",
    "ReportFiles",
    "complete_junit",
    "criterion_properties",
    "find_checkpoint",
]


_CASE_PROPERTIES = ("state", "value", "limit", "unit")
_SUITE_PROPERTIES = ("verdict", "profile", "rehearsal", "halted_by")


def criterion_properties(result: CriterionResult) -> list[tuple[str, str]]:
    """Return what a criterion's test case tells: name and value; what is not known is left out."""
    row = result.to_dict()
    texts = {"criterion": row["id"]} | {key: row[key] for key in _CASE_PROPERTIES}
    texts["interval"] = " to ".join(row["interval"] or ())
    return [(name, visible(text)) for name, text in texts.items() if text]


def complete_junit(path: Path, verdict: Verdict) -> None:
    """Write the verdict into a JUnit file as properties of its suite, and forget the host.

    Parameters
    ----------
    path : Path
        What pytest wrote.
    verdict : Verdict
        The one that ``verdict.json`` will hold; called again, it replaces the one before.
    """
    tree = ET.fromstring(path.read_bytes())  # noqa: S314 - pytest has just written it
    for suite in tree.iter("testsuite"):
        suite.attrib.pop("hostname", None)
        properties = suite.find("properties")
        if properties is None:
            properties = ET.Element("properties")
            suite.insert(0, properties)
        for former in [one for one in properties if one.get("name") in _SUITE_PROPERTIES]:
            properties.remove(former)
        reasons = "; ".join(map(visible, verdict.halted_by))
        texts = (verdict.verdict, verdict.profile, str(verdict.rehearsal).lower(), reasons)
        for name, text in zip(_SUITE_PROPERTIES, texts, strict=True):
            ET.SubElement(properties, "property", name=name, value=text)
    content: bytes = ET.tostring(tree, encoding="utf-8", xml_declaration=True)
    write_atomically(path, content)


class ReportFiles:
    """Where one run's reports lie.

    Parameters
    ----------
    folder : Path
        The report directory.
    html_path : str or None
        pytest-html's report, if it writes one.
    xml_path : str or None
        The JUnit file, if pytest writes one.

    Attributes
    ----------
    shown_panel : str
        The panel that stands in the HTML report; empty before there is one.
    """

    def __init__(self, folder: Path, *, html_path: str | None, xml_path: str | None) -> None:
        self.shown_panel = ""
        self._markdown = folder / "report.md"
        self._html = Path(html_path) if html_path else None
        self._xml = Path(os.path.expandvars(xml_path)).expanduser() if xml_path else None
        self._unwritten: set[str] = set()

    @property
    def to_read(self) -> Path:
        """The report that a person is sent to."""
        return self._html or self._markdown

    def write(self, texts: Mapping[str, str], verdict: Verdict, ledger: Ledger) -> None:
        """Write or correct each file; one that has failed is not tried again.

        Parameters
        ----------
        texts : mapping of str to str
            ``markdown``, ``panel`` and ``card``.
        verdict : Verdict
            What they tell.
        ledger : Ledger
            Where a failure is noted.
        """
        writers: dict[str, Callable[[], None]] = {
            "writing report.md": lambda: write_atomically(self._markdown, texts["markdown"]),
            "correcting the HTML report": lambda: self._correct_html(texts["panel"]),
            "completing the JUnit report": lambda: self._complete_junit(verdict),
            "writing the model card": lambda: _write_card(verdict, texts["card"]),
        }
        for what, write in writers.items():
            if what not in self._unwritten and not ledger.guard(
                what, partial(_is_done, write), False
            ):
                self._unwritten.add(what)

    def _correct_html(self, panel: str) -> None:
        """Bring the panel up to date if a reporter failed after pytest-html had written it."""
        path, shown = self._html, self.shown_panel
        if path is not None and path.is_file() and shown and shown != panel:
            text = path.read_text(encoding="utf-8")
            write_atomically(path, text.replace(shown, panel))
            self.shown_panel = panel

    def _complete_junit(self, verdict: Verdict) -> None:
        if self._xml is not None and self._xml.is_file():
            complete_junit(self._xml, verdict)


def find_checkpoint(verdict: Verdict) -> Path | None:
    """Return the candidate's head, if the run has come as far as making one."""
    entry = verdict.artifacts.get("checkpoint")
    return Path(entry.path) if entry is not None and Path(entry.path).is_file() else None


def _is_done(write: Callable[[], None]) -> bool:
    write()
    return True


def _write_card(verdict: Verdict, card: str) -> None:
    """Write the model card beside the checkpoint, whose artifact does not count it as its own."""
    if checkpoint := find_checkpoint(verdict):
        write_atomically(checkpoint.with_name(CARD), card)


# Exit codes of pytest that stay: interrupted, internal error, usage error.
BROKEN_OFF = (2, 3, 4)
# What these exit codes of pytest mean is told in no other way.
REASONS = {4: "pytest was called in a wrong way", 5: "no test was selected"}


@dataclass(eq=False)
class Publication:
    """One run's verdict and reports.

    Parameters
    ----------
    ledger : Ledger
        What happened in the run.
    opening : mapping
        The verdict that the run began with, as JSON.
    folder : Path
        The report directory.
    html_path : str or None
        pytest-html's report, if it writes one.
    xml_path : str or None
        The JUnit file, if pytest writes one.
    width : int
        Columns of the terminal.
    is_terminal : bool
        Whether it is a terminal rather than a log.
    use_colour : bool
        Whether it shows colours.
    """

    ledger: Ledger
    opening: Json
    folder: Path
    html_path: str | None = None
    xml_path: str | None = None
    width: int = 80
    is_terminal: bool = False
    use_colour: bool = False
    verdict: Verdict = field(init=False)  # from ``gather`` on
    _facts: dict[str, Any] = field(default_factory=dict)
    _environment: dict[str, Any] = field(default_factory=dict)
    _figures: list[Figure] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)
    _finished: str = ""
    _heard: object = None  # what the verdict was concluded from
    _told: Verdict | None = None  # the verdict that the written reports tell

    def __post_init__(self) -> None:
        self._files = ReportFiles(self.folder, html_path=self.html_path, xml_path=self.xml_path)

    @property
    def terminal_text(self) -> str:
        """The verdict for a terminal; its last line is the verdict in brief."""
        return self._texts["terminal"]

    def gather(self, providers: Iterable[Callable[[], dict[str, Any]]], root: Path) -> None:
        """Ask the stages for their facts, once, and conclude for the first time."""
        self._finished = datetime.now(UTC).isoformat(timespec="seconds")
        guard, nothing = self.ledger.guard, dict[str, Any]()
        parts = [guard("a provider of facts", ask, nothing) for ask in providers]
        self._facts, problems = check_facts(parts)
        for problem in problems:
            self.ledger.note(problem)
        describe = partial(describe_environment, root)
        self._environment = guard("describing the environment", describe, nothing)
        self._facts = guard("counting the looks", self._note_looks, self._facts)
        self.settle()

    def show_panel(self) -> str:
        """Return the criteria as HTML, for the head of pytest-html's report."""
        self._files.shown_panel = self._texts["panel"]
        return self._files.shown_panel

    def heed(self, exitstatus: int) -> None:
        """Have what only pytest's exit code tells block, too."""
        if exitstatus in REASONS:
            self.ledger.note(REASONS[exitstatus])
        elif exitstatus and self.verdict.verdict == "PASS":
            self.ledger.note(f"pytest ended with exit code {exitstatus:d}")
        self.settle()

    def exit_code(self, exitstatus: int) -> int:
        """Return 0 only with PASS; pytest's own code where the run was broken off; else 1."""
        if self.verdict.verdict == "PASS":
            return 0
        return exitstatus if exitstatus in BROKEN_OFF else 1

    def settle(self) -> None:
        """Conclude on what is known by now, and render it if that has changed.

        A renderer that fails is told by the other reports once this is called again.
        """
        heard = (self.ledger.rows(), self.ledger.problems(), self._facts)
        if heard != self._heard:
            self._heard, self.verdict = heard, self._conclude()
            texts = self.ledger.guard("rendering the reports", self._render, dict[str, str]())
            self._texts = _plain_texts(self.verdict) | texts

    def publish(self, *, summary_path: str | None = None) -> None:
        """Write the reports, and last of all the verdict, which tells what failed before.

        Parameters
        ----------
        summary_path : str or None
            A file that the short summary is appended to.
        """
        guard = self.ledger.guard
        self.settle()
        if summary_path:
            guard("writing a summary", lambda: self._append_summary(Path(summary_path)), None)
            self.settle()
        self._write_reports()
        guard("keeping the history", self._remember, None)
        self._write_reports()
        path = self.folder / VERDICT
        guard("writing the verdict", lambda: write_verdict(path, self.verdict), None)
        self.settle()

    def _write_reports(self) -> None:
        """Write all reports, and again, to tell it, where one of them has failed."""
        while self._told != self.verdict:
            self._told = self.verdict
            self._files.write(self._texts, self.verdict, self.ledger)
            self.settle()

    def _remember(self) -> None:
        """Add the verdict to its test set's history; a failure is a warning in the reports."""
        if warning := remember(self.verdict):
            self._facts = with_warning(self._facts, warning)
            self.settle()

    def _note_looks(self) -> dict[str, Any]:
        return note_looks(self._facts, self._conclude())

    def _conclude(self) -> Verdict:
        return build_verdict(
            self.opening,
            rows=self.ledger.rows(),
            problems=self.ledger.problems(),
            facts=self._facts,
            environment=self._environment,
            finished=self._finished,
        )

    def _render(self) -> dict[str, str]:
        from harness.report.pages import (
            criteria_panel,
            render_markdown,
            render_model_card,
            render_step_summary,
        )
        from harness.report.terminal import render_terminal

        guard, verdict = self.ledger.guard, self.verdict
        figures: list[Figure] = guard("drawing the figures", self._draw, [])
        renderers: dict[str, Callable[[], str | None]] = {
            "markdown": lambda: render_markdown(verdict, figures, folder=self.folder),
            "panel": lambda: criteria_panel(verdict, figures),
            "summary": lambda: render_step_summary(verdict),
            "terminal": lambda: render_terminal(
                verdict,
                width=self.width,
                is_terminal=self.is_terminal,
                use_colour=self.use_colour,
                report_path=_from_here(self._files.to_read),
            ),
        }
        if find_checkpoint(verdict) is not None:
            renderers["card"] = lambda: render_model_card(verdict)
        texts = {
            name: guard(f"rendering the {name}", call, None) for name, call in renderers.items()
        }
        return {name: text for name, text in texts.items() if text is not None}

    def _draw(self) -> list[Figure]:
        """Draw the facts, once; without any, the plotting library is not even loaded."""
        if self._facts and not self._figures:
            from harness.report.figures import draw_figures

            self._figures = draw_figures(self.verdict, self.folder / "figures")
        return self._figures

    def _append_summary(self, path: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(self._texts["summary"])


def _plain_texts(verdict: Verdict) -> dict[str, str]:
    """Say the verdict in one line, for each report whose renderer fails."""
    line = f"{verdict.verdict}: {'; '.join(verdict.halted_by)}"
    texts = dict.fromkeys(("markdown", "card", "summary", "terminal"), f"{line}\n")
    return texts | {"panel": f"<p>{html.escape(line)}</p>"}


def _from_here(path: Path) -> str:
    """Return a path as a person would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
