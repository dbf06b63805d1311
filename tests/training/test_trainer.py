"""Training a head from end to end: what it learns, keeps, reports and refuses.

Which engine takes the steps on which device.

The losses of an epoch: their mean over rows, and the first that is not finite.

Signals become requests, once, and only where that was asked for.
"""

from __future__ import annotations

import io
import itertools
import json
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.errors import DataError, MissingInput
from harness.progress import Progress
from harness.training.checkpoints import load_head
from harness.training.head import Head
from harness.training.history import EpochRecord
from harness.training.steps import TrainingStep
from harness.training.trainer import (
    LARGEST_FUSED_BATCH,
    EpochLosses,
    HeadTrainer,
    choose_engine,
    stop_requests,
)
from tests.training.conftest import LEARNS, OVERFITS, QUICK, Fit, Rows, draw_rows, same_weights


def test_trained_head_then_predicts_rows_it_has_not_seen(fit: Fit) -> None:
    """It finds the direction that separates the classes."""
    unseen = draw_rows(200, seed=2)

    scores = fit(recipe=LEARNS).predict(unseen.features)

    assert np.mean((scores > 0.5) == unseen.labels) > 0.8


def test_same_call_then_same_weights(fit: Fit) -> None:
    """To the last bit, and other ones for another seed."""
    first = fit()

    assert same_weights(first.final, fit().final)
    assert not same_weights(first.final, fit(seed=43).final)


def test_global_generator_then_is_neither_used_nor_moved(fit: Fit) -> None:
    """Training draws from generators of its own."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fit()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)

    assert same_weights(first.final, fit().final)


def test_two_widths_then_see_the_same_batches(
    fit: Fit, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The baseline's head and the candidate's are trained on the same rows in the same order."""
    seen: list[list[int]] = [[]]
    original = torch.index_select

    def spy(source: torch.Tensor, dim: int, index: torch.Tensor, *, out: torch.Tensor) -> None:
        seen[-1] += index.tolist()
        original(source, dim, index, out=out)

    monkeypatch.setattr(torch, "index_select", spy)
    fit()
    seen.append([])
    narrow = draw_rows(40, n_features=3, seed=1)
    fit(
        features=rows.features[:, :3],
        validation_features=narrow.features,
        validation_labels=narrow.labels,
    )

    assert seen[0] == seen[1]
    assert len(seen[0]) == 4 * 100


def test_save_best_then_the_best_head_is_a_copy_that_differs_from_the_last(fit: Fit) -> None:
    """A reference to the live weights would always be the last ones."""
    trained = fit(recipe=replace(OVERFITS, save_best=True))
    validation = draw_rows(40, seed=1)

    assert trained.best is not None
    assert trained.best_epoch < trained.epochs_run
    assert not same_weights(trained.best, trained.final)
    logits = trained.best(torch.from_numpy(validation.features))
    loss = cross_entropy(logits, torch.from_numpy(validation.labels).long()).item()
    assert loss == pytest.approx(min(r.validation_loss for r in trained.history), rel=1e-5)
    assert trained.evaluated == "best"
    assert trained.head is trained.best


def test_without_save_best_then_the_final_head_is_evaluated(fit: Fit) -> None:
    """As VirNucPro does it."""
    trained = fit(recipe=OVERFITS)

    assert trained.best is None
    assert (trained.evaluated, trained.head) == ("final", trained.final)


def test_patience_that_ends_then_training_stops_early(fit: Fit) -> None:
    """So many epochs after the best one."""
    trained = fit(recipe=replace(OVERFITS, patience=3))

    assert trained.stopped_early
    assert trained.epochs_run == trained.best_epoch + 3


@pytest.mark.parametrize("save_best", [False, True])
def test_folder_then_final_head_is_always_saved(fit: Fit, tmp_path: Path, save_best: bool) -> None:
    """Whether or not it stopped early, and the best one beside it where it is kept."""
    trained = fit(recipe=replace(OVERFITS, save_best=save_best), folder=tmp_path / "new")

    assert same_weights(load_head(tmp_path / "new" / "final.safetensors"), trained.final)
    assert (tmp_path / "new" / "best.safetensors").exists() == save_best
    if trained.best is not None:
        assert same_weights(load_head(tmp_path / "new" / "best.safetensors"), trained.best)


def test_trailing_batch_of_one_row_then_is_dropped_and_logged(fit: Fit) -> None:
    """BatchNorm has no variance for it; the next epoch leaves another row out."""
    more = draw_rows(97)  # 6 batches of 16, and one row

    trained = fit(features=more.features, labels=more.labels, ids=None)

    assert [record.n_dropped_rows for record in trained.history] == [1] * 4
    assert trained.final.bn1.num_batches_tracked == 4 * 6


def test_history_then_has_what_an_epoch_is_judged_by(fit: Fit) -> None:
    """Losses, metrics, the rate of the schedule and times by the clock that was passed in."""
    ticks = itertools.count()
    last = fit(recipe=replace(QUICK, lr_step=2), clock=lambda: float(next(ticks))).history[-1]

    assert last.epoch == 4
    assert last.learning_rate == 0.0002 * 0.85
    assert 0 < last.validation_accuracy < 1
    assert 0 < last.validation_precision < 1
    assert 0 < last.validation_recall < 1
    assert (last.elapsed_seconds, last.rows_per_second) == (2.0, 100.0)
    assert last.n_dropped_rows == 0


