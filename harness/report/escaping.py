"""Text from data made harmless: for any output, and for markdown.

HTML is escaped by the templates; what they are given has been through `visible` as well.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["markdown_code", "markdown_text", "visible"]

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
