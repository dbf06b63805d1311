"""Training heads: the one way in, the same for the baseline and the candidate.

The loop over epochs and steps for one head; it can stop at any step and go on from there.

What a step computes (``steps``), where batches come from (``batches``) and when to stop
(``schedule``) are decided elsewhere.

How steps are taken on a device: written out in PyTorch, or fused and captured on CUDA.

Losses that are not finite stop a training, and say where to look.

The losses of an epoch's steps, kept on the device until somebody looks.

Stopping on SIGINT and SIGTERM at a safe point rather than anywhere.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import numpy.typing as npt
import pandas as pd
import torch

from harness.config import TrainingConfig
from harness.embedding.devices import require_device
from harness.errors import DataError, MissingInput
from harness.progress import Progress, Task
from harness.training.batches import Setup, bring_rows, must_stream, n_usable_rows
from harness.training.checkpoints import Snapshot, TrainedHead, TrainingFolder, fingerprint
from harness.training.features import Features, LabelledRows, TrainingData, label_rows
from harness.training.head import (
    Evaluation,
    Head,
    derive_seeds,
    draw_order,
    dropout_seed,
    evaluate,
    head_from_weights,
)
from harness.training.history import (
    EpochRecord,
    Stopping,
    describe_end,
    describe_epoch,
    describe_steps,
    judge_stopping,
    learning_rate,
)
from harness.training.steps import BATCHES_PER_LAUNCH, CapturedSteps, TrainingStep, record_graph

__all__ = [
    "EpochLosses",
    "HeadTrainer",
    "StepEngine",
    "StopRequest",
    "TrainingInterrupted",
    "TrainingRun",
    "choose_engine",
    "fit_head",
    "require_finite_losses",
    "require_finite_validation",
    "stop_requests",
]


StepEngine: TypeAlias = TrainingStep | CapturedSteps

# Larger batches keep a GPU busy by themselves, and do not fit into the registers of one program.
LARGEST_FUSED_BATCH = 512


def choose_engine(head: Head, recipe: TrainingConfig) -> StepEngine:
    """Return what takes a head's steps on the device that it is on.

    Parameters
    ----------
    head : Head
        Is trained in place.
    recipe : TrainingConfig
        Batch size, learning rate, momentum and dropout.

    Raises
    ------
    MissingInput
        If the device is a GPU and Triton cannot be imported.
    """
    is_cuda = head.output_layer.weight.is_cuda
    if not is_cuda or recipe.batch_size > LARGEST_FUSED_BATCH:
        return TrainingStep(head, recipe)
    try:
        from harness.training.fused import FusedStep
    except ImportError as error:
        raise MissingInput(
            f"training on a GPU needs Triton, which cannot be imported ({error})",
            remedy="Install PyTorch's CUDA build for Linux, which brings it, or train on the CPU",
        ) from error
    step = FusedStep(head, recipe, n_steps=BATCHES_PER_LAUNCH)
    return CapturedSteps(head, recipe, step=step, record=record_graph)


class EpochLosses:
    """One loss a step; to be filled from the first step on.

    Parameters
    ----------
    n_rows : int
        Rows of an epoch.
    batch_size : int
        Rows of a step; the last one has what is left.
    device : torch device
        Where the losses are computed.
    """

    def __init__(self, *, n_rows: int, batch_size: int, device: torch.device) -> None:
        self.n_steps = -(-n_rows // batch_size)
        self.values = torch.zeros(self.n_steps, device=device)
        self.n_done = 0
        self._n_rows = n_rows
        self.batch_size = batch_size

    def extend(self, losses: torch.Tensor) -> None:
        """Take the losses of the next steps, or of one, without waiting for the device."""
        n_done = self.n_done + losses.numel()
        self.values[self.n_done : n_done] = losses
        self.n_done = n_done

    @property
    def n_rows_done(self) -> int:
        """Rows of the steps so far."""
        return min(self.n_done * self.batch_size, self._n_rows)

    def mean(self) -> float:
        """Return the mean over the rows of the steps so far."""
        rows = torch.full((self.n_done,), self.batch_size, dtype=torch.float64)
        rows[-1] += self.n_rows_done - self.n_done * self.batch_size
        losses = self.values[: self.n_done].cpu()
        return ((losses * rows).sum() / rows.sum()).item()

    def first_not_finite(self) -> int | None:
        """Return the number of the first step, from 0, whose loss is not finite; None if none."""
        wrong = (~self.values[: self.n_done].isfinite()).nonzero()
        return int(wrong[0]) if len(wrong) else None


def require_finite_losses(
    losses: EpochLosses, rows: LabelledRows, order: torch.Tensor, *, epoch: int
) -> None:
    """Raise DataError with step and records if a step of the epoch so far has no finite loss.

    Parameters
    ----------
    order : int64 tensor, (n_rows,)
        Of the epoch's rows.
    """
    step = losses.first_not_finite()
    if step is None:
        return
    batch = torch.split(order, losses.batch_size)[step].tolist()
    raise DataError(
        f"the loss of epoch {epoch}, step {step + 1} is {losses.values[step].item()}: training "
        "stopped. Lower the learning rate, or look at the features of this batch: "
        + ", ".join(rows.names(batch))
    )


def require_finite_validation(loss: float, *, epoch: int) -> None:
    """Raise DataError if a validation loss can neither be improved on nor be judged."""
    if not math.isfinite(loss):
        raise DataError(
            f"the validation loss of epoch {epoch} is {loss}: training stopped. "
            "Lower the learning rate"
        )


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


# Calls of the engine between two looks at the losses: each look waits for the device.
CALLS_PER_LOOK = 64


class TrainingRun:
    """Trains one head.

    Parameters
    ----------
    setup : Setup
        What to train on, and how.
    seed, folder, name, on_epoch
        As for ``fit_head``.

    Raises
    ------
    ArtifactError
        If the folder belongs to another training.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        seed: int,
        folder: Path | None,
        name: str,
        on_epoch: Callable[[EpochRecord], None] | None,
    ) -> None:
        self._setup, self._recipe = setup, setup.recipe
        self._name, self._on_epoch = name, on_epoch
        self._seed, self._seeds = seed, derive_seeds(seed)
        self._n_usable = n_usable_rows(len(setup.data.train), setup.recipe.batch_size)
        self._losses = EpochLosses(
            n_rows=self._n_usable, batch_size=setup.recipe.batch_size, device=setup.device
        )
        self._head = Head(
            setup.data.train.n_features,
            hidden_dim=setup.recipe.hidden_dim,
            dropout=float(setup.recipe.dropout),
            seed=self._seeds.weights,
        ).to(setup.device)
        self._engine = choose_engine(self._head, setup.recipe)
        self._best_weights: dict[str, torch.Tensor] = {}
        self._history: tuple[EpochRecord, ...] = ()
        self._begin_epoch()
        self._folder: TrainingFolder | None = None
        if folder is not None:
            origin = fingerprint(setup.data, setup.recipe, seed, setup.device.type)
            self._folder = TrainingFolder(folder, origin=origin)
            if (snapshot := self._folder.load()) is not None:
                self._go_on_from(snapshot)

    def finish(self, stop: StopRequest, metadata: Mapping[str, Any]) -> TrainedHead:
        """Train to the end.

        Parameters
        ----------
        stop : StopRequest
            Is looked at after every step; on CUDA, after every launch of up to 64 of them.
        metadata : mapping of JSON values
            What the saved heads say about themselves besides.

        Raises
        ------
        DataError
            If a loss is not finite.
        ArtifactError
            If the folder cannot be written to.
        TrainingInterrupted
            If somebody asked to stop; the state is saved first.
        """
        n_steps = self._losses.n_steps
        with self._setup.progress.task(self._name, self._recipe.epochs * n_steps, "steps") as task:
            task.advance(len(self._history) * n_steps + self._losses.n_done)
            while not self._is_over():
                self._leave_if_asked(stop)
                self._train_epoch(stop, task)
                self._end_epoch()
                task.advance(0, describe_end(self._recipe, self._history))
        trained = self._result()
        if self._folder is not None:
            self._folder.save_heads(trained, metadata)
        return trained

    @property
    def _epoch(self) -> int:
        return len(self._history) + 1

    def _begin_epoch(self) -> None:
        self._losses.n_done = 0
        self._trained_seconds = 0.0
        self._engine.learning_rate = learning_rate(self._recipe, self._epoch)
        self._engine.seed_dropout(dropout_seed(self._seeds, epoch=self._epoch))

    def _train_epoch(self, stop: StopRequest, task: Task) -> None:
        began = self._setup.clock() - self._trained_seconds
        train, losses = self._setup.data.train, self._losses
        order = draw_order(self._seeds, epoch=self._epoch, n_rows=len(train))
        usable = order[: self._n_usable]
        n_shown = losses.n_done
        batches = self._setup.feed.batches(
            usable, first_step=n_shown, n_batches=self._engine.batches_per_call
        )
        for n_calls, (features, targets) in enumerate(batches, start=1):
            losses.extend(self._engine(features, targets))
            is_last = losses.n_done == losses.n_steps
            if is_last or stop.signal_name or n_calls % CALLS_PER_LOOK == 0:
                require_finite_losses(losses, train, usable, epoch=self._epoch)
                self._trained_seconds = self._setup.clock() - began
                task.advance(losses.n_done - n_shown, self._note())
                n_shown = losses.n_done
                if not is_last:
                    self._leave_if_asked(stop)

    def _end_epoch(self) -> None:
        began = self._setup.clock()
        found = evaluate(self._head, self._setup.data.validation)
        require_finite_validation(found.loss, epoch=self._epoch)
        elapsed = self._trained_seconds + self._setup.clock() - began
        self._history += (self._record(found, elapsed),)
        if self._recipe.save_best and self._stopping().best_epoch == len(self._history):
            self._best_weights = {k: v.clone() for k, v in self._head.state_dict().items()}
        self._begin_epoch()
        self._save_state()
        self._setup.progress.line(describe_epoch(self._name, self._recipe, self._history))
        if self._on_epoch is not None:
            self._on_epoch(self._history[-1])

    def _record(self, found: Evaluation, elapsed_seconds: float) -> EpochRecord:
        return EpochRecord(
            epoch=self._epoch,
            train_loss=self._losses.mean(),
            validation_loss=found.loss,
            validation_accuracy=found.accuracy,
            validation_precision=found.precision,
            validation_recall=found.recall,
            learning_rate=self._engine.learning_rate,
            elapsed_seconds=elapsed_seconds,
            rows_per_second=self._rows_per_second(),
            n_dropped_rows=len(self._setup.data.train) - self._n_usable,
        )

    def _rows_per_second(self) -> float:
        return self._losses.n_rows_done / max(self._trained_seconds, 1e-9)

    def _note(self) -> str:
        rate, loss = self._engine.learning_rate, self._losses.mean()
        return describe_steps(
            self._recipe, self._history, rate, loss, rows_per_second=self._rows_per_second()
        )

    def _stopping(self) -> Stopping:
        return judge_stopping(self._recipe, [record.validation_loss for record in self._history])

    def _is_over(self) -> bool:
        return self._epoch > self._recipe.epochs or self._stopping().is_over

    def _leave_if_asked(self, stop: StopRequest) -> None:
        if not stop.signal_name:
            return
        self._save_state()
        done = f"{self._losses.n_done} of {self._losses.n_steps} steps"
        how = "nothing was saved, since no folder was given"
        if self._folder is not None:
            how = f"saved in {self._folder.path}: run the same again to go on from there"
        raise TrainingInterrupted(
            f"stopped by {stop.signal_name} in epoch {self._epoch} after {done}; {how}"
        )

    def _save_state(self) -> None:
        if self._folder is None:
            return
        self._folder.save(
            Snapshot(
                weights=self._head.state_dict(),
                best_weights=self._best_weights,
                momentum=self._engine.momentum,
                losses=self._losses.values,
                dropout_state=self._engine.dropout_state,
                steps_done=self._losses.n_done,
                trained_seconds=self._trained_seconds,
                history=self._history,
            )
        )

    def _go_on_from(self, snapshot: Snapshot) -> None:
        self._history = snapshot.history
        self._begin_epoch()
        self._head.load_state_dict(snapshot.weights)
        self._engine.restore(momentum=snapshot.momentum, dropout_state=snapshot.dropout_state)
        self._best_weights = snapshot.best_weights
        self._losses.values.copy_(snapshot.losses)
        self._losses.n_done = snapshot.steps_done
        self._trained_seconds = snapshot.trained_seconds

    def _result(self) -> TrainedHead:
        best, dropout = self._best_weights, float(self._recipe.dropout)
        return TrainedHead(
            final=head_from_weights(self._head.state_dict(), dropout=dropout),
            best=head_from_weights(best, dropout=dropout) if best else None,
            history=self._history,
            best_epoch=self._stopping().best_epoch,
            recipe=self._recipe,
            seed=self._seed,
            seeds=self._seeds,
            n_train=len(self._setup.data.train),
            n_validation=len(self._setup.data.validation),
        )


