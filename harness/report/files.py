"""The files of a run's reports: written from finished texts, or corrected where pytest wrote them.

The verdict itself is not among them; it is written last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.artifacts import write_atomically
from harness.report.content.reading import as_mapping, as_text
from harness.report.junit import complete_junit

__all__ = ["ReportFiles", "find_checkpoint"]

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
