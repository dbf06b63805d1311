"""Fuzz every reader by byte mutations: ``python -m tests.attack.fuzz --seconds 600 --seed 1``.

Each mutated file must be read, or refused with an error of the project, within 5 s and 1 GB of
memory more than the readers' libraries take. A finding is printed with the bytes that make it.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from tests.attack.readers import READERS, Reader

__all__ = ["bounded", "main"]

SECONDS_EACH, MEMORY_BYTES = 5, 1 << 30
EXAMPLES = 20  # of one reader in a round
INTERESTING = (
    b"\0",
    b"\xff",
    b"\xff" * 4,
    b"\x7f" * 8,
    b"9" * 30,
    b"[" * 200,
    b"NaN",
    b"-1",
    b"e999",
)

# Where, how many bytes go, and what stands there instead.
mutations = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 8) | st.integers(0, 4000),
        st.binary(max_size=8) | st.sampled_from(INTERESTING),
    ),
    min_size=1,
    max_size=4,
)


@contextmanager
def bounded(seconds: int = SECONDS_EACH) -> Iterator[None]:
    """Raise TimeoutError where something takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"over {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """Let this process take a gigabyte more than it has now, and no more."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> int:
    """Fuzz until the time is over; return how many readers broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    chosen = parser.parse_args()
    counts: Counter[str] = Counter()
    with TemporaryDirectory() as place:
        sound = {reader: _write(reader, Path(place, str(n))) for n, reader in enumerate(READERS)}
        limit_memory()
        started, number = time.monotonic(), chosen.seed
        found: set[str] = set()
        while time.monotonic() - started < chosen.seconds:
            reader = READERS[number % len(READERS)]
            if not _fuzz(reader, *sound[reader], number, counts):
                found.add(reader.name)
            number += 1
    said = f"seed {chosen.seed}: {counts.total():,} files, {counts['refused']:,} refused"
    sys.stdout.write(f"{said}, {counts['read']:,} read, found: {sorted(found)}\n")
    return len(found)


def _write(reader: Reader, folder: Path) -> tuple[Path, bytes]:
    folder.mkdir()
    path = reader.write(folder)
    content = path.read_bytes()
    reader.read(path)  # what it loads on the way is no memory of a file's
    return path, content


def _fuzz(reader: Reader, path: Path, content: bytes, number: int, counts: Counter[str]) -> bool:
    """Read some mutations of a file; print the smallest one that breaks the reader."""

    @seed(number)
    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(mutations)
    def read_mutated(changes: list[tuple[float, int, bytes]]) -> None:
        path.write_bytes(mutate(content, changes))
        with bounded():
            try:
                reader.read(path)
                counts["read"] += 1
            except HarnessError:
                counts["refused"] += 1

    try:
        read_mutated()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
        found = path.read_bytes()
        sys.stdout.write(f"{reader.name}, seed {number}: {error!r}\n{found[:2000]!r}\n")
        return False
    finally:
        path.write_bytes(content)
    return True


def mutate(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Return a file's content with some bytes replaced, left out or put in."""
    for share, n_removed, instead in changes:
        place = int(share * len(content))
        content = content[:place] + instead + content[place + n_removed :]
    return content


if __name__ == "__main__":
    sys.exit(main())
