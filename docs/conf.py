"""The site of these pages: how Sphinx builds it, and the tables that it makes from the code.

A page asks for tables by a comment, which GitHub does not show, such as
``<!-- from the code: settings -->``. What they say stands in the code: in a field's comment, an
option's help, the schema's descriptions.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import inspect
import json
import re
import types
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

import typer

from harness import cli, config, plugin
from harness.verdict.contents import SCHEMA_PATH

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["TABLES", "fill", "setup"]

project = html_title = "virnucpro-harness"
release = importlib.metadata.version(project)
extensions = ["myst_parser"]
myst_heading_anchors = 4  # links to headings work as they do on GitHub
exclude_patterns = ["_build", "samples"]
html_theme = "furo"
html_copy_source = html_show_copyright = False

SPAN_OR_STAR = re.compile(r"(`[^`]*`)|\*")
MARK = re.compile(r"^<!-- from the code: ([a-z ]+) -->$", re.MULTILINE)


def setup(app: Sphinx) -> None:
    """Fill each page when Sphinx reads it."""

    def on_read(_app: Sphinx, _page: str, source: list[str]) -> None:
        source[0] = fill(source[0])

    app.connect("source-read", on_read)


def fill(page: str) -> str:
    """Replace each comment that asks for tables by the tables.

    Raises
    ------
    KeyError
        For tables that nobody makes.
    """
    return MARK.sub(lambda found: "\n".join(TABLES[found[1]]()), page)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = [*head]
    yield from ("", _row(columns), _row("---" for _ in columns))
    yield from (_row(row) for row in rows)
    yield ""


def _row(cells: Iterable[str]) -> str:
    escaped = (SPAN_OR_STAR.sub(lambda f: f[1] or r"\*", cell) for cell in cells)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in escaped)} |"


def _settings() -> Iterator[str]:
    """Yield every key of ``gate.toml``, table by table."""
    for cls, names in _tables(config.GateConfig).items():
        yield from ("", f"### {', '.join(names) or 'At the top'}")
        yield from _table(("key", "value", "default", ""), _keys(cls))


def _tables(cls: Any, name: str = "") -> dict[Any, list[str]]:
    """Return the dataclasses that a table is made of, each with the names of its tables."""
    found: dict[Any, list[str]] = {cls: [f"`[{name}]`"] if name else []}
    for key, hint in get_type_hints(cls).items():
        kind = _without_none(hint)
        if dataclasses.is_dataclass(kind):
            for inner, names in _tables(kind, f"{name}.{key}".lstrip(".")).items():
                found.setdefault(inner, []).extend(names)
    return found


def _without_none(hint: Any) -> Any:
    return get_args(hint)[0] if isinstance(hint, types.UnionType) else hint


VALUES = {
    Fraction: "number in quotes",
    Path: "path",
    tuple[Path, ...]: "list of paths",
    str: "text",
    int: "whole number",
    bool: "`true` or `false`",
}


def _keys(cls: Any) -> Iterator[tuple[str, str, str, str]]:
    source = inspect.getsource(cls)
    comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", source, flags=re.MULTILINE))
    choices = _choices(source)
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        kind = _without_none(hints[item.name])
        if not dataclasses.is_dataclass(kind):
            value = choices.get(item.name) or VALUES[kind]
            yield f"`{item.name}`", value, _default(item), comments.get(item.name, "")


def _choices(source: str) -> dict[str, str]:
    """Return the values of those keys that are held against a list."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {
        call.args[0].attr: ", ".join(f"`{value}`" for value in getattr(config, call.args[1].id))
        for call in calls
        if ast.unparse(call.func) == "_require_one_of"
        and isinstance(call.args[0], ast.Attribute)
        and isinstance(call.args[1], ast.Name)
    }


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is dataclasses.MISSING:
        return "needed"
    if item.default is None:
        return ""
    value = config.to_table(item.default)
    return f"`{json.dumps(_decimal(item.default) if isinstance(value, str) else value)}`"


def _decimal(value: Any) -> str:
    return str(float(value)).removesuffix(".0") if isinstance(value, Fraction) else str(value)


def _commands() -> Iterator[str]:
    """Yield every command with its arguments and options."""
    group = cast(Any, typer.main.get_command(cli.app))
    for function in cli.COMMANDS:
        command = group.commands[function.__name__]
        hints = get_type_hints(function)
        usage = " ".join(p.name.upper() for p in command.params if p.param_type_name == "argument")
        yield from ("", f"### harness {command.name} {usage}".rstrip(), "", command.help)
        rows = (_parameter(item, hints[item.name]) for item in command.params)
        yield from _table(("", "value", "default", ""), rows)


def _parameter(item: Any, hint: Any) -> tuple[str, str, str, str]:
    kind = _without_none(hint)
    is_argument = item.param_type_name == "argument"
    name = item.name.upper() if is_argument else ", ".join(item.opts)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    value = ", ".join(f"`{choice}`" for choice in choices) or item.metavar or ""
    default = "" if item.default in (None, False) else f"`{item.default}`"
    return f"`{name}`", value, "needed" if item.required else default, item.help or ""


class _Options(list[tuple[str, str, str]]):
    """Takes the place of pytest's parser, and keeps what the plugin offers."""

    def getgroup(self, *_names: str) -> _Options:
        return self

    def addoption(self, name: str, *, metavar: str, help: str) -> None:
        self.append((f"`{name}`", metavar, help))


def _pytest_options() -> Iterator[str]:
    """Yield the options that the plugin adds to pytest."""
    options = _Options()
    plugin.pytest_addoption(cast(Any, options))
    return _table(("", "value", ""), options)


def _schema() -> Iterator[str]:
    """Yield every field of ``verdict.json``, and the definitions that several of them share."""
    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    yield from _object("The whole file", schema)
    for name, part in schema["$defs"].items():
        if "properties" in part:
            yield from _object(f"`{name}`", part)
    yield from ("", "### The smaller parts")
    small = ((name, part) for name, part in schema["$defs"].items() if "properties" not in part)
    yield from _table(("part", "values", ""), _fields(small, set()))


def _object(title: str, part: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### {title}", "", part.get("description", ""))
    fields = _fields(part["properties"].items(), {*part.get("required", ())})
    yield from _table(("field", "values", ""), fields)


def _fields(
    fields: Iterable[tuple[str, dict[str, Any]]], needed: set[str], prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each field, and for those within it that only it has."""
    for name, part in fields:
        mark = " *" if name in needed else ""
        yield f"`{prefix}{name}`{mark}", _values(part), part.get("description", "")
        for suffix, inner in ((".", part), ("[].", part.get("items")), (".*.", _others(part))):
            if isinstance(inner, dict) and "properties" in inner:
                within = inner["properties"].items()
                yield from _fields(within, {*inner.get("required", ())}, prefix + name + suffix)


def _others(part: dict[str, Any]) -> Any:
    return part.get("additionalProperties")


def _values(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return f"`{part['$ref'].rpartition('/')[2]}`"
    if "enum" in part or "const" in part:
        return ", ".join(
            f"`{json.dumps(value)}`" for value in part.get("enum", [part.get("const")])
        )
    kinds = part.get("type", "object" if "properties" in part or "allOf" in part else "any")
    text = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    inner = part.get("items") or _others(part)
    is_listed = isinstance(inner, dict) and "properties" not in inner
    return f"{text} of {_values(inner)}" if is_listed else text


TABLES = {
    "settings": _settings,
    "commands": _commands,
    "pytest options": _pytest_options,
    "schema": _schema,
}
