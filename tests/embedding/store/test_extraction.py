"""Writing a store: resumed shard by shard, honest about damage, in the dtype asked for.

Rates of embedding: counted once, shown while it goes on, added over processes.

Extraction that is killed: at every change of a file, at random moments, and two at once.

The processes are forked from a server that has imported what they need, so that many can be killed.

Several ranks make one store: the same files as one, whoever is lost on the way.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import safe_open

from harness.artifacts import ArtifactStore, digest_file
from harness.embedding import EmbeddingStore, KmerProfile, write_store
from harness.embedding.devices import join_ranks
from harness.embedding.embedder import Counts
from harness.embedding.extraction import Meter, Throughput, add_throughputs
from harness.embedding.store import choose_rows_per_shard
from harness.errors import ArtifactError, DataError, HarnessError, NotFiniteError
from harness.pipeline.cache import StageCache
from tests.embedding.store.conftest import (
    CONTEXT,
    IDS,
    SEQUENCES,
    Counting,
    Waiting,
    contents,
    write,
)


class Interrupted(Counting):
    """Stops at the third shard, as Ctrl-C would."""

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Embed twice, then stop."""
        if len(self.asked) == 6:
            raise KeyboardInterrupt
        return super().embed(sequences, token_budget, on_progress)


class Constant(KmerProfile):
    """Gives every sequence the same vector."""

    def __init__(self, vector: list[float]) -> None:
        super().__init__(2)
        self.dim = 2
        self.vector = vector

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return that vector."""
        return np.array([self.vector] * len(sequences), dtype=np.float32)


def test_write_store_when_interrupted_then_it_goes_on_without_repeating(tmp_path: Path) -> None:
    """Finished shards are kept, and the files equal those of an uninterrupted run."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "halved", Interrupted())
    rest = Counting()
    write(tmp_path / "halved", rest)
    write(tmp_path / "whole")

    assert rest.asked == SEQUENCES[6:]
    assert contents(tmp_path / "halved") == contents(tmp_path / "whole")


