"""Blocks of a stream: read ahead into two buffers, in the order asked for."""

from __future__ import annotations

import threading

import pytest
import torch

from harness.errors import ArtifactError
from harness.training import batches as streaming
from harness.training.batches import BlockStream
from harness.training.features import read_rows

CPU = torch.device("cpu")


def test_blocks_then_hold_the_rows_of_their_pieces() -> None:
    """In the order asked for, the smaller last one included."""
    rows = torch.arange(40.0).reshape(20, 2)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    stream = BlockStream(rows, block_rows=6, device=CPU)

    found = [block.clone() for block in stream.blocks(torch.split(order, 6))]

    assert [len(block) for block in found] == [6, 6, 6, 2]
    assert torch.equal(torch.cat(found), rows[order])


def test_block_then_is_computed_with_while_the_next_one_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever holds the first block can wait for the second one to be read."""
    second_is_read = threading.Event()

    def read(rows: torch.Tensor, positions: torch.Tensor, *, into: torch.Tensor) -> torch.Tensor:
        found = read_rows(rows, positions, into=into)
        if 2 in positions:
            second_is_read.set()
        return found

    monkeypatch.setattr(streaming, "read_rows", read)
    stream = BlockStream(torch.eye(4), block_rows=2, device=CPU)

    first = next(stream.blocks(torch.split(torch.arange(4), 2)))

    assert second_is_read.wait(timeout=10)
    assert torch.equal(first, torch.eye(4)[:2])


def test_second_pass_then_reuses_the_buffers() -> None:
    """A stream lives as long as its training, epoch after epoch."""
    stream = BlockStream(torch.eye(4), block_rows=2, device=CPU)

    first = [block.data_ptr() for block in stream.blocks(torch.split(torch.arange(4), 2))]
    second = [block.data_ptr() for block in stream.blocks(torch.split(torch.arange(4), 2))]

    assert first == second
    assert len(set(first)) == 2


def test_read_that_fails_then_its_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though another thread reads."""

    def fail(*_: object, into: torch.Tensor) -> torch.Tensor:
        raise ArtifactError("a shard is gone")

    monkeypatch.setattr(streaming, "read_rows", fail)
    stream = BlockStream(torch.eye(4), block_rows=2, device=CPU)

    with pytest.raises(ArtifactError, match="a shard is gone"):
        next(stream.blocks(torch.split(torch.arange(4), 2)))
