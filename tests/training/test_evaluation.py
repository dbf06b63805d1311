"""The validation metrics agree with scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, precision_score, recall_score

from harness.training.features import BLOCK_ROWS, label_rows
from harness.training.head import Head, evaluate
from tests.training.conftest import draw_rows


def test_evaluation_then_agrees_with_scikit_learn() -> None:
    """Over several blocks, for a head that errs in both directions unequally."""
    rows = draw_rows(BLOCK_ROWS + 50)
    head = Head(12, hidden_dim=8, seed=2)
    head.output_layer.bias.data[1] += 0.4
    scores = head.predict(rows.features)

    found = evaluate(head, label_rows("validation", rows.features, rows.labels))

    called = scores > 0.5
    assert found.accuracy == accuracy_score(rows.labels, called)
    assert found.precision == precision_score(rows.labels, called)
    assert found.recall == recall_score(rows.labels, called)
    assert found.recall > found.precision + 0.05
    assert found.loss == pytest.approx(log_loss(rows.labels, scores), rel=1e-5)


def test_nothing_called_viral_then_precision_is_zero() -> None:
    """And not an error."""
    rows, head = draw_rows(20), Head(12, hidden_dim=8)
    head.output_layer.bias.data += torch.tensor([100.0, 0.0])

    found = evaluate(head, label_rows("validation", rows.features, rows.labels))

    assert (found.precision, found.recall) == (0, 0)