VIRNUCPRO_RECIPE = TrainingConfig()


class HeadTrainer:
    """Holds checked rows where they are needed, and trains heads on them, seed by seed.

    The parameters are those of ``fit_head`` that do not depend on the seed.

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
        data = TrainingData(
            train=label_rows("train", features, labels, ids),
            validation=label_rows(
                "validation", validation_features, validation_labels, validation_ids
            ),
            batch_size=recipe.batch_size,
        )
        if is_streamed is None:
            is_streamed = must_stream(data, target)
        data, feed = bring_rows(data, target, is_streamed=is_streamed)
        self._setup = Setup(
            data=data,
            feed=feed,
            recipe=recipe,
            device=target,
            progress=progress or Progress(),
            clock=clock,
        )

    def fit(
        self,
        *,
        seed: int = 42,
        folder: Path | None = None,
        metadata: Mapping[str, Any] | None = None,
        name: str = "train head",
        on_epoch: Callable[[EpochRecord], None] | None = None,
        takes_signals: bool = False,
    ) -> TrainedHead:
        """Train one head, as ``fit_head`` does."""
        run = TrainingRun(self._setup, seed=seed, folder=folder, name=name, on_epoch=on_epoch)
        with stop_requests(is_enabled=takes_signals) as stop:
            return run.finish(stop, metadata or {})


def fit_head(
    features: Features,
    labels: npt.ArrayLike,
    *,
    validation_features: Features,
    validation_labels: npt.ArrayLike,
    recipe: TrainingConfig = VIRNUCPRO_RECIPE,
    seed: int = 42,
    device: str = "cpu",
    ids: Sequence[str] | pd.Series[str] | None = None,
    validation_ids: Sequence[str] | pd.Series[str] | None = None,
    folder: Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    name: str = "train head",
    progress: Progress | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    is_streamed: bool | None = None,
    takes_signals: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainedHead:
    """Train one head by VirNucPro's recipe.

    Weights, shuffling and dropout have seeds of their own, derived from ``seed``. The order of the
    rows depends on it and their number alone. On the CPU the same call gives the same weights bit
    for bit, for a given number of threads; on one kind of GPU as well.

    Parameters
    ----------
    features : float array, (n_rows, n_features)
        Or ``StoredRows``, which stay on disk.
    labels : int array, (n_rows,)
        0, or 1 for viral.
    validation_features, validation_labels : as above
        Rows that early stopping looks at. There is no argument for test rows.
    recipe : TrainingConfig
        Hyperparameters; by default those of VirNucPro's train.py.
    seed : int
        At least 0.
    device : str
        A torch device, such as ``cpu`` or ``cuda``.
    ids, validation_ids : sequence of str, optional
        Record ids, for messages.
    folder : Path, optional
        Where the state is saved after every epoch, with ``training.jsonl`` and, in the end,
        ``final.safetensors`` (and ``best.safetensors``). The same call goes on from what an
        interrupted one left there.
    metadata : mapping of JSON values, optional
        What the saved heads say about themselves besides: digests of split and features.
    name : str
        Of the task that ``progress`` shows.
    progress : Progress, optional
        Shows steps, learning rate, losses, accuracy, patience and rows per second; in a log, a line
        an epoch.
    on_epoch : callable, optional
        Is given each epoch's record once its state is saved.
    is_streamed : bool, optional
        Leave the features in the host's memory and copy them to the device piece by piece; by
        default, if they would take more than half of a GPU's free memory. The head is the same.
    takes_signals : bool
        On SIGINT or SIGTERM stop after the step, save, and raise ``TrainingInterrupted``; on CUDA,
        where up to 64 steps are launched together, after those.
    clock : callable
        Returns seconds.

    Returns
    -------
    TrainedHead
        The final head, with ``recipe.save_best`` also a copy of the best one.

    Raises
    ------
    DataError
        If the rows cannot be trained on, or a loss is not finite.
    MissingInput
        If the device is not there.
    ArtifactError
        If ``folder`` cannot be written to, or belongs to another training.
    TrainingInterrupted
        See ``takes_signals``.

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
        ids=ids,
        validation_ids=validation_ids,
        progress=progress,
        is_streamed=is_streamed,
        clock=clock,
    )
    return trainer.fit(
        seed=seed,
        folder=folder,
        metadata=metadata,
        name=name,
        on_epoch=on_epoch,
        takes_signals=takes_signals,
    )
