"""Training heads from end to end: what they learn, keep, report and refuse."""

from __future__ import annotations

import io
import itertools
import json
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.errors import DataError, MissingInput
from harness.progress import Progress
from harness.training import steps
from harness.training.history import digest_history
from harness.training.steps import EpochLosses
from harness.training.trainer import stop_requests
from tests.training.conftest import (
    LEARNS,
    OVERFITS,
    QUICK,
    Fit,
    FitAll,
    Rows,
    draw_rows,
    same_weights,
)


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


def test_log_then_has_a_line_for_every_tenth_epoch_and_the_last(fit_all: FitAll) -> None:
    """Of all heads in one line that a screen holds, and one when it is over."""
    stream = io.StringIO()

    fit_all(recipe=replace(LEARNS, epochs=23), progress=Progress(stream))

    *epochs, whole = stream.getvalue().splitlines()
    starts = [line.partition(", loss 0.")[0] for line in epochs]
    assert starts == [f"train heads: epoch {epoch}/23" for epoch in (10, 20, 23)]
    assert epochs[-1].endswith(", done")
    assert max(map(len, epochs)) <= 120
    assert whole.startswith("train heads: 161 steps in ")
    for word in ("epoch 23/23, loss 0.", "val 0.", "acc 0.", "patience "):
        assert word in whole


def test_streamed_features_then_weights_are_the_same(fit: Fit) -> None:
    """Where the features lie changes nothing."""
    assert same_weights(fit(is_streamed=True).final, fit().final)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("n_rows", "n_features", "hidden_dim", "batch_size"),
    [(100, 12, 8, 16), (101, 13, 7, 16), (97, 3, 5, 10), (500, 64, 50, 7), (900, 101, 97, 250)],
)
def test_several_seeds_then_each_head_is_bit_for_bit_what_its_seed_alone_gives(
    fit: Fit,
    fit_all: FitAll,
    n_threads: int,
    n_rows: int,
    n_features: int,
    hidden_dim: int,
    batch_size: int,
) -> None:
    """Whatever the sizes: they share the rows and nothing else."""
    torch.set_num_threads(n_threads)
    more, validation = draw_rows(n_rows, n_features), draw_rows(40, n_features, seed=1)
    changes = {
        "features": more.features,
        "labels": more.labels,
        "ids": None,
        "validation_features": validation.features,
        "recipe": replace(LEARNS, epochs=2, hidden_dim=hidden_dim, batch_size=batch_size),
    }

    for trained in fit_all(**changes):
        alone = fit(**changes, seed=trained.seed)
        assert same_weights(trained.final, alone.final)
        assert digest_history(trained.history) == digest_history(alone.history)


def test_heads_that_stop_early_then_each_stops_where_it_would_alone(
    fit: Fit, fit_all: FitAll
) -> None:
    """One that is done stays as it is while the others go on."""
    recipe = replace(OVERFITS, patience=3, save_best=True)

    heads = fit_all(recipe=recipe)

    assert len({trained.epochs_run for trained in heads}) > 1
    for trained in heads:
        alone = fit(recipe=recipe, seed=trained.seed)
        assert digest_history(trained.history) == digest_history(alone.history)
        assert same_weights(trained.final, alone.final)
        assert same_weights(trained.head, alone.head)


@pytest.mark.parametrize("seeds", [(), (42, 42)])
def test_seeds_that_are_none_or_double_then_error(fit_all: FitAll, seeds: tuple[int, ...]) -> None:
    """Two heads of one seed are one head."""
    with pytest.raises(ValueError, match="expected different seeds"):
        fit_all(seeds=seeds)


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


def test_gpu_without_triton_then_error_says_what_to_install(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower steps in its place would be a silent fallback."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(steps, "find_spec", lambda _: None)

    with pytest.raises(MissingInput, match="needs Triton") as caught:
        fit(device="cuda")

    assert "CUDA build" in caught.value.remedy


def _losses(*values: float) -> EpochLosses:
    losses = EpochLosses(2, n_rows=10, batch_size=4, device=torch.device("cpu"))
    for value in values:
        losses.extend(torch.tensor([[value], [2 * value]]))
    return losses


def test_means_of_an_epoch_then_the_smaller_last_batch_counts_less() -> None:
    """Four, four and two rows."""
    assert _losses(1.0, 2.0, 4.0).means() == [2.0, 4.0]


def test_means_within_an_epoch_then_are_over_the_rows_so_far() -> None:
    """What the progress bar shows."""
    losses = _losses(1.0, 2.0)

    assert losses.means() == [1.5, 3.0]
    assert losses.n_rows_done == 8


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
