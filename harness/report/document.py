"""The report as data: paragraphs, tables and pictures, and the words for numbers and names in them.

It is in no format yet: all text here is raw, and whoever renders it escapes it with the functions
at the end of this module (HTML by its templates). What the sections say is written beside it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from harness.verdict.contents import SIDES, Interval, Verdict

__all__ = [
    "ABSENT",
    "SYMBOLS",
    "TITLE",
    "Block",
    "Blocker",
    "Code",
    "Column",
    "Criterion",
    "Document",
    "Figure",
    "Gallery",
    "Items",
    "Note",
    "Outcome",
    "Paragraph",
    "Scale",
    "Section",
    "Table",
    "columns",
    "label",
    "markdown_code",
    "markdown_text",
    "show_bytes",
    "show_fixed",
    "show_measure",
    "show_moment",
    "show_number",
    "show_percent",
    "show_range",
    "show_seconds",
    "side_heads",
    "side_name",
    "visible",
    "without_empty",
]

TITLE = "Acceptance of the candidate"  # of the HTML report
ABSENT = "\N{EN DASH}"
EMPTY = {ABSENT, ""}
# Each state has a word, a symbol and a colour, so that no reader depends on the colour.
SYMBOLS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "NOT_RUN": "○", "ERROR": "!"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawn figure at its place, and its files.

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
class Gallery:
    """Figures that stand together."""

    figures: tuple[Figure, ...]


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


def columns(*titles: str) -> tuple[Column, ...]:
    """Return columns; a title that begins with # is one of numbers."""
    return tuple(
        Column(title=title.removeprefix("#"), kind="number" if title[:1] == "#" else "text")
        for title in titles
    )


def without_empty(table: Table) -> Table:
    """Return a table without the columns in which nothing stands."""
    known = [
        place for place in range(len(table.columns)) if {row[place] for row in table.rows} - EMPTY
    ]
    return replace(
        table,
        columns=tuple(table.columns[place] for place in known),
        rows=tuple(tuple(row[place] for place in known) for row in table.rows),
    )


Block = Paragraph | Note | Items | Code | Gallery | Table


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
class Scale:
    """A criterion's small picture: places on a line, in percent of its width from the left.

    Attributes
    ----------
    value, limit, zero : float
        Where these lie.
    passing : (float, float)
        From where to where a value passes.
    interval : (float, float) or None
        The ends of the value's interval.
    limit_text : str
        The limit without its unit.
    alt : str
        The picture in words.
    """

    value: float
    limit: float
    zero: float
    passing: Interval
    interval: Interval | None
    limit_text: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One row of the criteria table, in words.

    Attributes
    ----------
    question : str
        What it asks, for readers who do not know its name; empty if it has no such text.
    value, limit, interval : str
        With their unit; empty where there is none.
    scale : Scale or None
        The three as a picture; None without a value or a limit.
    """

    id: str
    state: str
    symbol: str
    question: str
    value: str
    limit: str
    interval: str
    scale: Scale | None
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
    candidate, baseline : str
        What the models are called.
    test_set : str
        Its size.
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

    candidate: str
    baseline: str
    test_set: str
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


# The unit that ends a name in the verdict, and how a reader finds it in a heading.
_UNITS = {
    "seconds": "s",
    "points": "points",
    "percent": "%",
    "bytes": "bytes",
    "residues": "residues",
}
_ACRONYMS = {"gc", "roc", "auc", "cpu", "lr"}
_AS_THEY_ARE = {"id", "n", "p"}


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
    words = [word.upper() if word in _ACRONYMS else word for word in words[: -1 if unit else None]]
    text = " ".join(words) or name
    heading = text if words and words[0] in _AS_THEY_ARE else text[:1].upper() + text[1:]
    return f"{heading} ({unit})" if unit else heading


# How the report rounds: shares in percent and points to two places, shares of 1 to four, all else
# to three significant digits.
_TWO_PLACES = {"points", "percent"}


def show_number(number: float | None) -> str:
    """Return a number with three significant digits, whole numbers in full with thousands."""
    if number is None:
        return ABSENT
    is_whole = abs(number) < 1e15 and (abs(number) >= 1000 or number == int(number))
    return _minus(f"{round(number):,}" if is_whole else f"{number:.3g}")


def show_fixed(number: float | None, digits: int = 2, *, is_change: bool = False) -> str:
    """Return a number with ``digits`` decimals, a change with its sign."""
    if number is None:
        return ABSENT
    text = f"{number:.{digits}f}" if abs(number) < 1e12 else f"{number:.3g}"
    text = text if text.strip("-0.") else text.lstrip("-")  # zero has no sign
    return f"+{text}" if is_change and number > 0 else _minus(text)


def show_measure(text: str, unit: str, limit: str | None = None) -> str:
    """Return a criterion's number, rounded unless that would move it onto or over the limit.

    Examples
    --------
    >>> show_measure("4.2512", "points", "5"), show_measure("4.9996", "points", "5")
    ('4.25', '4.9996')
    """
    number, edge = float(text), float(limit or "nan")
    rounded = round(number, 2) if unit in _TWO_PLACES else float(f"{number:.3g}")
    if (rounded < edge, rounded > edge) != (number < edge, number > edge):
        return _minus(text)
    return show_fixed(number) if unit in _TWO_PLACES else show_number(number)


def show_percent(share: float | None) -> str:
    """Return a share of 1 in percent."""
    return ABSENT if share is None else f"{show_fixed(100 * share)}%"


def show_range(ends: Interval | None, *, scale: float = 1, digits: int = 2, unit: str = "") -> str:
    """Return an interval as ``a to b``; empty if there is none."""
    if ends is None:
        return ""
    return " to ".join(show_fixed(scale * end, digits) for end in ends) + unit


def show_seconds(seconds: float | None) -> str:
    """Return a duration in seconds, from a minute on in minutes and hours."""
    if seconds is None:
        return ABSENT
    if seconds < 60 or seconds >= 1e9:
        return f"{_minus(f'{seconds:#.3g}')} s"
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


def side_name(verdict: Verdict, side: str) -> str:
    """Return what a side's model is called, marked where its weights are random."""
    facts = verdict.sides[side]
    name = facts.name or side.capitalize()
    return f"{name} (random weights)" if facts.is_random else name


def side_heads(verdict: Verdict) -> tuple[str, str]:
    """Return the titles of a column of numbers for each side, with its model's name."""
    names = [f"#{side.capitalize()}: {side_name(verdict, side)}" for side in SIDES]
    return names[0], names[1]


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


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
