"""Counting operations, against figures worked out by hand."""

from __future__ import annotations

import pytest

from harness.embedding.esm.embedder import encoder_flop

ONE_LAYER = {"num_hidden_layers": 1, "hidden_size": 2, "intermediate_size": 3}


def test_flop_when_counted_by_hand_then_the_same() -> None:
    """Three tokens: 2 x 3 x (4 x 4 + 2 x 6) for the layers, 4 x 9 x 2 for attention."""
    assert encoder_flop(ONE_LAYER, [1]) == 2 * 3 * (4 * 4 + 2 * 6) + 4 * 9 * 2


def test_flop_when_there_are_layers_and_sequences_then_they_add_up() -> None:
    """Each layer costs the same, and each sequence what it costs alone."""
    two = ONE_LAYER | {"num_hidden_layers": 2}

    assert encoder_flop(two, [1, 5]) == pytest.approx(
        2 * (encoder_flop(ONE_LAYER, [1]) + encoder_flop(ONE_LAYER, [5]))
    )


def test_flop_when_a_protein_is_truncated_then_what_is_left_counts() -> None:
    """No more than 1022 residues are embedded."""
    assert encoder_flop(ONE_LAYER, [5_000]) == encoder_flop(ONE_LAYER, [1_022])
