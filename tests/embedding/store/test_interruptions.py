"""Extraction that is killed: at every change of a file, at random moments, and two at once.

The processes are forked from a server that has imported what they need, so that many can be killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import ArtifactStore
from harness.embedding import EmbeddingStore, KmerProfile
from harness.errors import ArtifactError
from tests.embedding.store.conftest import CONTEXT, Counting, Waiting, contents, write

FILE_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "tempfile.mkstemp")


def obtain(work_dir: Path, embedder: KmerProfile, inputs: str = "") -> bool:
    """Obtain a store as the pipeline does; return whether it was there."""
    store = ArtifactStore(work_dir)
    return store.obtain(
        "embeddings", {"of": inputs}, lambda folder: write(folder, embedder), resumes=True
    ).is_reused


def killed_at_change(work_dir: Path, n_changes: int) -> None:
    """Obtain a store, but be killed when the work directory is changed for the n-th time."""
    seen = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in FILE_CHANGES and str(work_dir) in str(arguments[0]):
            seen += 1
            if seen > n_changes:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    obtain(work_dir, KmerProfile(2))


def obtain_step_by_step(work_dir: Path, pipe: Connection, inputs: str = "") -> None:
    """Obtain a store, shard by shard as told, and say whether it was there."""
    pipe.send(obtain(work_dir, Waiting(pipe), inputs))


def stored(work_dir: Path) -> dict[str, bytes]:
    """Return the files of the only store, without the artifact's manifest, which has the date."""
    (folder,) = [path for path in (work_dir / "embeddings").iterdir() if path.is_dir()]
    EmbeddingStore(folder)
    return {name: data for name, data in contents(folder).items() if name != "manifest.json"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of an uninterrupted extraction."""
    work_dir = tmp_path_factory.mktemp("whole")
    obtain(work_dir, KmerProfile(2))
    return stored(work_dir)


def start(*arguments: Any) -> Any:
    """Start a process that obtains a store step by step; return it and the pipe to it."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(
        target=obtain_step_by_step, args=(arguments[0], there, *arguments[1:])
    )
    process.start()
    there.close()
    return process, here


def test_extraction_when_killed_at_any_change_of_a_file_then_it_goes_on(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """Every third change of a file is the last one once; what follows equals a whole run."""
    n_changes, exit_code = 0, None
    while exit_code != 0:
        work_dir = tmp_path / str(n_changes)
        process = CONTEXT.Process(target=killed_at_change, args=(work_dir, n_changes))
        process.start()
        process.join()
        exit_code = process.exitcode
        obtain(work_dir, KmerProfile(2))
        assert stored(work_dir) == whole
        n_changes += 3
    assert n_changes > 30


@pytest.mark.parametrize("seed", range(4))
def test_extraction_when_killed_again_and_again_then_no_row_is_lost_or_repeated(
    tmp_path: Path, whole: dict[str, bytes], seed: int
) -> None:
    """Several processes in a row, each killed at a random moment, and one that ends."""
    rng = random.Random(seed)
    for _ in range(3):
        process, pipe = start(tmp_path)
        for _ in range(rng.randint(0, 2)):
            if pipe.recv() == "begun":
                pipe.send("go on")
        process.kill()  # wherever it is
        process.join()
    finished = len(list(tmp_path.glob("embeddings/*.partial/shard-*")))
    rest = Counting()
    obtain(tmp_path, rest)

    assert stored(tmp_path) == whole
    assert len(rest.asked) == 10 - min(10, 3 * finished)


def test_two_extractions_of_one_store_then_one_works_and_the_other_waits(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """The second finds what the first made."""
    first, to_first = start(tmp_path)
    assert to_first.recv() == "begun"
    second, to_second = start(tmp_path)
    for _ in range(3):
        to_first.send("go on")
        assert to_first.recv() == "begun"
    assert not to_second.poll()
    to_first.send("go on")

    assert (to_first.recv(), to_second.recv()) == (False, True)
    first.join()
    second.join()
    assert stored(tmp_path) == whole


def test_two_extractions_of_two_stores_then_neither_waits(tmp_path: Path) -> None:
    """Both are at work in one directory at the same time."""
    started = [start(tmp_path, "first"), start(tmp_path, "second")]
    for _ in range(4):
        assert [pipe.recv() for _, pipe in started] == ["begun", "begun"]
        for _, pipe in started:
            pipe.send("go on")

    assert [pipe.recv() for _, pipe in started] == [False, False]
    for process, _ in started:
        process.join()


def test_finished_store_when_a_shard_is_damaged_then_deleting_it_is_enough(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """The error names the file; the next run makes it anew, and nothing else."""
    obtain(tmp_path, KmerProfile(2))
    shard = next(tmp_path.glob("embeddings/*/shard-000002.*"))
    shard.write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"Delete .*shard-000002\.safetensors and run again"):
        obtain(tmp_path, KmerProfile(2))
    shard.unlink()
    again = Counting()
    obtain(tmp_path, again)

    assert len(again.asked) == 3
    assert stored(tmp_path) == whole
