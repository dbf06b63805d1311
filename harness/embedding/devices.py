"""Where embeddings are computed: the processes that share the work, and what their device can do.

torchrun starts the processes (ranks) and ends them all when one fails; ``torch.distributed``
carries their messages, on the CPU (gloo), since only digests and paths are exchanged. Of a device
it is told here whether it is there, how much fits and how fast it is; batches are ``batching``'s
business.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

from harness.artifacts import Artifact
from harness.errors import ConfigError, HarnessError, MissingInput

__all__ = [
    "Ranks",
    "fitting_budget",
    "gpu_memory_bytes",
    "is_under_torchrun",
    "join_ranks",
    "measure_product_rate",
    "require_device",
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