class Overflowing(KmerProfile):
    """Has no number for the longest sequence but one."""

    def __init__(self, k: int) -> None:
        super().__init__(k)
        self.dtype = "float16"

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Embed, and overflow."""
        vectors = super().embed(sequences, token_budget, on_progress)
        vectors[[text == SEQUENCES[8] for text in sequences], 0] = np.inf
        return vectors


def test_write_store_when_a_row_is_not_finite_then_it_stops_and_keeps_nothing_of_the_shard(
    tmp_path: Path,
) -> None:
    """Records and dtype are named; the shards before are sound."""
    expected = "2-mer profile in float16: the vectors of 1 of 3 records.*r8.*Embed in bfloat16"
    with pytest.raises(NotFiniteError, match=expected):
        write(tmp_path, Overflowing(2))

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"shard-{number:06d}.safetensors" for number in range(2)
    ]


def test_write_store_then_the_manifest_tells_settings_and_digests(folder: Path) -> None:
    """Model, records, shape, dtype, and the sha256 of every file."""
    manifest = json.loads((folder / "embeddings.json").read_text())

    assert manifest["settings"] == {
        "embedder": "2-mer profile",
        "embedder_sha256": KmerProfile(2).digest,
        "records_sha256": manifest["settings"]["records_sha256"],
        "n_rows": 10,
        "dim": 16,
        "dtype": "float32",
        "rows_per_shard": 3,
    }
    assert len(manifest["files"]) == 5
    assert all(digest_file(folder / name) == sha for name, sha in manifest["files"].items())


@pytest.mark.parametrize("position", [0, 20, 100, -1])
def test_write_store_when_a_shard_that_it_finds_is_damaged_then_it_is_named(
    folder: Path, position: int
) -> None:
    """One flipped bit anywhere, and only that file need be deleted to go on."""
    whole, path = contents(folder), folder / "shard-000001.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match=r"shard-000001\.safetensors: is damaged.*Delete this"):
        write(folder)
    path.unlink()
    again = Counting()
    write(folder, again)

    assert again.asked == SEQUENCES[3:6]
    assert contents(folder) == whole


def test_write_store_when_the_shards_are_of_other_records_then_they_are_refused(
    tmp_path: Path,
) -> None:
    """The same shape, but not the same sequences."""
    write_store(tmp_path, IDS, SEQUENCES[::-1], KmerProfile(2), rows_per_shard=3)

    with pytest.raises(ArtifactError, match=r"shard-000000.* of another extraction"):
        write(tmp_path)


def test_write_store_when_a_write_was_cut_off_then_its_leftover_goes(folder: Path) -> None:
    """Half a shard under a temporary name is no part of the store."""
    whole = contents(folder)
    (folder / ".shard-000000.safetensors.ab12").write_bytes(b"half")

    write(folder)

    assert contents(folder) == whole


@pytest.mark.parametrize(("dtype", "name"), [("float16", "F16"), ("bfloat16", "BF16")])
def test_write_store_when_a_dtype_is_asked_for_then_it_is_kept(
    tmp_path: Path, dtype: str, name: str
) -> None:
    """Half the bytes, rounded to nearest, read as float32, resumed all the same."""
    embedder = Constant([1.0 + 3 * 2**-10, -70.0])
    write(tmp_path, embedder, dtype)
    write(tmp_path, embedder, dtype)
    store = EmbeddingStore(tmp_path)

    with safe_open(tmp_path / "shard-000000.safetensors", framework="np") as file:
        assert file.get_slice("embeddings").get_dtype() == name
    first = 1.0 + 3 * 2**-10 if dtype == "float16" else 1.0
    assert store.dtype == dtype
    assert store.rows(["r4"]).tolist() == [[first, -70.0]]
    assert store.rows(["r4"]).dtype == np.float32


def test_write_store_when_a_value_does_not_fit_the_dtype_then_it_is_refused(tmp_path: Path) -> None:
    """Never silently infinite."""
    with pytest.raises(DataError, match=r"row 0 .* holds 70000, too large for float16"):
        write(tmp_path, Constant([1.0, 7e4]), "float16")
    with pytest.raises(ValueError, match="expected a dtype of float32"):
        write(tmp_path, Constant([1.0, 7e4]), "int8")


def test_write_store_when_counts_differ_then_it_is_refused(tmp_path: Path) -> None:
    """An id without a sequence is an error, and so is nothing at all."""
    with pytest.raises(DataError, match="got 10 and 9"):
        write_store(tmp_path, IDS, SEQUENCES[:-1], KmerProfile(2))
    with pytest.raises(DataError, match="got 0 and 0"):
        write_store(tmp_path, [], [], KmerProfile(2))


def test_write_store_when_the_embedder_loses_a_row_then_it_is_refused(tmp_path: Path) -> None:
    """Rows in are rows out."""

    class Losing(KmerProfile):
        def embed(
            self,
            sequences: Sequence[str],
            token_budget: int | None = None,
            on_progress: Callable[[int], None] | None = None,
        ) -> npt.NDArray[np.float32]:
            return super().embed(sequences[1:])

    with pytest.raises(ValueError, match=r"expected vectors of shape \(3, 16\), got \(2, 16\)"):
        write(tmp_path, Losing(2))


@pytest.mark.parametrize(("n_rows", "expected"), [(1, 2048), (2_000_000, 8192), (10**9, 16_384)])
def test_choose_rows_per_shard_then_about_256_shards_within_bounds(
    n_rows: int, expected: int
) -> None:
    """From the number of rows alone."""
    assert choose_rows_per_shard(n_rows) == expected


class Task:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.note = ""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Keep it."""
        self.steps.append(steps)
        self.note = note


class Counted(KmerProfile):
    """An embedder that knows its arithmetic: ten operations a letter, a peak of 400 a second."""

    def flop(self, lengths: Sequence[int]) -> float:
        """Return the operations."""
        return 10.0 * sum(lengths)

    def peak_flops(self) -> float | None:
        """Return the peak."""
        return 400.0

    def count(self, sequences: Sequence[str]) -> Counts:
        """Return two tokens more than letters, and a letter replaced in each."""
        n_letters, n_sequences = sum(map(len, sequences)), len(sequences)
        return Counts(n_tokens=n_letters + 2 * n_sequences, n_replaced=n_sequences)


def test_meter_while_embedding_then_shows_sequences_and_tokens_a_second() -> None:
    """A batch's tokens are counted when it is done; until then it is like those before."""
    task, times = Task(), iter([0.0, 2.0, 4.0])
    meter = Meter(Counted(1), task, clock=lambda: next(times))
    meter.begin(["A" * 8, "A" * 18])
    meter.end()
    assert task.note == "1 sequences/s, 15 tokens/s"

    meter.begin(["A" * 3, "A" * 3])
    meter.advance(1)
    assert task.note == "1 sequences/s, 11 tokens/s"
    assert task.steps == [2, 1]


