"""Where embeddings are computed: the processes that share the work, their devices, their batches.

torchrun starts the processes (ranks) and ends them all when one fails; ``torch.distributed``
carries their messages, on the CPU (gloo), since only digests and paths are exchanged. A batch holds
at most a budget of tokens, longest first, so that it holds similar lengths and memory that does not
suffice shows at once. GPU work is queued: the host prepares the next batch meanwhile. What a batch
computes is passed in.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from harness.artifacts import Artifact
from harness.errors import ConfigError, DeviceError, HarnessError, MissingInput

__all__ = [
    "BatchRunner",
    "Ranks",
    "Rows",
    "batches_in_order",
    "equal_length_batches",
    "fitting_budget",
    "gpu_memory_bytes",
    "is_under_torchrun",
    "join_ranks",
    "measure_product_rate",
    "packed_batches",
    "padded_batches",
    "require_device",
    "to_device",
]


T = TypeVar("T")

# Ranks wait for each other while one of them reads records or ends its last shard. One that dies is
# noticed at once, by torchrun and by its closed connections, so waiting may take long.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """One process among those that work together.

    Attributes
    ----------
    rank : int
        Which one, counted from 0, over all hosts.
    local_rank : int
        Which one of its host: the number of its GPU.
    world_size : int
        How many there are.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that holds locks, finishes artifacts and talks to people."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world_size} on {socket.gethostname()}"

    def portion(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's part of what is to be done: every ``world_size``-th item."""
        return items[self.rank :: self.world_size]

    def tell(self, word: Path | Artifact) -> None:
        """Say something to the other ranks, as the first of them."""
        if self.world_size > 1:
            self._broadcast([word])

    def hear(self) -> Path | Artifact:
        """Return what the first rank says."""
        box: list[Any] = [None]
        self._broadcast(box)
        word: Path | Artifact = box[0]
        return word

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order, on every rank."""
        if self.world_size == 1:
            return [value]
        import torch.distributed

        values = [value] * self.world_size
        self._exchange(lambda: torch.distributed.all_gather_object(values, value))
        return values

    def claim_device(self, device: str) -> str:
        """Return this rank's share of the configured device, made the current one of torch.

        Raises
        ------
        MissingInput
            If the host has fewer GPUs than ranks.
        ConfigError
            If one GPU is named for several ranks.
        """
        if self.world_size == 1 or device == "cpu":
            return device
        if device != "cuda":
            raise ConfigError(
                f"device: expected 'cuda' for {self.world_size} processes, got {device!r}. "
                "Each takes a GPU of its own"
            )
        import torch

        if self.local_rank >= torch.cuda.device_count():
            raise MissingInput(
                f"There are {torch.cuda.device_count()} GPUs, too few for process "
                f"{self.local_rank} (counted from 0) of this host",
                remedy="Start torchrun with --nproc-per-node gpu",
            )
        torch.cuda.set_device(self.local_rank)
        return f"cuda:{self.local_rank}"

    def _broadcast(self, box: list[Any]) -> None:
        import torch.distributed

        self._exchange(lambda: torch.distributed.broadcast_object_list(box, src=0))

    def _exchange(self, call: Callable[[], None]) -> None:
        try:
            call()
        except RuntimeError as error:  # gloo's only word for a closed connection
            raise HarnessError(
                f"another rank has ended or cannot be reached; its own message says why ({error})"
            ) from error


def is_under_torchrun(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in environ


@contextmanager
def join_ranks(environ: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Join the other ranks that torchrun started, if any; an error then names this one."""
    if not is_under_torchrun(environ) or environ["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    import torch.distributed

    ranks = Ranks(
        rank=int(environ["RANK"]),
        local_rank=int(environ["LOCAL_RANK"]),
        world_size=int(environ["WORLD_SIZE"]),
    )
    torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    with _named_errors(ranks):
        yield ranks
        ranks.gather(None)  # who leaves early would cut off the rest
    torch.distributed.destroy_process_group()


@contextmanager
def _named_errors(ranks: Ranks) -> Iterator[None]:
    try:
        yield
    except HarnessError as error:  # whole on one line: torchrun prints a lot below it
        raise HarnessError(f"{ranks}: {error}") from error
    except Exception as error:
        error.add_note(f"{ranks}: ended by this error")
        raise


# Tokens in a batch. On a GPU more of them gain nothing once all its cores are busy; on a CPU the
# hidden states of a batch should stay in the caches.
GPU_TOKENS = 32_768
CPU_TOKENS = 2_048
SMALLEST_BUDGET = 1_024  # the longest protein that is embedded

# Side of the square product that a device's rate is measured with, how often it is run without a
# pause, and how often that is repeated: clocks fall under load and rise again.
PRODUCT_SIDE = 8_192
PRODUCTS = 10
REPETITIONS = 5


def require_device(device: str, dtype: str = "float32") -> None:
    """Raise MissingInput unless torch can compute in a dtype there; nothing falls back silently."""
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise MissingInput(
            f"The device {device!r} is not there: torch {torch.__version__} finds no GPU",
            remedy='Run on a machine with a GPU, or set device = "cpu" if that is where the model '
            "will be deployed",
        )
    if place.type == "cuda" and dtype != "float32" and find_spec("triton") is None:
        raise MissingInput(
            f"{dtype} on a GPU needs Triton, which is not installed",
            remedy="Install PyTorch's CUDA build for Linux, which brings it, or set "
            'dtype = "float32"',
        )


def fitting_budget(device: torch.device, bytes_per_token: int) -> int:
    """Return how many tokens a batch may hold: halved until a quarter of the memory suffices.

    The memory in all counts, not what is free now, so that equal GPUs get equal batches.

    Parameters
    ----------
    device : torch device
    bytes_per_token : int
        What the activations of one token take.
    """
    if device.type == "cpu":
        return CPU_TOKENS
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    budget = GPU_TOKENS
    while budget > SMALLEST_BUDGET and budget * bytes_per_token > total_bytes // 4:
        budget //= 2
    return budget


def measure_product_rate(device: str, dtype: str) -> float | None:
    """Return the floating-point operations per second of one large matrix product at its best.

    Parameters
    ----------
    device : str
        A torch device; None is returned if it is no GPU, or has no memory left for the product.
    dtype : str
        float32, bfloat16 or float16.
    """
    place = torch.device(device)
    if place.type != "cuda":
        return None
    with torch.cuda.device(place):
        try:
            return _time_products(place, getattr(torch, dtype))
        except torch.OutOfMemoryError:
            return None


def _time_products(place: torch.device, kind: torch.dtype) -> float:
    side = PRODUCT_SIDE
    left, right = (torch.randn(side, side, device=place, dtype=kind) for _ in range(2))
    seconds = []
    for _ in range(REPETITIONS):  # the first time, libraries are loaded
        torch.cuda.synchronize(place)
        started = time.perf_counter()
        for _ in range(PRODUCTS):
            torch.mm(left, right)
        torch.cuda.synchronize(place)
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 * PRODUCTS / min(seconds)


def gpu_memory_bytes(device: str) -> int | None:
    """Return the most that tensors took there since it was last reset; None if it is no GPU."""
    place = torch.device(device)
    return torch.cuda.max_memory_allocated(place) if place.type == "cuda" else None


Rows: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int64]
Divide: TypeAlias = Callable[[Lengths, int], list[Rows]]
Report: TypeAlias = Callable[[int], None]

_log = logging.getLogger(__name__)


def packed_batches(lengths: Lengths, budget: int) -> list[Rows]:
    """Return row numbers of sequences to be laid end to end.

    Batches are about equal in tokens, so that no small one is left for the end.

    Parameters
    ----------
    lengths : int array, (sequence,)
        Tokens of each sequence.
    budget : int
        Most tokens in a batch; a longer sequence is a batch of its own.
    """
    if not len(lengths):
        return []
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    # A sequence belongs to the share that its first token falls into, and may reach beyond it.
    n_batches = -(-int(lengths.sum()) // max(1, budget - int(ordered[0])))
    share = -(-int(lengths.sum()) // n_batches)
    numbers = (np.cumsum(ordered) - ordered) // share
    return np.split(order, np.flatnonzero(np.diff(numbers)) + 1)


def equal_length_batches(lengths: Lengths, budget: int) -> list[Rows]:
    """Return row numbers of equally long sequences, as for :func:`packed_batches`."""
    order = np.argsort(-lengths, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    return [rows[part] for rows in groups for part in padded_batches(lengths[rows], budget)]


def padded_batches(lengths: Lengths, budget: int) -> list[Rows]:
    """Return row numbers of sequences that fit once filled up to the longest of their batch.

    Parameters
    ----------
    lengths, budget
        As for :func:`packed_batches`; padding counts as tokens.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, budget // int(lengths[order[start]]))
        batches.append(order[start:stop])
        start = stop
    return batches


def batches_in_order(lengths: Lengths, budget: int) -> list[Rows]:
    """Return row numbers in the order given, equally many a batch: what the longest allows."""
    every, step = np.arange(len(lengths)), max(1, budget // int(lengths.max(initial=1)))
    return [every[start : start + step] for start in range(0, len(every), step)]


class BatchRunner:
    """Runs batches on a device within a budget of tokens.

    Parameters
    ----------
    device : torch device
    token_budget : int
        Most tokens in a batch.
    divide : callable
        From lengths and a budget to the rows of each batch.

    Attributes
    ----------
    token_budget : int
        What it is now: halved each time that the device's memory did not suffice.
    n_out_of_memory : int
        How often that was.
    """

    def __init__(self, *, device: torch.device, token_budget: int, divide: Divide) -> None:
        self.device = device
        self.token_budget = token_budget
        self.n_out_of_memory = 0
        self._divide = divide

    def run(
        self,
        lengths: Lengths,
        compute: Callable[[Rows], torch.Tensor],
        *,
        dim: int,
        token_budget: int | None = None,
        on_progress: Report | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the vectors of all sequences, float32 (n_sequences, dim), in their order.

        Parameters
        ----------
        lengths : int array, (sequence,)
            Tokens of each.
        compute : callable
            From the rows of a batch to their vectors on the device, float32 (n_rows, dim).
        dim : int
            Width of the vectors.
        token_budget : int, optional
            Most tokens in a batch of this call; the runner's own holds as well.
        on_progress : callable, optional
            Is told how many more sequences are done.

        Raises
        ------
        DeviceError
            If the device's memory does not suffice for a single sequence.
        """
        budget = min(self.token_budget, token_budget or self.token_budget)
        finished = _Finished(on_progress, self.device)
        order: list[Rows] = []
        pooled: list[torch.Tensor] = []
        with self._on_device(), torch.no_grad():
            waiting = self._batches([np.arange(len(lengths))], lengths, budget)
            while waiting:
                vectors = self._try(compute, waiting[0], lengths)
                if vectors is None:
                    budget = self._halve(budget)
                    waiting = self._batches(waiting, lengths, budget)
                    continue
                order.append(waiting.popleft())
                pooled.append(vectors)
                finished.add(len(vectors))
            embeddings = _gather(order, pooled, dim)
            finished.report(waits=True)
        return embeddings

    def gpu_memory_bytes(self) -> int | None:
        """Return the most that tensors took on its GPU since that was last reset; None on a CPU."""
        return gpu_memory_bytes(str(self.device))

    def _on_device(self) -> AbstractContextManager[object]:
        """Make the device the current one: Triton launches there, whatever its tensors' is."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _batches(self, rows: Iterable[Rows], lengths: Lengths, budget: int) -> deque[Rows]:
        every = np.concatenate(list(rows))
        return deque(every[part] for part in self._divide(lengths[every], budget))

    def _try(
        self, compute: Callable[[Rows], torch.Tensor], rows: Rows, lengths: Lengths
    ) -> torch.Tensor | None:
        """Return a batch's vectors; None if memory did not suffice for several sequences."""
        try:
            return compute(rows)
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise DeviceError(
                    f"{self.device}: memory does not suffice for one sequence of "
                    f"{lengths[rows[0]]} tokens. Use a GPU with more memory, or end what else "
                    "runs on this one"
                ) from error
        return None

    def _halve(self, budget: int) -> int:
        torch.cuda.empty_cache()
        self.n_out_of_memory += 1
        self.token_budget = budget // 2
        _log.warning(
            "%s ran out of memory: going on with %d tokens a batch", self.device, self.token_budget
        )
        return self.token_budget


def _gather(
    order: Sequence[Rows], pooled: Sequence[torch.Tensor], dim: int
) -> npt.NDArray[np.float32]:
    """Return the vectors of all batches as one array in the order of the sequences."""
    embeddings = np.empty((sum(map(len, pooled)), dim), dtype=np.float32)
    if pooled:
        embeddings[np.concatenate(order)] = torch.cat(list(pooled)).cpu().numpy()
    return embeddings


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on a device, copied without waiting for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class _Finished:
    """Reports sequences when the device has finished them, without waiting for it."""

    def __init__(self, on_progress: Report | None, device: torch.device) -> None:
        self._on_progress = on_progress
        self._is_queued = device.type == "cuda"
        self._queued: deque[tuple[torch.cuda.Event, int]] = deque()

    def add(self, n_sequences: int) -> None:
        """Say that the work on so many sequences is done, or queued on a GPU."""
        if self._on_progress is None:
            return
        if not self._is_queued:
            self._on_progress(n_sequences)
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._queued.append((event, n_sequences))
        self.report()

    def report(self, *, waits: bool = False) -> None:
        """Report what is finished by now, or all of it."""
        while self._on_progress and self._queued:
            event, n_sequences = self._queued[0]
            if waits:
                event.synchronize()
            elif not event.query():  # type: ignore[no-untyped-call]
                return
            self._queued.popleft()
            self._on_progress(n_sequences)
