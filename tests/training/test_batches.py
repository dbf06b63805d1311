"""Rows for training: every row once, in each head's order, wherever the features lie."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ArtifactError
from harness.training import batches
from harness.training import batches as streaming
from harness.training.batches import BlockStream, CallFeed, must_stream, n_usable_rows
from harness.training.features import TrainingData, label_rows, read_rows
from tests.training.conftest import Rows

CPU = torch.device("cpu")


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("first_step", [0, 2, 6])
def test_calls_then_hold_each_heads_rows_in_order(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, is_streamed: bool, first_step: int
) -> None:
    """From any step on, with the last batch smaller, across the pieces of a stream."""
    monkeypatch.setattr(batches, "STEPS_PER_CALL", 2)
    orders = torch.stack([torch.randperm(100), torch.arange(100)])
    labelled = label_rows("train", rows.features, rows.labels)
    feed = CallFeed(labelled, n_heads=2, batch_size=16, device=CPU, is_streamed=is_streamed)

    calls = feed.calls(orders, first_step=first_step)
    found = [(features.clone(), targets) for features, targets in calls]

    assert [len(features[0]) for features, _ in found] == [32] * ((6 - first_step) // 2) + [4]
    expected = orders[:, 16 * first_step :]
    features, targets = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    assert torch.equal(features, torch.from_numpy(rows.features)[expected])
    assert torch.equal(targets.argmax(dim=2), torch.from_numpy(rows.labels).long()[expected])


@given(st.integers(2, 300), st.integers(2, 40))
def test_usable_rows_then_no_batch_has_a_single_row(n_rows: int, batch_size: int) -> None:
    """At most one row is left out, and only where it would be alone."""
    usable = n_usable_rows(n_rows, batch_size)

    assert usable % batch_size != 1
    assert n_rows - usable == (n_rows % batch_size == 1)


FEATURE_BYTES = (100 + 100) * 12 * 4


@pytest.mark.parametrize(
    ("device", "free_bytes", "expected"),
    [
        ("cuda", 2 * FEATURE_BYTES, False),
        ("cuda", 2 * FEATURE_BYTES - 1, True),
        ("cpu", 0, False),
    ],
)
def test_features_then_are_streamed_if_they_exceed_half_of_a_gpus_free_memory(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, device: str, free_bytes: int, expected: bool
) -> None:
    """Of training and validation together; what the CPU computes with lies there already."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, 10**12))
    part = label_rows("train", rows.features, rows.labels)
    data = TrainingData(train=part, validation=part, batch_size=16)

    assert must_stream(data, torch.device(device)) == expected


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