def test_meter_when_the_embedder_tells_nothing_then_all_is_shown_at_the_end() -> None:
    """And for each sequence as many as all processes do."""
    task = Task()
    meter = Meter(KmerProfile(1), task, scale=2.5)
    meter.begin(["A"] * 4)
    meter.end()

    assert task.steps == [10]


def test_meter_when_single_sequences_are_reported_then_not_each_is_shown() -> None:
    """Showing costs more than a short sequence."""
    task = Task()
    meter = Meter(KmerProfile(1), task)
    meter.begin(["A"] * 6400)
    for _ in range(6400):
        meter.advance(1)

    assert task.steps == [100] * 64


def test_throughput_when_the_embedder_counts_operations_then_has_the_share_of_the_peak() -> None:
    """260 operations in two seconds, of 400 a second."""
    times = iter([0.0, 1.0, 2.0])
    meter = Meter(Counted(1), Task(), clock=lambda: next(times))
    meter.begin(["A" * 8, "A" * 18])
    meter.end()

    assert str(meter.throughput()) == "1 sequences/s, 15 tokens/s, 32% of the device's peak"


class Full(KmerProfile):
    """An embedder whose device's memory runs out with every batch."""

    n_out_of_memory = 3

    def gpu_memory_bytes(self) -> int | None:
        """Return what it took."""
        return 1000

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Run out of memory once."""
        self.n_out_of_memory += 1
        return super().embed(sequences, token_budget, on_progress)


def test_write_store_when_memory_runs_out_then_its_throughput_says_how_often(
    tmp_path: Path,
) -> None:
    """Only what happened meanwhile counts, not what the embedder had seen before."""
    embedder = Full(1)

    pace = write_store(tmp_path, ["a", "b", "c"], ["A"] * 3, embedder, rows_per_shard=2)

    assert (pace.n_out_of_memory, pace.gpu_memory_bytes) == (2, 1000)


def test_meter_then_the_memory_is_read_before_the_peak_is_measured() -> None:
    """Measuring the peak takes memory itself."""
    read: list[str] = []

    class Observed(Counted):
        def gpu_memory_bytes(self) -> int | None:
            read.append("memory")
            return None

        def peak_flops(self) -> float | None:
            read.append("peak")
            return None

    meter = Meter(Observed(1), Task())
    meter.begin(["A"])
    meter.end()
    meter.throughput()

    assert read == ["memory", "peak"]


def test_add_throughputs_then_the_fullest_gpu_counts_and_every_lack_of_memory() -> None:
    """A process without a GPU has nothing to say."""
    parts = [
        Throughput(
            n_sequences=1, n_tokens=1, elapsed_seconds=1.0, gpu_memory_bytes=n, n_out_of_memory=2
        )
        for n in (None, 5, 7)
    ]

    together = add_throughputs(parts)

    assert (together.gpu_memory_bytes, together.n_out_of_memory) == (7, 6)
    assert add_throughputs(parts[:1]).gpu_memory_bytes is None


def test_add_throughputs_then_counts_add_up_over_the_longest_time() -> None:
    """One without work counts for nothing."""
    parts = [
        Throughput(n_sequences=n, n_tokens=10 * n, elapsed_seconds=n / 10, flop=n, peak_flops=10.0)
        for n in (100, 50, 0)
    ]

    together = add_throughputs(parts)

    assert str(together) == ("15 sequences/s, 150 tokens/s, 75% of the device's peak, 2 processes")
    assert str(add_throughputs([])) == ""


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


class Failing(Waiting):
    """Cannot embed the second shard."""

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Refuse one sequence."""
        if SEQUENCES[3] in sequences:
            raise DataError("sequence 3 is none")
        return super().embed(sequences, token_budget, on_progress)


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
def whole_together(tmp_path: Path) -> dict[str, bytes]:
    """Return the files of the same store, made by one process."""
    write(tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_ranks_then_share_the_shards_and_make_the_same_files(
    tmp_path: Path, whole_together: dict[str, bytes]
) -> None:
    """Four shards are two for each of two, and the store does not show who made it."""
    n_shards, artifacts = go_on(*start_ranks(tmp_path, 2)[1])

    assert n_shards == [2, 2]
    assert artifacts[0] == artifacts[1]
    files = contents(artifacts[0].path)
    assert {name: files[name] for name in whole_together} == whole_together
    assert set(files) - set(whole_together) == {"manifest.json"}


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_rank_that_is_lost_then_its_shards_are_taken_up_by_those_of_the_next_start(
    tmp_path: Path, whole_together: dict[str, bytes], n_ranks: int
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
    assert {name: files[name] for name in whole_together} == whole_together


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
