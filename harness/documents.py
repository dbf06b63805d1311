"""Small documents that others may have written: JSON, TOML, text and exact numbers, all bounded.

Whatever a document holds, reading it ends soon, in little memory, and with the value or one
``ValueError`` (``OSError`` where the file cannot be read): who calls knows which file it was and
what to do about it. A key that stands twice, NaN and infinity are refused, since which value
counts, or what it means, is unknown.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    "exact_number",
    "parse_json",
    "parse_toml",
    "read_json",
    "read_text",
    "require_regular",
]

MAX_BYTES = 64 << 20
MAX_DEPTH = 50
MAX_CONTAINERS = 1_000_000
MAX_DIGITS = 100  # of a number, its exponent's value included

_NUMBER = re.compile(
    r"\s*[-+]?[\d_]*(?:/[\d_]+|(?:\.[\d_]*)?(?:e([-+]?[\d_]+))?)\s*", re.IGNORECASE
)
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")


def require_regular(path: Path) -> int:
    """Return a file's size in bytes; ValueError for a pipe or a device.

    A pipe would be waited for, and a device may never end.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"expected a regular file, {path} is none")
    return found.st_size


def read_text(path: Path, *, most_bytes: int = MAX_BYTES) -> str:
    """Return a file's text, UTF-8 with or without a byte order mark."""
    if (n_bytes := require_regular(path)) > most_bytes:
        raise ValueError(f"expected at most {most_bytes:,} bytes, found {n_bytes:,}")
    return path.read_text(encoding="utf-8-sig")


def read_json(path: Path, *, most_bytes: int = MAX_BYTES) -> Any:
    """Return the JSON value of a file."""
    return parse_json(read_text(path, most_bytes=most_bytes))


def parse_json(text: str, *, is_exact: bool = False) -> Any:
    """Return a JSON value; with ``is_exact``, numbers with a point or exponent as fractions."""
    if (n_containers := text.count("{") + text.count("[")) > MAX_CONTAINERS:
        raise ValueError(f"expected at most {MAX_CONTAINERS:,} objects and lists, {n_containers:,}")
    read_number = exact_number if is_exact else float
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=read_number,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    return _bounded(value)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML document."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(_STRING.sub("", line).split(".")) > MAX_DEPTH:
            raise ValueError(f"line {number}: a key of more than {MAX_DEPTH} parts")
    try:
        table: dict[str, Any] = _bounded(tomllib.loads(text))
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    return table


def exact_number(value: str | int | Fraction) -> Fraction:
    """Return the number that a text says, such as ``0.0002``, ``1/3`` or ``2e-4``, exactly.

    Raises
    ------
    ValueError
        If it says none, divides by 0, or has more than 100 digits, written out.
    """
    text = str(value) if isinstance(value, str) else None
    if text is not None:
        found = _NUMBER.fullmatch(text) if len(text) <= MAX_DIGITS else None
        if found is None or abs(int(found[1] or 0)) > MAX_DIGITS:
            raise ValueError(f"expected a number of at most {MAX_DIGITS} digits, got {text[:40]!r}")
    try:
        return Fraction(value)
    except ZeroDivisionError as error:
        raise ValueError(f"{text!r} divides by zero") from error


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:40]!r} stands twice in one object")
        found[key] = value
    return found


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _bounded(value: Any) -> Any:
    """Return a value whose depth and numbers are within bounds; a nested call would overflow."""
    level = [value]
    for _ in range(MAX_DEPTH):
        for item in level:
            if isinstance(item, int) and abs(item) >= 10**MAX_DIGITS:
                raise ValueError(f"a number of more than {MAX_DIGITS} digits")
            if isinstance(item, float) and not math.isfinite(item):
                raise ValueError(f"{item} is no finite number")
        level = [
            one
            for item in level
            if isinstance(item, dict | list)
            for one in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return value
    raise ValueError(f"nested more than {MAX_DEPTH} deep")
