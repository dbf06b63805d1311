"""Where features lie while a GPU trains on them."""

from __future__ import annotations

import pytest
import torch

from harness.training.batches import must_stream
from harness.training.features import TrainingData, label_rows
from tests.training.conftest import Rows

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
