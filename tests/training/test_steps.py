"""The written-out step computes what autograd and torch's optimiser compute."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from harness.config import TrainingConfig
from harness.training.head import Head
from harness.training.history import learning_rate
from harness.training.steps import TrainingStep

NO_DROPOUT = TrainingConfig(dropout=Fraction(0), batch_size=32)
WIDTH = 48


def _batches(n_steps: int, n_rows: int = 32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(n_steps, n_rows, WIDTH, generator=rng)
    labels = (features[:, :, 0] > 0).long()
    return list(zip(features, labels, strict=True))


def _targets(labels: torch.Tensor) -> torch.Tensor:
    return one_hot(labels, 2).float()


def _reference_losses(
    head: Head, batches: list[tuple[torch.Tensor, torch.Tensor]], recipe: TrainingConfig
) -> list[float]:
    """Train as any tutorial would."""
    head.train()
    optimiser = torch.optim.SGD(
        head.parameters(), lr=float(recipe.learning_rate), momentum=float(recipe.momentum)
    )
    losses = []
    for features, labels in batches:
        optimiser.zero_grad()
        loss = cross_entropy(head(features), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("rate", ["0.0002", "0.05"])
def test_steps_without_dropout_then_losses_are_those_of_a_plain_loop(rate: str) -> None:
    """Within 1e-4 over 300 steps from the same weights, at VirNucPro's rate and a large one."""
    recipe = replace(NO_DROPOUT, learning_rate=Fraction(rate))
    batches = _batches(300)
    expected = _reference_losses(Head(WIDTH, dropout=0, seed=7), batches, recipe)

    step = TrainingStep(Head(WIDTH, dropout=0, seed=7), recipe)
    losses = [step(features, _targets(labels)).item() for features, labels in batches]

    assert losses == pytest.approx(expected, abs=1e-4)
    assert losses[-1] < losses[0] - 0.01


def test_steps_then_weights_and_running_statistics_are_those_of_a_plain_loop() -> None:
    """What is saved in the end agrees as well, the count of batches included."""
    batches = _batches(50)
    plain, fast = (Head(WIDTH, dropout=0, seed=7) for _ in range(2))
    _reference_losses(plain, batches, NO_DROPOUT)
    step = TrainingStep(fast, NO_DROPOUT)
    for features, labels in batches:
        step(features, _targets(labels))

    found = fast.state_dict()
    for name, expected in plain.state_dict().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


def test_step_with_dropout_then_gradients_are_autograds() -> None:
    """With the same mask, autograd through the same layers finds the same gradients."""
    recipe = replace(NO_DROPOUT, dropout=Fraction(1, 4))
    plain, fast = (Head(WIDTH, seed=7) for _ in range(2))
    ((features, labels),) = _batches(1)
    uniform = torch.rand(32, 512, generator=torch.Generator().manual_seed(5))
    hidden = torch.relu(plain.bn1(plain.hidden_layer(features)))
    logits = plain.output_layer(hidden * (uniform < 0.75) / 0.75)
    cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]

    step = TrainingStep(fast, recipe)
    step.dropout_rng.manual_seed(5)
    step(features, _targets(labels))

    expected = nn.utils.parameters_to_vector(
        [p.grad for p in plain.parameters() if p.grad is not None]
    )
    torch.testing.assert_close(step.momentum, expected, rtol=1e-4, atol=1e-6)


def test_updates_then_momentum_and_schedule_match_torch_to_the_last_bit() -> None:
    """Fed the same gradients, plain SGD with StepLR reaches the very same weights."""
    recipe = replace(NO_DROPOUT, lr_step=3)
    head = Head(WIDTH, dropout=0, seed=7)
    step = TrainingStep(head, recipe)
    plain = nn.Parameter(nn.utils.parameters_to_vector(head.parameters()).detach().clone())
    optimiser = torch.optim.SGD([plain], lr=0.0002, momentum=0.9, foreach=False)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=3, gamma=0.85)

    for epoch, (features, labels) in enumerate(_batches(20), start=1):
        step.learning_rate = learning_rate(recipe, epoch)
        step(features, _targets(labels))
        plain.grad = step.gradient.clone()
        optimiser.step()
        schedule.step()

    assert torch.equal(nn.utils.parameters_to_vector(head.parameters()), plain)
    assert torch.equal(step.momentum, optimiser.state[plain]["momentum_buffer"])


def test_smaller_last_batch_then_step_averages_over_its_rows() -> None:
    """Two rows are enough, and the loss is their mean."""
    ((features, labels),) = _batches(1, n_rows=2)
    expected = _reference_losses(Head(WIDTH, dropout=0), [(features, labels)], NO_DROPOUT)

    step = TrainingStep(Head(WIDTH, dropout=0), NO_DROPOUT)

    assert step(features, _targets(labels)).item() == pytest.approx(expected[0], abs=1e-6)
