"""The loop over epochs and steps for one head; it can stop at any step and go on from there.

What a step computes (``steps``), where batches come from (``batches``) and when to stop
(``schedule``) are decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from harness.progress import Task
from harness.training.batches import n_usable_rows
from harness.training.engine import choose_engine
from harness.training.epoch_lines import describe_end, describe_epoch, describe_steps
from harness.training.evaluation import Evaluation, evaluate
from harness.training.finite import require_finite_losses, require_finite_validation
from harness.training.folder import TrainingFolder
from harness.training.head import Head, head_from_weights
from harness.training.history import EpochRecord
from harness.training.interruption import StopRequest, TrainingInterrupted
from harness.training.losses import EpochLosses
from harness.training.schedule import Stopping, judge_stopping, learning_rate
from harness.training.seeds import derive_seeds, draw_order, dropout_seed
from harness.training.setup import Setup
from harness.training.snapshot import Snapshot, fingerprint
from harness.training.trained import TrainedHead

__all__ = ["TrainingRun"]

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
