"""The end of one gate run: the facts gathered, the verdict concluded, all reports written.

Whatever fails on the way blocks, is named in the verdict, and keeps nothing else from being
written. What the reports look like is up to the modules that render them.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.gate.proof.history import note_looks, remember, with_warning
from harness.gate.proof.ledger import Ledger
from harness.gate.proof.provenance import describe_environment
from harness.gate.proof.schema import check_facts
from harness.gate.proof.verdict import VERDICT, build_verdict, write_verdict
from harness.report.files import ReportFiles, find_checkpoint

if TYPE_CHECKING:
    from harness.report.figures import Figure

__all__ = ["Publication"]

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
        from harness.report.markdown import render_markdown
        from harness.report.modelcard import render_model_card
        from harness.report.summary import render_step_summary
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
