"""The end of one gate run: the facts gathered, the verdict concluded, all reports written.

Whatever fails on the way blocks, is named in the verdict, and keeps nothing else from being
written. What the reports look like is up to the modules that render them.

The files of a run's reports: written from finished texts, or corrected where pytest wrote them.

The verdict itself is not among them; it is written last.

The JUnit file for CI systems: pytest's, with the verdict added and the host's name removed.

The properties of each criterion are set by the plugin while the tests run.
"""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from xml.etree import ElementTree as ET

from harness.artifacts import write_atomically
from harness.report.document import visible
from harness.report.reading import as_mapping, as_text, as_texts
from harness.verdict.history import note_looks, remember, with_warning
from harness.verdict.ledger import Ledger
from harness.verdict.provenance import describe_environment
from harness.verdict.verdict import VERDICT, build_verdict, check_facts, write_verdict

if TYPE_CHECKING:
    from harness.report.figures import Figure

__all__ = [
    "Publication",
    "ReportFiles",
    "complete_junit",
    "criterion_properties",
    "find_checkpoint",
]


_SUITE_PROPERTIES = ("verdict", "profile", "rehearsal", "halted_by")


def criterion_properties(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a criterion's test case tells: name and value; what is not known is left out.

    Parameters
    ----------
    row : mapping
        A criterion as ``verdict.json`` holds it.
    """
    texts = {"criterion": as_text(row.get("id"))}
    texts |= {key: as_text(row.get(key)) for key in ("state", "value", "limit", "unit")}
    texts["interval"] = " to ".join(as_texts(row.get("interval")))
    return [(name, visible(text)) for name, text in texts.items() if text]


def complete_junit(path: Path, verdict: Mapping[str, Any]) -> None:
    """Write the verdict into a JUnit file as properties of its suite, and forget the host.

    Parameters
    ----------
    path : Path
        What pytest wrote.
    verdict : mapping
        The verdict that ``verdict.json`` will hold; called again, it replaces the one before.
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
        for name, text in _suite_properties(verdict):
            ET.SubElement(properties, "property", name=name, value=text)
    content: bytes = ET.tostring(tree, encoding="utf-8", xml_declaration=True)
    write_atomically(path, content)


def _suite_properties(verdict: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rehearsal = "false" if verdict.get("rehearsal") is False else "true"
    texts = (as_text(verdict.get("verdict")), as_text(verdict.get("profile")), rehearsal)
    reasons = "; ".join(map(visible, as_texts(verdict.get("halted_by"))))
    yield from zip(_SUITE_PROPERTIES, (*texts, reasons), strict=True)


T = TypeVar("T")
CARD = "README.md"  # where Hugging Face looks for a model card


class Guard(Protocol):
    """Calls something, and notes it if it raises."""

    def __call__(self, what: str, call: Callable[[], T], otherwise: T) -> T: ...


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

    def write(self, texts: Mapping[str, str], verdict: Mapping[str, Any], *, guard: Guard) -> None:
        """Write or correct each file; one that has failed is not tried again.

        Parameters
        ----------
        texts : mapping of str to str
            ``markdown``, ``panel`` and ``card``.
        verdict : mapping
            What they tell.
        guard : callable
            Takes what is done, in words, what does it, and what to return if that raises.
        """
        writers: dict[str, Callable[[], None]] = {
            "writing report.md": lambda: write_atomically(self._markdown, texts["markdown"]),
            "correcting the HTML report": lambda: self._correct_html(texts["panel"]),
            "completing the JUnit report": lambda: self._complete_junit(verdict),
            "writing the model card": lambda: _write_card(verdict, texts["card"]),
        }
        for what, write in writers.items():
            if what not in self._unwritten and not guard(what, partial(_is_done, write), False):
                self._unwritten.add(what)

    def _correct_html(self, panel: str) -> None:
        """Bring the panel up to date if a reporter failed after pytest-html had written it."""
        path, shown = self._html, self.shown_panel
        if path is not None and path.is_file() and shown and shown != panel:
            text = path.read_text(encoding="utf-8")
            write_atomically(path, text.replace(shown, panel))
            self.shown_panel = panel

    def _complete_junit(self, verdict: Mapping[str, Any]) -> None:
        if self._xml is not None and self._xml.is_file():
            complete_junit(self._xml, verdict)


def find_checkpoint(verdict: Mapping[str, Any]) -> Path | None:
    """Return the candidate's head, if the run has come as far as making one."""
    name = as_text(as_mapping(as_mapping(verdict.get("artifacts")).get("checkpoint")).get("path"))
    return Path(name) if name and Path(name).is_file() else None


def _is_done(write: Callable[[], None]) -> bool:
    write()
    return True


def _write_card(verdict: Mapping[str, Any], card: str) -> None:
    """Write the model card beside the checkpoint, whose artifact does not count it as its own."""
    if checkpoint := find_checkpoint(verdict):
        write_atomically(checkpoint.with_name(CARD), card)


# Exit codes of pytest that stay: interrupted, internal error, usage error.
BROKEN_OFF = (2, 3, 4)
# What these exit codes of pytest mean is told in no other way.
REASONS = {4: "pytest was called in a wrong way", 5: "no test was selected"}


class Publication:
    """One run's verdict and reports.

    Parameters
    ----------
    ledger : Ledger
        What happened in the run.
    opening : mapping
        The verdict that the run began with.
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

    def __init__(
        self,
        ledger: Ledger,
        opening: Mapping[str, Any],
        folder: Path,
        *,
        html_path: str | None = None,
        xml_path: str | None = None,
        width: int = 80,
        is_terminal: bool = False,
        use_colour: bool = False,
    ) -> None:
        self._ledger = ledger
        self._opening = dict(opening)
        self._folder = folder
        self._files = ReportFiles(folder, html_path=html_path, xml_path=xml_path)
        self._width = width
        self._is_terminal = is_terminal
        self._use_colour = use_colour
        self._facts: dict[str, Any] = {}
        self._environment: dict[str, Any] = {}
        self._figures: list[Figure] = []
        self._finished = ""
        self._texts: dict[str, str] = {}
        self._told: dict[str, Any] = {}  # the verdict that the written reports tell
        self.verdict: dict[str, Any] = {}

    @property
    def terminal_text(self) -> str:
        """The verdict for a terminal; its last line is the verdict in brief."""
        return self._texts["terminal"]

    def gather(self, providers: Iterable[Callable[[], dict[str, Any]]], root: Path) -> None:
        """Ask the stages for their facts, once, and conclude for the first time."""
        self._finished = datetime.now(UTC).isoformat(timespec="seconds")
        guard, rows = self._ledger.guard, self._ledger.rows
        nothing: dict[str, Any] = {}
        parts = [guard("a provider of facts", ask, nothing) for ask in providers]
        facts, problems = check_facts(parts)
        self._facts = guard("counting the looks", lambda: note_looks(facts, rows()), facts)
        for problem in problems:
            self._ledger.note(problem)
        describe = functools.partial(describe_environment, root)
        self._environment = guard("describing the environment", describe, nothing)
        self.settle()

    def show_panel(self) -> str:
        """Return the criteria as HTML, for the head of pytest-html's report."""
        self._files.shown_panel = self._texts["panel"]
        return self._files.shown_panel

    def heed(self, exitstatus: int) -> None:
        """Have what only pytest's exit code tells block, too."""
        if exitstatus in REASONS:
            self._ledger.note(REASONS[exitstatus])
        elif exitstatus and self.verdict["verdict"] == "PASS":
            self._ledger.note(f"pytest ended with exit code {exitstatus:d}")
        self.settle()

    def exit_code(self, exitstatus: int) -> int:
        """Return 0 only with PASS; pytest's own code where the run was broken off; else 1."""
        if self.verdict["verdict"] == "PASS":
            return 0
        return exitstatus if exitstatus in BROKEN_OFF else 1

    def settle(self) -> None:
        """Conclude on what is known by now, and render it if that has changed.

        A renderer that fails is told by the other reports once this is called again.
        """
        verdict = self._conclude()
        if verdict != self.verdict:
            self.verdict = verdict
            nothing: dict[str, str] = {}
            texts = self._ledger.guard("rendering the reports", self._render, nothing)
            self._texts = _plain_texts(verdict) | texts

    def publish(self, *, summary_path: str | None = None) -> None:
        """Write the reports, and last of all the verdict, which tells what failed before.

        Parameters
        ----------
        summary_path : str or None
            A file that the short summary is appended to.
        """
        guard = self._ledger.guard
        self.settle()
        if summary_path:
            guard("writing a summary", lambda: self._append_summary(Path(summary_path)), None)
            self.settle()
        self._write_reports()
        guard("keeping the history", self._remember, None)
        self._write_reports()
        path = self._folder / VERDICT
        guard("writing the verdict", lambda: write_verdict(path, self.verdict), None)
        self.settle()

    def _write_reports(self) -> None:
        """Write all reports, and again, to tell it, where one of them has failed."""
        while self._told != self.verdict:
            self._told = self.verdict
            self._files.write(self._texts, self.verdict, guard=self._ledger.guard)
            self.settle()

    def _remember(self) -> None:
        """Add the verdict to its test set's history; a failure is a warning in the reports."""
        if warning := remember(self.verdict):
            self._facts = with_warning(self._facts, warning)
            self.settle()

    def _conclude(self) -> dict[str, Any]:
        return build_verdict(
            self._opening,
            rows=self._ledger.rows(),
            problems=self._ledger.problems(),
            facts=self._facts,
            environment=self._environment,
            finished=self._finished,
        )

    def _render(self) -> dict[str, str]:
        from harness.report.html import criteria_panel
        from harness.report.markdown import render_markdown, render_model_card, render_step_summary
        from harness.report.terminal import render_terminal

        guard, verdict = self._ledger.guard, self.verdict
        figures: list[Figure] = guard("drawing the figures", self._draw, [])
        renderers: dict[str, Callable[[], str | None]] = {
            "markdown": lambda: render_markdown(verdict, figures, folder=self._folder),
            "panel": lambda: criteria_panel(verdict, figures),
            "summary": lambda: render_step_summary(verdict),
            "terminal": lambda: render_terminal(
                verdict,
                width=self._width,
                is_terminal=self._is_terminal,
                use_colour=self._use_colour,
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

            self._figures = draw_figures(self.verdict, self._folder / "figures")
        return self._figures

    def _append_summary(self, path: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(self._texts["summary"])


def _plain_texts(verdict: Mapping[str, Any]) -> dict[str, str]:
    """Say the verdict in one line, for each report whose renderer fails."""
    line = f"{verdict['verdict']}: {'; '.join(verdict['halted_by'])}"
    texts = dict.fromkeys(("markdown", "card", "summary", "terminal"), f"{line}\n")
    return texts | {"panel": f"<p>{html.escape(line)}</p>"}


def _from_here(path: Path) -> str:
    """Return a path as a person would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
