"""Training heads: the one way in, the same for the baseline and the candidate.

The loop over epochs and calls for several heads that share rows and recipe, each with weights,
order, dropout and early stopping of its own; it can stop at any call and go on from there. What a
step computes (``steps``), where rows come from (``batches``), when a head is done (``history``) and
what is kept on disk (``checkpoints``) are decided elsewhere.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy.typing as npt
import pandas as pd
import torch

from harness.config import TrainingConfig
from harness.embedding.devices import require_device
from harness.errors import DataError
from harness.progress import Progress, Task
from harness.training.batches import CallFeed, bring_rows, must_stream, n_usable_rows
from harness.training.checkpoints import (
    Snapshot,
    TrainedHead,
    Weights,
    fingerprint,
    load_snapshot,
    save_snapshot,
)
from harness.training.features import Features, TrainingData, label_rows
from harness.training.head import (
    Evaluation,
    Head,
    Seeds,
    derive_seeds,
    draw_order,
    dropout_seed,
    evaluate,
    head_from_weights,
)
from harness.training.history import (
    EpochRecord,
    describe_epoch,
    describe_rest,
    is_over,
    learning_rate,
    stopping_of,
)
from harness.training.steps import EpochLosses, HeadSteps, require_triton

__all__ = ["HeadTrainer", "TrainingInterrupted", "fit_head", "stop_requests"]


class TrainingInterrupted(KeyboardInterrupt):
    """Training was asked to stop, and did so after a whole step; its message says how to go on."""


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked to stop.

    Attributes
    ----------
    signal_name : str
        Such as ``SIGTERM``; empty as long as nobody asked.
    """

    signal_name: str = ""


@contextmanager
def stop_requests(*, is_enabled: bool) -> Iterator[StopRequest]:
    """Take the first SIGINT or SIGTERM as a request; a second one acts as it did before.

    Parameters
    ----------
    is_enabled : bool
        Without it no handler is installed and the request is never made.

    Raises
    ------
    ValueError
        If it is enabled outside the main thread, where Python takes no signals.
    """
    request = StopRequest()
    if not is_enabled:
        yield request
        return
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signals can be taken in the main thread only: leave takes_signals off")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, _: FrameType | None) -> None:
        request.signal_name = signal.Signals(number).name
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()


