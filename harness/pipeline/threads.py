"""How many threads torch computes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["compute_threads"]


@contextmanager
def compute_threads(threads: int | None) -> Iterator[None]:
    """Let torch compute on so many threads for a while; None leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
