"""Plain values, such as a parsed TOML file's, to typed settings and back.

Names and types are checked, exact numbers stay exact, and paths are resolved against the file's
own folder. What a section holds, and which values it allows, stands in ``settings``.
"""

from __future__ import annotations

import dataclasses
import types
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_type_hints

from harness.errors import ConfigError

__all__ = ["from_table", "to_table"]


def from_table(cls: Any, table: Any, *, where: str, folder: Path) -> Any:
    """Build a dataclass from a table of plain values.

    Parameters
    ----------
    cls : dataclass
        What to build; its field types say what is allowed.
    table : dict
        The values; None counts as absent.
    where : str
        Name of the table, for messages.
    folder : Path
        What paths are relative to.

    Raises
    ------
    ConfigError
        For an unknown key, a missing one, or a value of the wrong type.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"[{where}] must be a table, got {table!r}")
    hints = get_type_hints(cls)
    if unknown := sorted(set(table) - set(hints)):
        place = f" in [{where}]" if where else ""
        raise ConfigError(f"unknown key {unknown[0]!r}{place}; known: {', '.join(sorted(hints))}")
    prefix = f"{where}." if where else ""
    values = {
        name: _convert(hints[name], value, where=prefix + name, folder=folder)
        for name, value in table.items()
        if value is not None
    }
    if missing := [f.name for f in dataclasses.fields(cls) if _is_needed(f, values)]:
        raise ConfigError(f"missing key {prefix + missing[0]!r}")
    return cls(**values)


def _is_needed(item: dataclasses.Field[Any], values: dict[str, Any]) -> bool:
    has_default = (item.default, item.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    return item.name not in values and not has_default


def _convert(hint: Any, value: Any, *, where: str, folder: Path) -> Any:
    if isinstance(hint, types.UnionType):
        hint = next(choice for choice in get_args(hint) if choice is not types.NoneType)
    if dataclasses.is_dataclass(hint):
        return from_table(hint, value, where=where, folder=folder)
    if hint is Fraction:
        return _exact(value, where)
    if hint == tuple[Path, ...]:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list of paths, got {value!r}")
        return tuple(_convert(Path, item, where=where, folder=folder) for item in value)
    if hint is Path:
        return folder / _checked(str, value, where)
    checked = _checked(hint, value, where)
    return _local_folder(checked, folder) if where.endswith(".model") else checked


def _local_folder(model: Any, folder: Path) -> str:
    """Take a model for a folder beside the config if there is one of that name, else a hub id."""
    local = folder / model
    return str(local) if local.is_dir() else str(model)


def _checked(expected: type, value: Any, where: str) -> Any:
    if type(value) is not expected:
        raise ConfigError(f"{where}: expected {expected.__name__}, got {value!r}")
    return value


def _exact(value: Any, where: str) -> Fraction:
    """Thresholds and rates are compared exactly, so a float is refused."""
    if isinstance(value, float):
        raise ConfigError(f'{where}: write the number as text, "{value}", so that it stays exact')
    try:
        return Fraction(value)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{where}: expected a number as text, got {value!r}") from error


def to_table(value: Any) -> Any:
    """Return a dataclass as plain JSON values, with exact numbers and paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_table(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [to_table(item) for item in value]
    return str(value) if isinstance(value, Fraction | Path) else value
