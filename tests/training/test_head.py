"""The head: its names, its shape, its predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.errors import DataError
from harness.training.features import BLOCK_ROWS, describe_width
from harness.training.head import Head
from tests.training.conftest import Rows


def test_head_then_parameters_have_virnucpros_names() -> None:
    """Its predictor loads them by name."""
    assert [name for name, _ in Head(3).named_parameters()] == [
        "hidden_layer.weight",
        "hidden_layer.bias",
        "bn1.weight",
        "bn1.bias",
        "output_layer.weight",
        "output_layer.bias",
    ]


def test_drawn_head_then_weights_are_xavier_uniform_and_seeded() -> None:
    """Uniform within the bound of Glorot and Bengio, and biases zero."""
    head = Head(100, hidden_dim=50, seed=3)
    bound = (6 / (100 + 50)) ** 0.5
    weights = head.hidden_layer.weight

    assert 0.95 * bound < weights.abs().max() <= bound
    assert weights.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not head.hidden_layer.bias.any()
    assert torch.equal(weights, Head(100, hidden_dim=50, seed=3).hidden_layer.weight)
    assert not torch.equal(weights, Head(100, hidden_dim=50, seed=4).hidden_layer.weight)


def test_predict_then_scores_are_the_softmax_of_forward_in_evaluation(rows: Rows) -> None:
    """Dropout and the batch's own statistics play no part, even in training mode."""
    head = Head(12, hidden_dim=8)
    head.train()(torch.from_numpy(rows.features))  # moves the running statistics

    scores = head.predict(rows.features)
    logits = head.eval()(torch.from_numpy(rows.features))

    assert scores.dtype == np.float32
    assert scores.shape == (100,)
    np.testing.assert_allclose(scores, logits.softmax(1)[:, 1].detach().numpy(), rtol=1e-5)


def test_predict_when_there_are_several_blocks_then_every_row_is_scored() -> None:
    """The last, smaller block included."""
    head = Head(2, hidden_dim=4)
    features = np.random.default_rng(0).normal(size=(BLOCK_ROWS + 3, 2))

    scores = head.predict(features)

    np.testing.assert_allclose(scores[-5:], head.predict(features[-5:]), rtol=1e-5)


def test_predict_when_width_is_wrong_then_error_names_the_embedders() -> None:
    """The usual mistake is a head of one embedder on features of the other."""
    with pytest.raises(ValueError, match=r"expected 2048 .*FastESM2_650.*got 3328 .*ESM2 3B"):
        Head(2048, hidden_dim=2).predict(np.zeros((1, 3328)))


def test_predict_when_a_feature_is_not_finite_then_error_names_the_row(rows: Rows) -> None:
    """A score that is no number would be taken for an answer."""
    rows.features[7, 2] = np.nan

    with pytest.raises(DataError, match="1 rows have no score, such as row 7"):
        Head(12).predict(rows.features)


def test_width_that_is_not_known_then_is_described_by_its_number() -> None:
    """Other embedders are welcome."""
    assert describe_width(7) == "7 features"
