"""The head: its names, its shape, its predictions.

The validation metrics agree with scikit-learn's.

One seed from the user becomes independent ones, and orders that two heads share.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, precision_score, recall_score

from harness.errors import DataError
from harness.training.features import BLOCK_ROWS, describe_width, label_rows
from harness.training.head import Head, derive_seeds, draw_order, dropout_seed, evaluate
from tests.training.conftest import Rows, draw_rows


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
    """Uniform within the bound of Glorot and Bengio; biases within that of PyTorch's Linear."""
    head = Head(100, hidden_dim=50, seed=3)
    bound = (6 / (100 + 50)) ** 0.5
    weights = head.hidden_layer.weight

    assert 0.95 * bound < weights.abs().max() <= bound
    assert weights.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    for layer, limit in ((head.hidden_layer, 0.1), (head.output_layer, 50**-0.5)):
        assert 0 < layer.bias.abs().max() <= limit
    assert head.hidden_layer.bias.abs().max() > 0.09
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


def test_evaluation_then_agrees_with_scikit_learn() -> None:
    """Over several blocks, for a head that errs in both directions unequally."""
    rows = draw_rows(BLOCK_ROWS + 50)
    head = Head(12, hidden_dim=8, seed=2)
    head.output_layer.bias.data[1] += 0.4
    scores = head.predict(rows.features)

    _, found = evaluate(
        [Head(12, hidden_dim=8), head], label_rows("validation", rows.features, rows.labels)
    )

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

    (found,) = evaluate([head], label_rows("validation", rows.features, rows.labels))

    assert (found.precision, found.recall) == (0, 0)


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


def test_dropout_seeds_of_two_calls_then_differ() -> None:
    """Masks repeat neither within an epoch nor from epoch to epoch."""
    seeds, calls = derive_seeds(42), [(1, 0), (1, 64), (2, 0)]

    found = [dropout_seed(seeds, epoch=epoch, step=step) for epoch, step in calls]

    assert len(set(found)) == 3
    assert found == [dropout_seed(seeds, epoch=epoch, step=step) for epoch, step in calls]
