"""One seed from the user becomes independent ones, and orders that two heads share."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.training.head import derive_seeds, draw_order, dropout_seed

SEEDS = st.integers(min_value=0, max_value=2**32)


@given(SEEDS)
def test_seeds_then_are_three_different_ones_and_always_the_same(seed: int) -> None:
    """Weights, shuffling and dropout never share a seed."""
    seeds = derive_seeds(seed)

    assert seeds == derive_seeds(seed)
    assert len({seeds.weights, seeds.shuffling, seeds.dropout}) == 3


@given(SEEDS, st.integers(1, 50), st.integers(1, 300))
def test_order_then_holds_every_row_once(seed: int, epoch: int, n_rows: int) -> None:
    """And the same seed, epoch and number of rows give the same order."""
    order = draw_order(derive_seeds(seed), epoch=epoch, n_rows=n_rows)

    assert sorted(order.tolist()) == list(range(n_rows))
    assert torch.equal(order, draw_order(derive_seeds(seed), epoch=epoch, n_rows=n_rows))


def test_order_of_another_epoch_or_seed_then_differs() -> None:
    """Every epoch is shuffled anew."""
    first, second = (draw_order(derive_seeds(42), epoch=e, n_rows=100) for e in (1, 2))
    other = draw_order(derive_seeds(43), epoch=1, n_rows=100)

    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_dropout_seeds_of_two_epochs_then_differ() -> None:
    """Masks do not repeat from epoch to epoch."""
    seeds = derive_seeds(42)

    first, second, again = (dropout_seed(seeds, epoch=epoch) for epoch in (1, 2, 1))

    assert first != second
    assert first == again
