"""Several ranks make one store: the same files as one, whoever is lost on the way."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from harness.embedding import KmerProfile
from harness.embedding.devices import join_ranks
from harness.errors import DataError, HarnessError
from harness.pipeline.cache import StageCache
from tests.embedding.store.conftest import CONTEXT, SEQUENCES, Waiting, contents, write


class Failing(Waiting):
    """Cannot embed the second shard."""

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Refuse one sequence."""
        if SEQUENCES[3] in sequences:
            raise DataError("sequence 3 is none")
        return super().embed(sequences, on_progress=on_progress)


def work_as_rank(
    environ: dict[str, str], work_dir: Path, kind: type[Waiting], pipe: Connection
) -> None:
    """Make the store as one of several ranks, and say how that ended."""
    os.environ.update(environ)
    try:
        with join_ranks() as ranks:
            cache = StageCache(work_dir, ranks)
            made = cache.obtain(
                "embeddings",
                {},
                lambda folder: write(folder, kind(pipe), ranks=ranks),
                resumes=True,
                is_shared=True,
            )
        pipe.send(made)
    except HarnessError as error:
        pipe.send(error)


def start_ranks(
    work_dir: Path, n_ranks: int, kind: type[Waiting] = Waiting
) -> tuple[list[BaseProcess], list[Connection]]:
    """Start ranks as torchrun would; return the processes and the pipes to them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    together = {"WORLD_SIZE": str(n_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes: list[BaseProcess] = []
    pipes: list[Connection] = []
    for rank in range(n_ranks):
        here, there = CONTEXT.Pipe()
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "test"}
        process = CONTEXT.Process(target=work_as_rank, args=(together | own, work_dir, kind, there))
        process.start()
        there.close()
        processes.append(process)
        pipes.append(here)
    return processes, pipes


def go_on(*pipes: Connection) -> tuple[list[int], list[Any]]:
    """Let ranks embed shard after shard; return how many each did, and how it ended."""
    n_shards, ends = dict.fromkeys(pipes, 0), dict[Any, Any]()
    while len(ends) < len(pipes):
        for pipe in wait([pipe for pipe in pipes if pipe not in ends]):
            word = cast(Connection, pipe).recv()
            if word == "begun":
                n_shards[cast(Connection, pipe)] += 1
                cast(Connection, pipe).send("go on")
            else:
                ends[pipe] = word
    return list(n_shards.values()), [ends[pipe] for pipe in pipes]


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """Return the files of the same store, made by one process."""
    write(tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_ranks_then_share_the_shards_and_make_the_same_files(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """Four shards are two for each of two, and the store does not show who made it."""
    n_shards, artifacts = go_on(*start_ranks(tmp_path, 2)[1])

    assert n_shards == [2, 2]
    assert artifacts[0] == artifacts[1]
    files = contents(artifacts[0].path)
    assert {name: files[name] for name in whole} == whole
    assert set(files) - set(whole) == {"manifest.json"}


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_rank_that_is_lost_then_its_shards_are_taken_up_by_those_of_the_next_start(
    tmp_path: Path, whole: dict[str, bytes], n_ranks: int
) -> None:
    """However many they are; the rest of the lost run says that a rank is gone."""
    (_, second), (to_first, to_second) = start_ranks(tmp_path, 2)
    assert to_second.recv() == "begun"
    second.kill()
    n_kept, (end,) = go_on(to_first)
    n_shards, artifacts = go_on(*start_ranks(tmp_path, n_ranks)[1])

    assert re.match("rank 0 of 2 on .*: another rank has ended", str(end))
    assert (sum(n_kept), sum(n_shards)) == (2, 2)
    files = contents(artifacts[0].path)
    assert {name: files[name] for name in whole} == whole


def test_rank_that_fails_then_the_error_names_it(tmp_path: Path) -> None:
    """And what it could not do."""
    _, ends = go_on(*start_ranks(tmp_path, 2, Failing)[1])

    assert re.match("rank 1 of 2 on .*: sequence 3 is none", str(ends[1]))
    assert re.match("rank 0 of 2 on .*: another rank has ended", str(ends[0]))


def test_ranks_when_the_store_is_there_then_both_find_it(tmp_path: Path) -> None:
    """What one process made is not made again."""
    StageCache(tmp_path).obtain("embeddings", {}, lambda folder: write(folder, KmerProfile(2)))

    n_shards, artifacts = go_on(*start_ranks(tmp_path, 2)[1])

    assert n_shards == [0, 0]
    assert [artifact.is_reused for artifact in artifacts] == [True, True]
