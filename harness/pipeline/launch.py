"""One process a GPU: how many there are to be, and torchrun, which starts them and ends them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from harness.errors import HarnessError

__all__ = ["count_processes", "run_on_ranks"]

ERROR_LINES_KEPT = 20
NAMES_A_RANK = re.compile(r"rank \d+ of \d+ on ")  # see harness.embedding.ranks


def count_processes(device: str, *, n_gpus: int, is_rank: bool) -> int:
    """Return on how many processes to embed.

    Parameters
    ----------
    device : str
        What the embedder computes on. ``cuda`` is every GPU of the machine; ``cuda:1`` is one.
    n_gpus : int
        How many the machine has.
    is_rank : bool
        Whether this process is one of several already.
    """
    return max(1, n_gpus) if device == "cuda" and not is_rank else 1


def run_on_ranks(n_processes: int, arguments: Sequence[str], say: Callable[[str], None]) -> None:
    """Run a command of ``harness`` as several processes of this machine, and wait for them.

    Parameters
    ----------
    n_processes : int
        How many.
    arguments : sequence of str
        The command and its options.
    say : callable
        Is given each line that they write to stderr.

    Raises
    ------
    HarnessError
        If one of them fails; with its message, which names the rank.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", str(n_processes), "-m", "harness.cli", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=_divide_cores(n_processes),
    ) as child:
        try:
            lines = _pass_on(child, say)
            exit_code = child.wait()
        except BaseException:
            child.terminate()  # torchrun ends its processes; what they have written is kept
            raise
    if exit_code:
        raise HarnessError(_explain(exit_code, lines, arguments))


def _divide_cores(n_processes: int) -> dict[str, str]:
    """Return the environment, with an even share of the cores unless the user chose otherwise."""
    share = max(1, (os.cpu_count() or 1) // n_processes)
    return {"OMP_NUM_THREADS": str(share)} | dict(os.environ)


def _pass_on(child: subprocess.Popen[str], say: Callable[[str], None]) -> list[str]:
    """Pass the lines on, and return the last ones and those that name a rank."""
    named: list[str] = []
    last: deque[str] = deque(maxlen=ERROR_LINES_KEPT)
    for line in child.stderr or ():
        text = line.rstrip()
        say(text)
        (named if NAMES_A_RANK.match(text) else last).append(text)
    return named or list(last)


def _explain(exit_code: int, lines: Iterable[str], arguments: Sequence[str]) -> str:
    return "\n".join(
        [f"harness {' '.join(arguments)} ended with exit code {exit_code} on a rank:", *lines]
    )