# Calls of 64 steps between two looks at the losses: on a GPU each look waits for it.
CALLS_PER_LOOK = 16
EPOCHS_PER_LINE = 10  # in a log


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that training depends on but the seeds, ready for use.

    Attributes
    ----------
    data : TrainingData
        Features lie on the device already, unless they are streamed.
    """

    data: TrainingData
    recipe: TrainingConfig
    device: torch.device
    is_streamed: bool
    progress: Progress
    clock: Callable[[], float]


@dataclass(slots=True, kw_only=True)
class _Trained:
    """One of the heads, and how far it is."""

    seed: int
    seeds: Seeds
    head: Head
    history: tuple[EpochRecord, ...] = ()
    best_weights: Weights = field(default_factory=dict)


class TrainingRun:
    """Trains some heads.

    Parameters
    ----------
    setup : Setup
        What to train on, and how.
    seeds, folder, name
        As for ``HeadTrainer.fit``.

    Raises
    ------
    ArtifactError
        If the folder belongs to another training.
    """

    def __init__(
        self, setup: Setup, *, seeds: Sequence[int], folder: Path | None, name: str
    ) -> None:
        self._setup, self._recipe = setup, setup.recipe
        self._name, self._folder = name, folder
        self._n_usable = n_usable_rows(len(setup.data.train), setup.recipe.batch_size)
        self._all = tuple(self._begin(seed) for seed in seeds)
        self._origin = fingerprint(setup.data, setup.recipe, seeds, setup.device.type)
        snapshot = None if folder is None else load_snapshot(folder, origin=self._origin)
        if snapshot is not None:
            for trained in self._all:
                trained.history = snapshot.histories[trained.seed]
                trained.best_weights = snapshot.best_weights[trained.seed]
                trained.head.load_state_dict(snapshot.weights[trained.seed])
        self._active = [trained for trained in self._all if not self._is_over(trained)]
        if self._active:
            self._engine = HeadSteps([trained.head for trained in self._active], setup.recipe)
            self._begin_epoch()
            if snapshot is not None:
                self._go_on_from(snapshot)

    def finish(self, stop: StopRequest) -> tuple[TrainedHead, ...]:
        """Train to the end.

        Parameters
        ----------
        stop : StopRequest
            Is looked at after every call of up to 64 steps.

        Raises
        ------
        DataError
            If a loss is not finite.
        ArtifactError
            If the folder cannot be written to.
        TrainingInterrupted
            If somebody asked to stop; the state is saved first.
        """
        n_steps = -(-self._n_usable // self._recipe.batch_size)
        with self._setup.progress.task(self._name, self._recipe.epochs * n_steps, "steps") as task:
            n_epochs = max(len(trained.history) for trained in self._all)
            task.advance(n_epochs * n_steps + (self._losses.n_done if self._active else 0))
            while self._active:
                self._leave_if_asked(stop)
                self._train_epoch(stop, task)
                self._end_epoch()
                task.advance(0, describe_epoch(self._recipe, self._histories))
        return tuple(map(self._result, self._all))

    def _begin(self, seed: int) -> _Trained:
        seeds, recipe = derive_seeds(seed), self._recipe
        head = Head(
            self._setup.data.train.n_features,
            hidden_dim=recipe.hidden_dim,
            dropout=float(recipe.dropout),
            seed=seeds.weights,
        )
        return _Trained(seed=seed, seeds=seeds, head=head.to(self._setup.device))

    @property
    def _epoch(self) -> int:
        return len(self._active[0].history) + 1

    @property
    def _histories(self) -> list[tuple[EpochRecord, ...]]:
        return [trained.history for trained in self._all]

    def _is_over(self, trained: _Trained) -> bool:
        return is_over(self._recipe, trained.history)

    def _begin_epoch(self) -> None:
        size, device, n_heads = self._recipe.batch_size, self._setup.device, len(self._active)
        self._losses = EpochLosses(n_heads, n_rows=self._n_usable, batch_size=size, device=device)
        self._feed = CallFeed(
            self._setup.data.train,
            n_heads=n_heads,
            batch_size=size,
            device=device,
            is_streamed=self._setup.is_streamed,
        )
        self._trained_seconds = 0.0
        self._rate = learning_rate(self._recipe, self._epoch)
        self._engine.set_learning_rate(self._rate)

    def _train_epoch(self, stop: StopRequest, task: Task) -> None:
        began = self._setup.clock() - self._trained_seconds
        train, losses, epoch = self._setup.data.train, self._losses, self._epoch
        orders = torch.stack(
            [draw_order(one.seeds, epoch=epoch, n_rows=len(train)) for one in self._active]
        )[:, : self._n_usable]
        calls_per_look = CALLS_PER_LOOK if self._setup.device.type == "cuda" else 1
        n_shown = losses.n_done
        calls = self._feed.calls(orders, first_step=n_shown)
        for n_calls, (features, targets) in enumerate(calls, start=1):
            masks = [dropout_seed(o.seeds, epoch=epoch, step=losses.n_done) for o in self._active]
            losses.extend(self._engine(features, targets, dropout_seeds=masks))
            is_last = losses.n_done == losses.n_steps
            if is_last or stop.signal_name or n_calls % calls_per_look == 0:
                losses.require_finite(train, orders, epoch=epoch)
                self._trained_seconds = self._setup.clock() - began
                note = describe_epoch(self._recipe, self._histories, losses.means())
                task.advance(losses.n_done - n_shown, note)
                n_shown = losses.n_done
                if not is_last:
                    self._leave_if_asked(stop)

    def _end_epoch(self) -> None:
        began, epoch = self._setup.clock(), self._epoch
        found = evaluate([one.head for one in self._active], self._setup.data.validation)
        if wrong := [one.loss for one in found if not math.isfinite(one.loss)]:
            raise DataError(
                f"the validation loss of epoch {epoch} is {wrong[0]}: training stopped. "
                "Lower the learning rate"
            )
        elapsed = self._trained_seconds + self._setup.clock() - began
        for trained, loss, evaluation in zip(
            self._active, self._losses.means(), found, strict=True
        ):
            trained.history += (self._record(epoch, loss, evaluation, elapsed),)
            best_epoch = stopping_of(self._recipe, trained.history).best_epoch
            if self._recipe.save_best and best_epoch == epoch:
                weights = trained.head.state_dict()
                trained.best_weights = {name: value.clone() for name, value in weights.items()}
        self._let_go()
        self._save_state()
        if epoch % EPOCHS_PER_LINE == 0 or not self._active:
            note = describe_epoch(self._recipe, self._histories)
            rest = describe_rest(self._recipe, self._histories)
            self._setup.progress.line(f"{self._name}: {note}, {rest}")

    def _let_go(self) -> None:
        """Leave the heads as they are that are done, and go on with the others."""
        done = [number for number, one in enumerate(self._active) if self._is_over(one)]
        self._active = [one for one in self._active if not self._is_over(one)]
        if not self._active:
            return
        if done:
            self._engine = self._engine.without(done)
        self._begin_epoch()

    def _record(
        self, epoch: int, loss: float, found: Evaluation, elapsed_seconds: float
    ) -> EpochRecord:
        return EpochRecord(
            epoch=epoch,
            train_loss=loss,
            validation_loss=found.loss,
            validation_accuracy=found.accuracy,
            validation_precision=found.precision,
            validation_recall=found.recall,
            learning_rate=self._rate,
            elapsed_seconds=elapsed_seconds,
            rows_per_second=self._losses.n_rows_done / max(self._trained_seconds, 1e-9),
            n_dropped_rows=len(self._setup.data.train) - self._n_usable,
        )

    def _leave_if_asked(self, stop: StopRequest) -> None:
        if not stop.signal_name:
            return
        self._save_state()
        done = f"{self._losses.n_done} of {self._losses.n_steps} steps"
        how = "nothing was saved, since no folder was given"
        if self._folder is not None:
            how = f"saved in {self._folder}: run the same again to go on from there"
        raise TrainingInterrupted(
            f"stopped by {stop.signal_name} in epoch {self._epoch} after {done}; {how}"
        )

    def _save_state(self) -> None:
        if self._folder is None:
            return
        snapshot = Snapshot(
            weights={one.seed: one.head.state_dict() for one in self._all},
            best_weights={one.seed: one.best_weights for one in self._all},
            momenta=self._engine.momenta,
            losses=self._losses.values,
            steps_done=self._losses.n_done,
            trained_seconds=self._trained_seconds,
            histories={one.seed: one.history for one in self._all},
        )
        save_snapshot(self._folder, snapshot, origin=self._origin)

    def _go_on_from(self, snapshot: Snapshot) -> None:
        self._engine.restore(snapshot.momenta)
        self._losses.values.copy_(snapshot.losses)
        self._losses.n_done = snapshot.steps_done
        self._trained_seconds = snapshot.trained_seconds

    def _result(self, trained: _Trained) -> TrainedHead:
        best, dropout = trained.best_weights, float(self._recipe.dropout)
        return TrainedHead(
            final=head_from_weights(trained.head.state_dict(), dropout=dropout),
            best=head_from_weights(best, dropout=dropout) if best else None,
            history=trained.history,
            best_epoch=stopping_of(self._recipe, trained.history).best_epoch,
            recipe=self._recipe,
            seed=trained.seed,
            seeds=trained.seeds,
            n_train=len(self._setup.data.train),
            n_validation=len(self._setup.data.validation),
        )


VIRNUCPRO_RECIPE = TrainingConfig()


class HeadTrainer:
    """Holds checked rows where they are needed, and trains heads on them.

    Parameters
    ----------
    features : float array, (n_rows, n_features)
        Or ``StoredRows``, which stay on disk.
    labels : int array, (n_rows,)
        0, or 1 for viral.
    validation_features, validation_labels : as above
        Rows that early stopping looks at. There is no argument for test rows.
    recipe : TrainingConfig
        Hyperparameters; by default those of VirNucPro's train.py. The seeds are named to ``fit``.
    device : str
        A torch device, such as ``cpu`` or ``cuda``.
    ids, validation_ids : sequence of str, optional
        Record ids, for messages.
    progress : Progress, optional
        Shows steps, losses, accuracy and patience; in a log, a line for every tenth epoch and the
        last one.
    is_streamed : bool, optional
        Leave the features in the host's memory and copy them to the device piece by piece; by
        default, if they would take more than half of a GPU's free memory. The heads are the same.
    clock : callable
        Returns seconds.

    Raises
    ------
    DataError
        If the rows cannot be trained on.
    MissingInput
        If the device is not there.
    """

    def __init__(
        self,
        features: Features,
        labels: npt.ArrayLike,
        *,
        validation_features: Features,
        validation_labels: npt.ArrayLike,
        recipe: TrainingConfig = VIRNUCPRO_RECIPE,
        device: str = "cpu",
        ids: Sequence[str] | pd.Series[str] | None = None,
        validation_ids: Sequence[str] | pd.Series[str] | None = None,
        progress: Progress | None = None,
        is_streamed: bool | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        require_device(device)
        target = torch.device(device)
        require_triton(target)
        data = TrainingData(
            train=label_rows("train", features, labels, ids),
            validation=label_rows(
                "validation", validation_features, validation_labels, validation_ids
            ),
            batch_size=recipe.batch_size,
        )
        if is_streamed is None:
            is_streamed = must_stream(data, target)
        self._setup = Setup(
            data=data if is_streamed else bring_rows(data, target),
            recipe=recipe,
            device=target,
            is_streamed=is_streamed,
            progress=progress or Progress(),
            clock=clock,
        )

    def fit(
        self,
        *,
        seeds: Sequence[int] = (42, 43, 44),
        folder: Path | None = None,
        name: str = "train heads",
        takes_signals: bool = False,
    ) -> tuple[TrainedHead, ...]:
        """Train a head for each seed, all at once.

        Weights, shuffling and dropout have seeds of their own, derived from each. The order of the
        rows depends on the seed and their number alone. On the CPU each head is, bit for bit, what
        its seed alone gives, for a given number of threads; the same call gives the same bits on
        one kind of GPU as well.

        Parameters
        ----------
        seeds : sequence of int
            At least 0, different ones.
        folder : Path, optional
            Where the state is saved after every epoch, with the epochs' records in
            ``training.jsonl``. The same call goes on from what an interrupted one left there.
        name : str
            Of the task that ``progress`` shows.
        takes_signals : bool
            On SIGINT or SIGTERM stop after the steps under way, up to 64, save, and raise
            ``TrainingInterrupted``.

        Returns
        -------
        tuple of TrainedHead
            One a seed: the final head, with ``recipe.save_best`` also a copy of the best one.

        Raises
        ------
        ValueError
            If there is no seed, or one twice.
        DataError
            If a loss is not finite.
        ArtifactError
            If ``folder`` cannot be written to, or belongs to another training.
        TrainingInterrupted
            See ``takes_signals``.
        """
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"expected different seeds, at least one; got {list(seeds)}")
        run = TrainingRun(self._setup, seeds=seeds, folder=folder, name=name)
        with stop_requests(is_enabled=takes_signals) as stop:
            return run.finish(stop)


def fit_head(
    features: Features,
    labels: npt.ArrayLike,
    *,
    validation_features: Features,
    validation_labels: npt.ArrayLike,
    recipe: TrainingConfig = VIRNUCPRO_RECIPE,
    seed: int = 42,
    device: str = "cpu",
) -> TrainedHead:
    """Train one head by VirNucPro's recipe; see ``HeadTrainer``, which can do more.

    Returns
    -------
    TrainedHead
        The final head, with ``recipe.save_best`` also a copy of the best one.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.random.default_rng(0).normal(size=(96, 8))
    >>> labels = features[:, 0] > 0
    >>> trained = fit_head(
    ...     features[:64], labels[:64],
    ...     validation_features=features[64:], validation_labels=labels[64:],
    ... )
    >>> trained.predict(features[64:]).shape
    (32,)
    """
    trainer = HeadTrainer(
        features,
        labels,
        validation_features=validation_features,
        validation_labels=validation_labels,
        recipe=recipe,
        device=device,
    )
    (trained,) = trainer.fit(seeds=(seed,), name="train head")
    return trained
