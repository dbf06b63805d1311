"""The written-out steps compute what autograd and torch's optimiser compute, for each head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from harness.config import TrainingConfig
from harness.training import steps
from harness.training.head import Head
from harness.training.steps import STEPS_PER_CALL, HeadSteps

NO_DROPOUT = TrainingConfig(dropout=Fraction(0))
WIDTH, SEEDS = 48, (7, 8)


def _rows(n_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (head, row, feature) and labels (head, row)."""
    features = torch.randn(len(SEEDS), n_rows, WIDTH, generator=torch.Generator().manual_seed(0))
    return features, (features[:, :, 0] > 0).long()


def _heads(dropout: float = 0) -> list[Head]:
    return [Head(WIDTH, dropout=dropout, seed=seed) for seed in SEEDS]


def _engine(heads: list[Head], recipe: TrainingConfig) -> HeadSteps:
    engine = HeadSteps(heads, recipe)
    engine.set_learning_rate(float(recipe.learning_rate))
    return engine


def _take(engine: HeadSteps, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Take all steps, call by call, and return their losses, (head, step)."""
    calls = _calls(features, labels)
    return torch.cat([engine(x, y, dropout_seeds=SEEDS).clone() for x, y in calls], 1)


def _calls(
    features: torch.Tensor, labels: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield features and targets of each call."""
    n_rows, targets = 32 * STEPS_PER_CALL, one_hot(labels, 2).float()
    return zip(torch.split(features, n_rows, 1), torch.split(targets, n_rows, 1), strict=True)


def _plain_losses(
    head: Head, features: torch.Tensor, labels: torch.Tensor, recipe: TrainingConfig
) -> list[float]:
    """Train as any tutorial would."""
    head.train()
    optimiser = torch.optim.SGD(
        head.parameters(), lr=float(recipe.learning_rate), momentum=float(recipe.momentum)
    )
    losses = []
    for x, y in zip(torch.split(features, 32), torch.split(labels, 32), strict=True):
        optimiser.zero_grad()
        loss = cross_entropy(head(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("rate", ["0.0002", "0.05"])
def test_steps_without_dropout_then_losses_are_those_of_a_plain_loop(rate: str) -> None:
    """Within 1e-4 over 100 steps, the last one smaller, at VirNucPro's rate and a large one."""
    recipe = replace(NO_DROPOUT, learning_rate=Fraction(rate))
    features, labels = _rows(99 * 32 + 2)

    losses = _take(_engine(_heads(), recipe), features, labels).tolist()

    for number, head in enumerate(_heads()):
        expected = _plain_losses(head, features[number], labels[number], recipe)
        assert losses[number] == pytest.approx(expected, abs=1e-4)


def test_steps_then_weights_and_running_statistics_are_those_of_a_plain_loop() -> None:
    """What is saved in the end agrees as well: biases and the count of batches included."""
    features, labels = _rows(50 * 32)
    plain, fast = _heads(), _heads()
    _take(_engine(fast, NO_DROPOUT), features, labels)

    for number, head in enumerate(plain):
        _plain_losses(head, features[number], labels[number], NO_DROPOUT)
        found = fast[number].state_dict()
        for name, expected in head.state_dict().items():
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


def test_step_with_dropout_then_gradients_are_autograds() -> None:
    """With the same mask, autograd through the same layers finds the same gradients."""
    features, labels = _rows(32)
    (plain, _), fast = _heads(), _heads()
    uniform = torch.rand(32, 512, generator=torch.Generator().manual_seed(SEEDS[0]))
    hidden = torch.relu(plain.bn1(plain.hidden_layer(features[0])))
    logits = plain.output_layer(hidden * (uniform < 0.75) / 0.75)
    cross_entropy(logits, labels[0]).backward()  # type: ignore[no-untyped-call]

    engine = _engine(fast, replace(NO_DROPOUT, dropout=Fraction(1, 4)))
    _take(engine, features, labels)

    layers: dict[str, torch.Tensor] = {
        "scale": plain.bn1.weight,
        "shift": plain.bn1.bias,
        "second": plain.output_layer.weight,
        "bias": plain.output_layer.bias,
    }
    for name, parameter in layers.items():
        assert parameter.grad is not None
        found = engine.momenta[name][0].view_as(parameter)
        torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-6)
    first = plain.hidden_layer.weight.grad
    torch.testing.assert_close(engine.momenta["first"][0].t(), first, rtol=1e-4, atol=1e-6)


def test_steps_without_some_heads_then_the_others_go_on_and_those_stay() -> None:
    """Their momentum comes along."""
    features, labels = _rows(32)
    whole, parted = _heads(), _heads()
    engine, other = _engine(whole, NO_DROPOUT), _engine(parted, NO_DROPOUT)
    _take(engine, features, labels)
    _take(other, features, labels)
    left = parted[0].hidden_layer.weight.clone()

    rest = other.without([0])
    rest.set_learning_rate(0.0002)
    losses = rest(features[1:], one_hot(labels[1:], 2).float(), dropout_seeds=[1])

    assert torch.equal(losses[0], _take(engine, features, labels)[1])
    assert torch.equal(parted[0].hidden_layer.weight, left)
    assert torch.equal(parted[1].hidden_layer.weight, whole[1].hidden_layer.weight)


def test_full_calls_on_a_gpu_then_are_recorded_once_and_take_the_same_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here the CPU does the replaying, with the first product in parts as there."""
    recorded: list[Callable[[], None]] = []

    def record(work: Callable[[], None]) -> Callable[[], None]:
        recorded.append(work)
        return work

    monkeypatch.setattr(steps, "_record", record)
    monkeypatch.setattr(steps, "_compiled", lambda work: work)
    features, labels = _rows(3 * STEPS_PER_CALL * 32)
    expected = _take(_engine(_heads(), NO_DROPOUT), features, labels)
    engine = _engine(_heads(), NO_DROPOUT)

    losses = []
    for x, y in _calls(features, labels):
        engine._take_recorded(x.contiguous(), y)
        losses.append(engine._losses.clone())

    assert len(recorded) == 1
    torch.testing.assert_close(torch.cat(losses, 1), expected, rtol=0, atol=1e-5)
