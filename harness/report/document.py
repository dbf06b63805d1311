"""The report as data: sections of paragraphs, tables and pictures, in no format yet.

All text here is raw: whoever renders it escapes it. What the sections say is written in the
modules beside this one.

Numbers and names as a reader expects them: rounded, with units, the same in every report.

Text from data made harmless: for any output, and for markdown.

HTML is escaped by the templates; what they are given has been through `visible` as well.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.report.reading import as_mapping, as_text

__all__ = [
    "ABSENT",
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
    "label",
    "markdown_code",
    "markdown_text",
    "show_bytes",
    "show_change",
    "show_count",
    "show_moment",
    "show_number",
    "show_percent",
    "show_points",
    "show_range",
    "show_seconds",
    "side_columns",
    "side_name",
    "visible",
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


ABSENT = "\N{EN DASH}"

# The unit that ends a name in the verdict, and how a reader finds it in a heading.
_UNITS = {
    "seconds": "s",
    "points": "points",
    "percent": "%",
    "bytes": "bytes",
    "residues": "residues",
}
_ACRONYMS = {
    "gc": "GC",
    "id": "id",
    "n": "n",
    "p": "p",
    "roc": "ROC",
    "auc": "AUC",
    "cpu": "CPU",
    "lr": "LR",
}


def label(name: str) -> str:
    """Return a JSON key as a heading.

    Examples
    --------
    >>> label("upper_bound_points")
    'Upper bound (points)'
    >>> label("n_records")
    'Records (n)'
    """
    words = name.replace("_", " ").replace("-", " ").split()
    if len(words) > 1 and words[0] == "n":
        return f"{label(' '.join(words[1:]))} (n)"
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    words = [_ACRONYMS.get(word, word) for word in (words[:-1] if unit else words)]
    text = " ".join(words) or name
    heading = text[:1].upper() + text[1:] if words and words[0] not in _ACRONYMS else text
    return f"{heading} ({unit})" if unit else heading


def show_number(number: float | None, digits: int = 4) -> str:
    """Return a number with ``digits`` significant digits, whole numbers in full."""
    if number is None:
        return ABSENT
    if number == int(number) and abs(number) < 1e15:
        return show_count(number)
    if 1000 <= abs(number) < 1e15:
        return show_count(round(number))
    return f"{number:.{digits}g}".replace("-", "\N{MINUS SIGN}", 1 if number < 0 else 0)


def show_count(number: float | None) -> str:
    """Return a whole number with its thousands set apart."""
    return ABSENT if number is None else f"{int(number):,}".replace("-", "\N{MINUS SIGN}")


def show_percent(share: float | None, digits: int = 2) -> str:
    """Return a share of 1 in percent."""
    return ABSENT if share is None else f"{_fixed(100 * share, digits)}%"


def show_change(number: float, digits: int) -> str:
    """Return a difference with its sign."""
    text = _fixed(number, digits)
    return text if number <= 0 else f"+{text}"


def show_seconds(seconds: float | None) -> str:
    """Return a duration in seconds, from a minute on in minutes and hours as well."""
    if seconds is None:
        return ABSENT
    text = f"{_fixed(seconds, 3 if abs(seconds) < 10 else 1)} s"
    if seconds < 60 or seconds >= 1e9:
        return text
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def show_bytes(count: float | None) -> str:
    """Return a size in MiB or GiB."""
    if count is None:
        return ABSENT
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def show_moment(text: str) -> str:
    """Return a moment in ISO 8601 to the minute, in UTC; any other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
        return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment.tzinfo else text
    except (ValueError, OverflowError):
        return text


def show_points(points: float | None) -> str:
    """Return percentage points to the hundredth."""
    return ABSENT if points is None else _fixed(points, 2)


def show_range(
    ends: tuple[float, float] | None, *, scale: float = 1, digits: int = 2, unit: str = ""
) -> str:
    """Return an interval as ``a to b``; empty if there is none."""
    if ends is None:
        return ""
    low, high = (_fixed(scale * end, digits) for end in ends)
    return f"{low} to {high}{unit}"


def side_name(verdict: Mapping[str, Any], side: str) -> str:
    """Return what a side's model is called, marked where its weights are random."""
    facts = as_mapping(verdict.get(side))
    name = as_text(facts.get("name")) or side.capitalize()
    return f"{name} (random weights)" if facts.get("is_random") is True else name


def side_columns(verdict: Mapping[str, Any]) -> tuple[Column, Column]:
    """Return one column of numbers for each side, under its model's name."""
    baseline, candidate = (side_name(verdict, side) for side in ("baseline", "candidate"))
    return (
        Column(title=f"Baseline: {baseline}", kind="number"),
        Column(title=f"Candidate: {candidate}", kind="number"),
    )


def _fixed(number: float, digits: int) -> str:
    text = f"{number:.{digits}f}" if abs(number) < 1e12 else f"{number:.3g}"
    is_zero = not text.strip("-0.")
    return (
        text.lstrip("-") if is_zero else text.replace("-", "\N{MINUS SIGN}", 1 if number < 0 else 0)
    )


# Control, format (bidirectional ones among them), surrogate, line and paragraph separators.
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}

# In markdown a backslash takes the meaning from these; a pipe or a backslash becomes an entity,
# since parsers disagree on how a table row is cut at backslashes.
_ENTITIES = {"|": "&#124;", "\\": "&#92;"}
_MARKDOWN_SPECIAL = re.compile(
    r"[|\\`*\[\]<&~$@#]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore within a word is literal anyway
    r"|:(?=//|\w+:)|(?<=www)\."  # no links, no emoji
    r"|^>|^[-+](?=\s|$)|^[-=](?=[-=\s]*$)|^\d+[.)](?=\s|$)"  # no quote, list, rule or heading
)


def visible(text: str) -> str:
    r"""Return one line of text in which nothing is hidden.

    White space becomes a space; control and bidirectional characters, which could reorder or
    overwrite what a reader sees, become their code point.

    Examples
    --------
    >>> visible("a\tb\u202ec")
    'a b[U+202E]c'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_character, text))


def markdown_text(text: str) -> str:
    r"""Return text that GitHub's markdown shows as it is, also inside a table.

    Examples
    --------
    >>> markdown_text("a|b *c* d_e")
    'a&#124;b \\*c\\* d_e'
    """
    return _MARKDOWN_SPECIAL.sub(_escape, visible(text).strip())


def markdown_code(text: str) -> str:
    """Return text in fixed width for GitHub's markdown, also inside a table.

    Examples
    --------
    >>> markdown_code("NC_029549.1_chunk_3R2")
    '`NC_029549.1_chunk_3R2`'
    """
    shown = visible(text).strip()
    if not shown:
        return ""
    if not re.search(r"[`|]", shown):
        return f"`{shown}`"
    harmless = "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in shown)
    return f"<code>{harmless}</code>"


def _visible_character(character: str) -> str:
    if character in "\t\n\r\f\v\x85\u2028\u2029":
        return " "
    if unicodedata.category(character) in _HIDDEN_CATEGORIES:
        return f"[U+{ord(character):04X}]"
    return character


def _escape(match: re.Match[str]) -> str:
    found = match.group()
    return _ENTITIES.get(found) or f"{found[:-1]}\\{found[-1]}"
