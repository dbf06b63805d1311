"""Opening and finding the files that users name, with errors that name the file.

Plain or gzip is told by the content, not by the name. What the bytes mean is the readers' business.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.documents import require_regular
from harness.errors import DataError, MissingInput

__all__ = [
    "list_files",
    "named_errors",
    "open_input",
    "open_regular",
    "open_text",
    "read_parquet",
    "refuse_repeated",
    "require_files",
    "size_megabytes",
]

# A compressed file may hold so many bytes, and so many times its own size besides.
UNPACKED_BYTES, UNPACKED_RATIO = 64 << 20, 20
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
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading bytes; a pipe or device is refused, as ``named_errors``."""
    with named_errors(path):
        try:
            require_regular(path)
        except ValueError as error:
            raise DataError(f"{path}: {error}. Name a file") from error
        with path.open("rb") as file:
            yield file


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
    with open_regular(path) as file:
        if file.peek(2)[:2] != _GZIP_MAGIC:
            yield file, file
            return
        most = most_unpacked_bytes(path.stat().st_size)
        with io.BufferedReader(_BoundedGzip(path, file, most)) as unpacked:
            yield unpacked, file


def most_unpacked_bytes(n_bytes: int) -> int:
    """Return how much a compressed file of so many bytes may hold: sequences pack to a quarter."""
    return UNPACKED_BYTES + UNPACKED_RATIO * n_bytes


class _BoundedGzip(io.RawIOBase):
    """A gzip file's content, which must not be many times as long as the file."""

    def __init__(self, path: Path, file: BinaryIO, most_bytes: int) -> None:
        self._path, self._left = path, most_bytes
        self._unpacked = gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        n_bytes = self._unpacked.readinto(target)
        self._left -= n_bytes
        if self._left < 0:
            raise DataError(
                f"{self._path}: its gzip content is over {UNPACKED_RATIO} times as long as the "
                "file, as no sequences or tables are. Unpack it, if it is right"
            )
        return n_bytes


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table from a Parquet file that holds no more than its size can stand for.

    Raises
    ------
    MissingInput
        If the file is not there.
    DataError
        If it is no Parquet file, lacks a column, has two of one name, or unpacks to many times its
        size.
    """
    with open_regular(path) as stream:
        n_bytes = path.stat().st_size
        most = most_unpacked_bytes(n_bytes)
        try:
            file = pq.ParquetFile(stream)
            names = file.schema_arrow.names
            refuse_repeated(path, names)
            wanted = names if columns is None else list(columns)
            if missing := [name for name in wanted if name not in names]:
                raise DataError(f"{path}: no column {missing[0]!r}; it has {', '.join(names)}")
            # Few texts, repeated often, take little until each is written out.
            kinds = {name: file.schema_arrow.field(name).type for name in wanted}
            texts = [name for name, kind in kinds.items() if _is_text(kind)]
            texts = texts if n_bytes < UNPACKED_BYTES else []
            groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
            stated = max(file.metadata.num_rows, sum(group.total_byte_size for group in groups))
            _check_unpacked(path, stated, most)
            table = pq.ParquetFile(stream, read_dictionary=texts).read(columns=wanted)
            _check_unpacked(path, sum(map(_decoded_bytes, table.columns)), most)
            fields = [file.schema_arrow.field(name) for name in table.column_names]
            return table.cast(pa.schema(fields, file.schema_arrow.metadata))
        except (pa.ArrowException, MemoryError) as error:
            raise DataError(f"{path}: not a readable Parquet table: {error}") from error


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    """Raise DataError if two columns have one name, since which of them counts is unknown."""
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{path}: has two columns {repeated[0]!r}. Keep one of them")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _decoded_bytes(column: pa.ChunkedArray) -> int:
    """Return how many bytes a column takes; one of repeated texts, once it is written out."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = [
        pc.sum(pc.take(pc.binary_length(chunk.dictionary).cast(pa.int64()), chunk.indices)).as_py()
        for chunk in column.chunks
    ]
    return sum(length or 0 for length in lengths)


def _check_unpacked(path: Path, n_bytes: int, most_bytes: int) -> None:
    if n_bytes > most_bytes:
        raise DataError(
            f"{path}: unpacks to {n_bytes:,} bytes or rows, many times the file's size. Write it "
            "again without compression, if it is right"
        )


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
