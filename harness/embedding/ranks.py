"""The processes that embed together: which one this is, and what they tell each other.

torchrun starts them and ends them all when one fails; ``torch.distributed`` carries their messages,
on the CPU (gloo), since only digests and paths are exchanged. Without torchrun there is one rank,
and torch is not imported.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from harness.artifacts import Artifact
from harness.errors import ConfigError, HarnessError, MissingInput

__all__ = ["Ranks", "is_under_torchrun", "join_ranks"]

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
