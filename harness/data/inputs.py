"""Opening and finding the files that users name, with errors that name the file.

Plain or gzip is told by the content, not by the name. What the bytes mean is the readers' business.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from harness.errors import DataError, MissingInput

__all__ = [
    "list_files",
    "named_errors",
    "open_input",
    "open_text",
    "require_files",
    "size_megabytes",
]

_GZIP_MAGIC = b"\x1f\x8b"
_MEGABYTE = 1e6


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system and gzip say into errors that name the file.

    Raises
    ------
    MissingInput
        If the file is not there.
    DataError
        If it cannot be read, or its compressed content is damaged.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise MissingInput(
            f"{error.filename or path} is not there", remedy="Correct the path"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: the gzip content is damaged or cut short ({error}). Copy the file again"
        ) from error
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be read: {error.strerror or error}"
        ) from error


@contextmanager
def open_input(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a plain or gzip file for reading bytes.

    Yields
    ------
    tuple of (binary stream, binary stream)
        The unpacked content, and the file below it, whose position shows the progress.

    Raises
    ------
    MissingInput, DataError
        As ``named_errors``, also for what goes wrong while the streams are read.
    """
    with named_errors(path), path.open("rb") as file:
        if file.peek(2)[:2] != _GZIP_MAGIC:
            yield file, file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast(BinaryIO, unpacked), file


@contextmanager
def open_text(path: Path, *, errors: str = "strict") -> Iterator[tuple[TextIO, BinaryIO]]:
    """Open a plain or gzip file as UTF-8 text, whatever its line ends, without a byte order mark.

    Yields
    ------
    tuple of (text stream, binary stream)
        The lines, and the file below them, as ``open_input``.
    """
    with (
        open_input(path) as (stream, file),
        io.TextIOWrapper(stream, encoding="utf-8-sig", errors=errors) as text,
    ):
        yield text, file


def size_megabytes(path: Path) -> float:
    """Return how large a file is on disk."""
    with named_errors(path):
        return path.stat().st_size / _MEGABYTE


def list_files(folder: Path) -> tuple[Path, ...]:
    """Return all files below a folder, sorted by path, without the ``._*`` that macOS leaves.

    Links to folders are followed.

    Raises
    ------
    MissingInput
        If the folder is not there.
    DataError
        If a folder cannot be read, or a link leads to a folder that was already visited: then its
        files would count twice, or without end.
    """
    found: list[Path] = []
    visited: set[str] = set()
    with named_errors(folder):
        for place, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
            real = os.path.realpath(place)
            if real in visited:
                raise DataError(f"{place}: leads to {real} a second time. Remove the link")
            visited.add(real)
            folders.sort()
            found += [Path(place, name) for name in names if not name.startswith("._")]
    return tuple(sorted(found))


def require_files(folder: Path, ending: str, *others: str) -> tuple[Path, ...]:
    """Return the files below a folder whose names end in one of these; at least one.

    Raises
    ------
    MissingInput
        If there is none, or no such folder.
    DataError
        As ``list_files``.
    """
    endings = (ending, *others)
    files = tuple(file for file in list_files(folder) if file.name.endswith(endings))
    if not files:
        raise MissingInput(
            f"{folder} holds no *{' or *'.join(endings)} file",
            remedy="Name the folder that holds them",
        )
    return files


def _raise(error: OSError) -> None:
    """``os.walk`` would pass over a folder that it may not read."""
    raise error