def test_loss_that_is_not_finite_then_epoch_step_and_records_are_named(
    fit: Fit, rows: Rows
) -> None:
    """Training stops there, and says which rows it was."""
    rows.features[17] = 3e38

    with pytest.raises(DataError, match=r"the loss of epoch 1, step \d is nan.*\br17\b") as caught:
        fit()

    assert str(caught.value).count(", r") == 15


def test_validation_loss_that_is_not_finite_then_training_stops(fit: Fit) -> None:
    """It could neither be improved on nor be judged."""
    validation = draw_rows(40, seed=1)
    validation.features[3] = 3e38

    with pytest.raises(DataError, match="the validation loss of epoch 1 is nan"):
        fit(validation_features=validation.features)


def test_progress_then_says_where_training_is(fit: Fit) -> None:
    """A line an epoch, and steps, epoch, rate, losses, accuracy, patience and throughput."""
    stream = io.StringIO()

    fit(progress=Progress(stream), name="train candidate")

    *epochs, whole = stream.getvalue().splitlines()
    starts = [line.partition(", learning rate")[0] for line in epochs]
    assert starts == [f"train candidate: epoch {epoch}/4" for epoch in range(1, 5)]
    assert whole.startswith("train candidate: 28 steps in ")
    for word in ("epoch 4/4, lr 0.0002, loss 0.", "val 0.", "acc 0.", "patience ", " rows/s"):
        assert word in whole


def test_on_epoch_then_gets_every_record(fit: Fit) -> None:
    """In order, as they stand in the history."""
    seen: list[EpochRecord] = []

    assert fit(on_epoch=seen.append).history == tuple(seen)


def test_streamed_features_then_weights_are_the_same(fit: Fit) -> None:
    """Where the features lie changes nothing."""
    assert same_weights(fit(is_streamed=True).final, fit().final)


def test_several_seeds_then_each_head_is_the_one_that_fit_head_gives(fit: Fit, rows: Rows) -> None:
    """They share the rows and nothing else."""
    validation = draw_rows(40, seed=1)
    trainer = HeadTrainer(
        rows.features,
        rows.labels,
        validation_features=validation.features,
        validation_labels=validation.labels,
        recipe=QUICK,
    )

    for seed in (7, 8, 7):
        trained = trainer.fit(seed=seed)
        assert trained.seed == seed
        assert same_weights(trained.final, fit(seed=seed).final)


def test_facts_of_the_training_then_are_json(fit: Fit) -> None:
    """The report reads them."""
    facts = json.loads(json.dumps(fit().to_dict()))

    assert facts["n_train"], facts["n_validation"] == (100, 40)
    assert facts["epochs_run"] == len(facts["history"]) == 4
    assert set(facts["seeds"]) == {"weights", "shuffling", "dropout"}


def test_device_that_is_not_there_then_error_says_so(fit: Fit) -> None:
    """Nothing falls back to the CPU silently."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MissingInput, match="'cuda' is not there"):
        fit(device="cuda")


def test_cpu_then_steps_are_written_out() -> None:
    """The fused steps are for GPUs alone."""
    assert isinstance(choose_engine(Head(4), QUICK), TrainingStep)


def test_gpu_without_triton_then_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slower steps in its place would be a silent fallback."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.delitem(sys.modules, "harness.training.fused", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)

    with pytest.raises(MissingInput, match="needs Triton") as caught:
        choose_engine(Head(4), QUICK)

    assert "CUDA build" in caught.value.remedy
    assert QUICK.batch_size <= LARGEST_FUSED_BATCH


def _losses(*values: float) -> EpochLosses:
    losses = EpochLosses(n_rows=10, batch_size=4, device=torch.device("cpu"))
    for value in values:
        losses.extend(torch.tensor(value))
    return losses


def test_mean_of_an_epoch_then_the_smaller_last_batch_counts_less() -> None:
    """Four, four and two rows."""
    assert _losses(1.0, 2.0, 4.0).mean() == (4 * 1 + 4 * 2 + 2 * 4) / 10


def test_mean_within_an_epoch_then_is_over_the_rows_so_far() -> None:
    """What the progress bar shows."""
    losses = _losses(1.0, 2.0)

    assert losses.mean() == 1.5
    assert losses.n_rows_done == 8


def test_first_not_finite_then_is_a_step_of_this_epoch() -> None:
    """Counted from 0; None where all are finite."""
    assert _losses(1.0, float("nan"), float("inf")).first_not_finite() == 1
    assert _losses(1.0).first_not_finite() is None


BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_signal_then_is_a_request_and_nothing_else(number: signal.Signals) -> None:
    """The work goes on to the end of its step."""
    with stop_requests(is_enabled=True) as stop:
        signal.raise_signal(number)
        asked = stop.signal_name

    assert asked == number.name


@pytest.mark.parametrize("is_enabled", [True, False])
def test_handlers_then_are_restored(is_enabled: bool) -> None:
    """After the block everything is as before it; without being enabled, within it as well."""
    before = [signal.getsignal(number) for number in BOTH]

    with stop_requests(is_enabled=is_enabled) as stop:
        within = [signal.getsignal(number) for number in BOTH]

    assert (within == before) is not is_enabled
    assert [signal.getsignal(number) for number in BOTH] == before
    assert stop.signal_name == ""


def test_second_signal_then_acts_as_it_did_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot wait presses Ctrl-C twice."""
    # A shell starts what runs in its background with SIGINT ignored.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    with stop_requests(is_enabled=True):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_thread_then_error_rather_than_no_handler() -> None:
    """Python takes signals in the main thread only."""
    caught: list[str] = []

    def work() -> None:
        try:
            with stop_requests(is_enabled=True):
                pass
        except ValueError as error:
            caught.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert "main thread only" in caught[0]
