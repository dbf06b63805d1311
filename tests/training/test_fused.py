"""The GPU's kernels compute what the written-out step computes; Triton's interpreter runs them."""

from __future__ import annotations

import platform
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
import torch

from harness.config import TrainingConfig
from harness.training import trainer as run
from harness.training.head import Head
from harness.training.steps import CapturedSteps, TrainingStep
from tests.training.conftest import QUICK, Fit

if TYPE_CHECKING:
    from harness.training.fused import FusedStep

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="no Triton is installed on other platforms",
)

RATE = Fraction(1, 10)
RECIPE = TrainingConfig(batch_size=6, hidden_dim=20, dropout=Fraction(0), learning_rate=RATE)
WIDTH = 70  # no multiple of a tile


def _batch(n_rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(n_rows, WIDTH, generator=rng)
    return features, torch.nn.functional.one_hot((features[:, 0] > 0).long(), 2).float()


def _fused(head: Head, recipe: TrainingConfig = RECIPE) -> FusedStep:
    from harness.training.fused import FusedStep

    step = FusedStep(head, recipe, n_steps=4)
    step.learning_rate.fill_(float(RATE))
    return step


def _head(recipe: TrainingConfig = RECIPE) -> Head:
    return Head(WIDTH, hidden_dim=recipe.hidden_dim, seed=7)


@pytest.mark.parametrize(("batch_size", "n_rows"), [(6, 6), (6, 2), (40, 40)])
def test_fused_steps_then_losses_and_weights_are_those_of_the_written_out_step(
    batch_size: int, n_rows: int
) -> None:
    """Whatever the sizes of the tiles, the last batch of an epoch and larger ones included."""
    recipe = replace(RECIPE, batch_size=batch_size)
    plain_head, fused_head = _head(recipe), _head(recipe)
    plain, fused = TrainingStep(plain_head, recipe), _fused(fused_head, recipe)

    for step in range(3):
        batch = _batch(n_rows, seed=step)
        expected = plain(*batch).item()
        fused(*batch, step=step)
        assert fused.losses[step].item() == pytest.approx(expected, abs=1e-6)

    torch.testing.assert_close(fused.momentum, plain.momentum, rtol=1e-4, atol=1e-6)
    found = fused_head.state_dict()
    for name, tensor in plain_head.state_dict().items():
        if name != "bn1.num_batches_tracked":  # counted by the launch
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)


def test_fused_step_with_dropout_then_gradients_are_those_of_the_same_mask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept is scaled up, what is dropped has no gradient."""
    recipe = replace(RECIPE, dropout=Fraction(1, 4))
    plain, fused = TrainingStep(_head(), recipe), _fused(_head(), recipe)
    batch = _batch(6)
    fused(*batch, step=0)
    mask = (fused._kept > 0) / 0.75
    monkeypatch.setattr(plain, "_draw_mask", lambda active: mask)

    assert plain(*batch).item() == pytest.approx(fused.losses[0].item(), abs=1e-6)
    torch.testing.assert_close(fused.momentum, plain.momentum, rtol=1e-4, atol=1e-6)


def _dropped(seed: int, before: int, step: int) -> torch.Tensor:
    """Return which of the units that would be active a step drops."""
    recipe = replace(RECIPE, batch_size=16, dropout=Fraction(1, 4))
    fused, head = _fused(_head(), recipe), _head()
    fused.dropout_state.copy_(torch.tensor([seed, before]))
    features, targets = _batch(16)
    fused(features, targets, step=step)
    is_active = head.train().bn1(head.hidden_layer(features)) > 0
    dropped: torch.Tensor = fused._kept[is_active] == 0
    return dropped


def test_masks_then_depend_on_the_seed_and_the_number_of_the_step_alone() -> None:
    """Where a launch begins changes nothing; a quarter of the units is dropped."""
    seed = 2**62 + 12345
    first = _dropped(seed, before=3, step=0)

    assert torch.equal(first, _dropped(seed, before=1, step=2))
    assert not torch.equal(first, _dropped(seed, before=4, step=0))
    assert not torch.equal(first, _dropped(seed, before=3 + 2**32, step=0))
    assert not torch.equal(first, _dropped(seed + 1, before=3, step=0))
    assert first.float().mean().item() == pytest.approx(0.25, abs=0.1)


def test_training_with_fused_steps_then_losses_are_those_of_the_written_out_steps(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first launch to the last, and then through the validation."""
    from harness.training.fused import FusedStep

    recipe = replace(QUICK, epochs=2, batch_size=32, dropout=Fraction(0), learning_rate=RATE)
    expected = fit(recipe=recipe)

    def choose(head: Head, recipe: TrainingConfig) -> CapturedSteps:
        step = FusedStep(head, recipe, n_steps=2)
        return CapturedSteps(head, recipe, step=step, record=lambda work: work)

    monkeypatch.setattr(CapturedSteps, "batches_per_call", 2)
    monkeypatch.setattr(run, "choose_engine", choose)
    found = fit(recipe=recipe)

    for one, other in zip(found.history, expected.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-5)
        assert one.validation_loss == pytest.approx(other.validation_loss, abs=1e-5)
