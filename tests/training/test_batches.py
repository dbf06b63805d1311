"""Batches: every row once, in the order asked for, wherever the features lie."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.training import batches
from harness.training.batches import BatchFeed, n_usable_rows
from harness.training.features import label_rows
from tests.training.conftest import Rows

CPU = torch.device("cpu")


def _feed(rows: Rows, *, is_streamed: bool) -> BatchFeed:
    labelled = label_rows("train", rows.features, rows.labels)
    return BatchFeed(labelled, batch_size=16, device=CPU, is_streamed=is_streamed)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("first_step", [0, 3, 6])
def test_batches_then_hold_the_rows_in_order(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, is_streamed: bool, first_step: int
) -> None:
    """From any step on, with the last batch smaller, across the pieces of a stream."""
    monkeypatch.setattr(batches, "STREAMED_BATCHES", 2)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))

    found = [
        (features.clone(), targets)
        for features, targets in _feed(rows, is_streamed=is_streamed).batches(
            order, first_step=first_step
        )
    ]

    expected = order[16 * first_step :]
    assert [len(features) for features, _ in found] == [16] * (6 - first_step) + [4]
    features = torch.cat([features for features, _ in found])
    assert torch.equal(features, torch.from_numpy(rows.features)[expected])
    labels = torch.cat([targets for _, targets in found]).argmax(dim=1)
    assert torch.equal(labels, torch.from_numpy(rows.labels).long()[expected])


@pytest.mark.parametrize("is_streamed", [False, True])
def test_several_batches_at_once_then_are_the_same_rows(rows: Rows, is_streamed: bool) -> None:
    """Whole launches first, then what is left of the epoch."""
    feed, order = _feed(rows, is_streamed=is_streamed), torch.arange(100).flip(0)

    found = [
        (features.clone(), targets)
        for features, targets in feed.batches(order, first_step=1, n_batches=4)
    ]

    assert [len(features) for features, _ in found] == [64, 20]
    features, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
    assert torch.equal(features, torch.from_numpy(rows.features).flip(0)[16:])
    assert torch.equal(targets.argmax(dim=1), torch.from_numpy(rows.labels).long().flip(0)[16:])


@given(st.integers(2, 300), st.integers(2, 40))
def test_usable_rows_then_no_batch_has_a_single_row(n_rows: int, batch_size: int) -> None:
    """At most one row is left out, and only where it would be alone."""
    usable = n_usable_rows(n_rows, batch_size)

    assert usable % batch_size != 1
    assert n_rows - usable == (n_rows % batch_size == 1)
