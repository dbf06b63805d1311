"""Compute threads."""

from __future__ import annotations

import torch

from harness.pipeline.stopwatch import compute_threads


def test_compute_threads_when_left_then_the_old_number_is_back() -> None:
    """As many threads as asked for, and as many as before afterwards."""
    before = torch.get_num_threads()

    with compute_threads(3):
        inside = torch.get_num_threads()

    assert (inside, torch.get_num_threads()) == (3, before)
