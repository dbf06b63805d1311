"""The written-out step computes what autograd and torch's optimiser compute.

Launches of many steps take the same steps, recorded or not; here the CPU does the replaying.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from harness.config import TrainingConfig
from harness.training import steps as captured
from harness.training import trainer as run
from harness.training.head import Head
from harness.training.history import learning_rate
from harness.training.steps import CapturedSteps, TrainingStep
from tests.training.conftest import QUICK, Fit, same_weights

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


RECIPE = replace(QUICK, batch_size=4)
WIDTH_CAPTURED = 12


class _Step:
    """Takes steps on the CPU as the GPU's kernels do: the masks depend on seed and step alone."""

    def __init__(self, head: Head, *, n_steps: int = 64) -> None:
        self._plain = TrainingStep(head, RECIPE)
        self._counter = head.get_buffer("bn1.num_batches_tracked")
        self.momentum = self._plain.momentum
        self.learning_rate = torch.zeros(1)
        self.dropout_state = torch.zeros(2, dtype=torch.int64)
        self.losses = torch.zeros(n_steps)
        self.numbers: list[int] = []

    def __call__(self, features: torch.Tensor, targets: torch.Tensor, *, step: int) -> None:
        seed, before = self.dropout_state.tolist()
        self._plain.learning_rate = self.learning_rate.item()
        self._plain.seed_dropout((seed + 7919 * (before + step)) % 2**63)
        self.losses[step] = self._plain(features, targets)
        self._counter -= 1  # the launch counts its batches
        self.numbers.append(step)


class _Recorder:
    """Keeps what it is given, to do it again."""

    def __init__(self) -> None:
        self.n_recorded = self.n_replayed = 0

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self.n_recorded += 1

        def replay() -> None:
            self.n_replayed += 1
            work()

        return replay


def _captured(recorder: _Recorder) -> tuple[Head, _Step, CapturedSteps]:
    head = Head(WIDTH_CAPTURED, hidden_dim=8, seed=3)
    step = _Step(head)
    return head, step, CapturedSteps(head, RECIPE, step=step, record=recorder)


def _rows(n_rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(n_rows, WIDTH_CAPTURED, generator=rng)
    return features, torch.nn.functional.one_hot((features[:, 0] > 0).long(), 2).float()


def test_full_launches_then_the_first_warms_up_and_the_second_is_recorded() -> None:
    """Recording does no work, so that it is replayed at once; later ones are only replayed."""
    recorder = _Recorder()
    head, step, steps = _captured(recorder)

    for _ in range(4):
        steps(*_rows(4 * 64))

    assert (recorder.n_recorded, recorder.n_replayed) == (1, 3)
    assert step.numbers == 4 * list(range(64))
    assert head.bn1.num_batches_tracked == 4 * 64


def test_launches_that_are_not_full_then_are_neither_recorded_nor_replayed() -> None:
    """The end of an epoch, with a smaller last batch: a loss for each of its batches."""
    recorder = _Recorder()
    head, step, steps = _captured(recorder)

    losses = [steps(*_rows(4 * 5 + 2)).clone() for _ in range(3)]

    assert recorder.n_recorded == 0
    assert [len(values) for values in losses] == [6, 6, 6]
    assert step.dropout_state.tolist() == [0, 18]
    assert head.bn1.num_batches_tracked == 18


@pytest.mark.parametrize("sizes", [[256, 256, 256, 90], [100, 256, 256, 156, 90], [4] * 192 + [90]])
def test_grouping_of_steps_then_changes_no_loss_and_no_weight(sizes: list[int]) -> None:
    """Replayed or one by one, with masks, from wherever the first launch begins."""
    plain_head, plain, _ = _captured(_Recorder())
    head, _, steps = _captured(_Recorder())
    features, targets = _rows(3 * 256 + 90)
    steps.learning_rate = 0.05
    steps.seed_dropout(11)
    plain.learning_rate.fill_(0.05)
    expected = []
    for number, (x, y) in enumerate(
        zip(torch.split(features, 4), torch.split(targets, 4), strict=True)
    ):
        plain.dropout_state.copy_(torch.tensor([11, number]))
        plain(x, y, step=0)
        expected.append(plain.losses[0].item())
    plain_head.bn1.num_batches_tracked = torch.tensor(len(expected))

    losses = [
        steps(x, y).clone()
        for x, y in zip(torch.split(features, sizes), torch.split(targets, sizes), strict=True)
    ]

    assert torch.cat(losses).tolist() == expected
    assert same_weights(head, plain_head)


def test_state_that_is_restored_then_the_next_launch_is_the_same() -> None:
    """Momentum, seed and the number of steps are all there is besides the weights."""
    head, _, steps = _captured(_Recorder())
    other_head, _, other = _captured(_Recorder())
    steps.seed_dropout(5)
    steps(*_rows(4 * 64))
    other_head.load_state_dict(head.state_dict())

    other.restore(momentum=steps.momentum, dropout_state=steps.dropout_state)

    assert torch.equal(steps(*_rows(40, seed=1)), other(*_rows(40, seed=1)))
    assert same_weights(head, other_head)


@pytest.fixture
def _launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training take launches of three steps, replayed on the CPU."""

    def choose(head: Head, recipe: object) -> CapturedSteps:
        return CapturedSteps(head, QUICK, step=_Step(head), record=_Recorder())

    monkeypatch.setattr(captured.CapturedSteps, "batches_per_call", 3)
    monkeypatch.setattr(run, "choose_engine", choose)


@pytest.mark.usefixtures("_launches")
def test_training_in_launches_then_every_step_has_its_loss(fit: Fit) -> None:
    """Seven steps an epoch: two launches of three, and one that is not full."""
    trained = fit()

    assert trained.final.bn1.num_batches_tracked == 4 * 7
    assert all(0 < record.train_loss < 2 for record in trained.history)
