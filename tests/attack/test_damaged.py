"""What could be wrong with each document, field by field: a value, or an error of the project."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest_json
from harness.errors import HarnessError
from tests.attack.readers import READERS, Reader

NESTED: Any = 1
for _ in range(60):
    NESTED = [NESTED]
# By kind: nothing, other types, numbers out of any range, what is nested too deeply.
WRONG = (None, "x", "1e999999999", "\0", -1, 0, 1.5, 10**9, 10**200, True, [], {}, [None], NESTED)
DOCUMENTS = [reader for reader in READERS if reader.is_json]
MOST_FIELDS = 150  # of one document; neighbours in lists are alike


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: str(reader.name))
def test_file_when_sound_then_is_read(tmp_path: Path, reader: Reader) -> None:
    """What is damaged below was no error before."""
    assert reader.read(reader.write(tmp_path)) is not None


@pytest.mark.slow  # some thousand readings
@pytest.mark.parametrize("reader", DOCUMENTS, ids=lambda reader: str(reader.name))
def test_document_when_any_field_is_wrong_then_value_or_error_of_the_project(
    tmp_path: Path, reader: Reader
) -> None:
    """Each field as each kind of wrong value, and left out; and the whole document likewise."""
    path = reader.write(tmp_path)
    sound = json.loads(path.read_text())
    wrong = 0
    for damaged in _damaged(sound):
        path.write_text(json.dumps(_signed(damaged)))
        wrong += _is_refused(reader, path)
    assert wrong > 10


@pytest.mark.parametrize("reader", DOCUMENTS, ids=lambda reader: str(reader.name))
@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 90_000, b'{"a": ' * 15_000, b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1e999}',
     b"\xff\xfe", b'"' + b"x" * 90_000, b"1" * 90_000, b"{" + b'"a":[],' * 9_000],
    ids=["empty", "lists", "objects", "twice", "nan", "infinite", "binary", "open", "digit", "cut"],
)  # fmt: skip
def test_document_when_it_is_no_sound_json_then_error_of_the_project(
    tmp_path: Path, reader: Reader, content: bytes
) -> None:
    """Nested, doubled, binary or endless: nothing of it is taken."""
    path = reader.write(tmp_path)
    path.write_bytes(content)

    with pytest.raises(HarnessError) as raised:
        reader.read(path)
    assert str(path.parent) in str(raised.value)


@pytest.mark.parametrize("reader", DOCUMENTS, ids=lambda reader: str(reader.name))
def test_document_when_a_key_stands_twice_then_refused(tmp_path: Path, reader: Reader) -> None:
    """Which of the two counts is unknown."""
    path = reader.write(tmp_path)
    table = json.loads(path.read_text())
    key = next(iter(table))
    path.write_text(path.read_text().rstrip()[:-1] + f", {json.dumps(key)}: null}}")

    with pytest.raises(HarnessError, match="stands twice"):
        reader.read(path)


@pytest.mark.parametrize(
    "content",
    ["seed = 1e400", f"seed = {'9' * 5000}", f"{'a.' * 40_000}a = 1", f"a = {'[' * 40_000}",
     f"seed = 0x{'f' * 9000}", 'seed = "', "\0"],
    ids=["float", "digits", "dotted", "nested", "hexadecimal", "open", "null"],
)  # fmt: skip
def test_toml_when_it_is_endless_then_refused_at_once(tmp_path: Path, content: str) -> None:
    """Depth and numbers are bounded."""
    reader = READERS[0]
    path = reader.write(tmp_path)
    path.write_text(content)

    with pytest.raises(HarnessError):
        reader.read(path)


@pytest.mark.parametrize("number", ["1e999999999", "1/0", "1e-999999999", "9" * 101, "nan", "inf"])
def test_threshold_when_it_is_no_number_within_bounds_then_refused(
    tmp_path: Path, number: str
) -> None:
    """A fraction of a billion digits would be computed for hours."""
    reader = READERS[0]
    path = reader.write(tmp_path)
    path.write_text(path.read_text().replace('points = "5"', f'points = "{number}"'))

    with pytest.raises(HarnessError, match="expected a number as text"):
        reader.read(path)


def _is_refused(reader: Reader, path: Path) -> bool:
    try:
        reader.read(path)
    except HarnessError:
        return True
    return False


def _damaged(sound: Any) -> Iterator[Any]:
    yield from WRONG
    for place in list(_places(sound))[:MOST_FIELDS]:
        for value in WRONG:
            damaged = copy.deepcopy(sound)
            _parent(damaged, place)[place[-1]] = value
            yield damaged
        damaged = copy.deepcopy(sound)
        del _parent(damaged, place)[place[-1]]
        yield damaged


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each field stands: of lists, the first item alone."""
    keys = list(value) if isinstance(value, dict) else [0] if isinstance(value, list) else []
    for key in keys if value else []:
        yield (*place, key)
        yield from _places(value[key], (*place, key))


def _parent(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document


def _signed(document: Any) -> Any:
    """Return a verdict with the digest of what it holds now; others as they are."""
    if not isinstance(document, dict) or "digest" not in document:
        return document
    rest = {key: value for key, value in document.items() if key != "digest"}
    try:
        return {**rest, "digest": digest_json(rest)}
    except ValueError:
        return document
