"""The report as data: sections of paragraphs, tables and pictures, in no format yet.

All text here is raw: whoever renders it escapes it. What the sections say is written in the
modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "Block",
    "Blocker",
    "Code",
    "Column",
    "Criterion",
    "Document",
    "Figure",
    "Items",
    "Note",
    "Outcome",
    "Paragraph",
    "Picture",
    "Section",
    "Table",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawn figure and its files.

    Attributes
    ----------
    name : str
        What it shows, in one word for file names, such as ``roc``.
    title : str
        One line above it.
    alt : str
        What a reader who cannot see it needs to know.
    svg, png : Path
        Its files.
    """

    name: str
    title: str
    alt: str
    svg: Path
    png: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that the reader must not miss."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list of short texts."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A command line, to be copied."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure at its place."""

    figure: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A table's column; numbers are aligned right, ids and digests are set in a fixed width."""

    title: str
    kind: Literal["text", "number", "code"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under columns; every row has one text a column."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


Block = Paragraph | Note | Items | Code | Picture | Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of the report.

    Attributes
    ----------
    has_model_numbers : bool
        Whether it shows what the models did, so that a rehearsal must be marked.
    """

    title: str
    anchor: str
    blocks: tuple[Block, ...]
    has_model_numbers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One row of the criteria table, in words.

    Attributes
    ----------
    question : str
        What it asks, for readers who do not know its name; empty if it has no such text.
    value, limit, interval : str
        With their unit; empty where there is none.
    """

    id: str
    state: str
    symbol: str
    question: str
    value: str
    limit: str
    interval: str
    detail: str
    warnings: tuple[str, ...]
    next_steps: tuple[str, ...]

    @property
    def state_words(self) -> str:
        """The state for reading: ``NOT RUN`` rather than ``NOT_RUN``."""
        return self.state.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """What stands in the way, told once for all the criteria that it keeps from passing."""

    criteria: tuple[str, ...]
    state_words: str
    symbol: str
    detail: str
    next_steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer of the whole run.

    Attributes
    ----------
    verdict : str
        PASS, HALT or INCOMPLETE.
    answer : str
        The verdict as a sentence.
    may_deploy : bool
        Whether the verdict is a PASS that is no rehearsal and within a deployment's limits. For
        the wording only: what authorises a checkpoint is ``harness verify``.
    because : str
        In a line, what halted it; empty for a PASS.
    problems : tuple of str
        What halted it besides the criteria.
    marks : tuple of str
        What must be known before any number is believed: rehearsal, looser limits.
    short_mark : str
        The same in a few words, to stand wherever numbers appear; empty if there is none.
    """

    verdict: str
    symbol: str
    answer: str
    may_deploy: bool
    because: str
    problems: tuple[str, ...]
    marks: tuple[str, ...]
    short_mark: str
    profile: str
    started: str
    finished: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole report; ``not_reached`` names the sections that have nothing to show."""

    outcome: Outcome
    criteria: tuple[Criterion, ...]
    blockers: tuple[Blocker, ...]
    sections: tuple[Section, ...]
    not_reached: tuple[str, ...]
