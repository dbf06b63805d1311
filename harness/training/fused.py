"""One step of training on an NVIDIA GPU: four kernels, and the memory that they share.

Nothing here waits for the device or allocates on it, so that steps can be recorded and replayed.
What changes from step to step (learning rate, dropout) is read from the device's memory.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import torch
import triton

from harness.config import TrainingConfig
from harness.training import kernels
from harness.training.head import N_CLASSES, NORM_MOMENTUM, Head, flatten_parameters, views_by_name

__all__ = ["FusedStep"]

# Tiles, found by thought: a step must fill the device's 132 multiprocessors, and no more.
PARTS = 8  # of the features, in the product that is added up afterwards
TILE_ROWS = 32
PRODUCT_HIDDEN, PRODUCT_FEATURES = 32, 64
POINTWISE_HIDDEN = 16
UPDATE_HIDDEN, UPDATE_FEATURES = 64, 64
UPDATE_ROWS = 16  # at a time: twice as many do not fit into the registers
SMALLEST_TILE = 16  # Triton multiplies no smaller ones


class FusedStep:
    """Takes steps of SGD with momentum on a head, as ``TrainingStep`` does.

    Parameters
    ----------
    head : Head
        Is trained in place, on the device that it is on.
    recipe : TrainingConfig
        Batch size, momentum and dropout.
    n_steps : int
        How many losses are kept.

    Attributes
    ----------
    learning_rate : float32 tensor, (1,)
        Of the next steps.
    dropout_state : int64 tensor, (2,)
        Seed, and the number of the epoch's steps before this launch: with the step they are all
        that the masks depend on.
    momentum : Tensor, (n_parameters,)
        SGD's momentum buffer.
    losses : float32 tensor, (n_steps,)
        Mean cross-entropy of each step, nats.
    """

    def __init__(self, head: Head, recipe: TrainingConfig, *, n_steps: int) -> None:
        weights = flatten_parameters(head)
        device = weights.device
        self.momentum = torch.zeros_like(weights)
        self.learning_rate = torch.zeros(1, device=device)
        self.dropout_state = torch.zeros(2, dtype=torch.int64, device=device)
        self.losses = torch.zeros(n_steps, device=device)
        self._head = head
        self._weights = views_by_name(head, weights)
        self._momenta = views_by_name(head, self.momentum)
        self._keep = 1 - float(recipe.dropout)
        self._decay = float(recipe.momentum)
        hidden, rows = head.hidden_dim, recipe.batch_size
        self._block_rows = max(SMALLEST_TILE, triton.next_power_of_2(rows))
        self._tile_rows = min(self._block_rows, TILE_ROWS)
        self._n_programs = triton.cdiv(hidden, POINTWISE_HIDDEN)
        self._partial = torch.empty((PARTS, rows, hidden), device=device)
        self._normed, self._kept, self._d_pre = torch.empty((3, rows, hidden), device=device)
        self._inverse_deviation = torch.empty(hidden, device=device)
        self._partial_logits = torch.empty(
            (self._n_programs, N_CLASSES, self._block_rows), device=device
        )

    def __call__(self, features: torch.Tensor, targets: torch.Tensor, *, step: int) -> None:
        """Take one step.

        Parameters
        ----------
        features : float32 tensor, (row, feature)
            From two rows to a batch.
        targets : float32 tensor, (row, class)
            One-hot labels.
        step : int
            Number of the step within the launch, from 0: where its loss goes.
        """
        self._project(features)
        self._activate(len(features), step)
        self._backpropagate(targets, step)
        self._update_hidden(features)

    def _project(self, features: torch.Tensor) -> None:
        n_rows, n_features = features.shape
        grid = (
            triton.cdiv(self._head.hidden_dim, PRODUCT_HIDDEN),
            PARTS,
            triton.cdiv(n_rows, self._tile_rows),
        )
        kernels.project[grid](
            features,
            self._weights["hidden_layer.weight"],
            self._partial,
            n_rows,
            n_features=n_features,
            hidden_dim=self._head.hidden_dim,
            n_parts=PARTS,
            block_rows=self._tile_rows,
            block_hidden=PRODUCT_HIDDEN,
            block_features=PRODUCT_FEATURES,
        )

    def _activate(self, n_rows: int, step: int) -> None:
        weights, norm = self._weights, self._head.bn1
        kernels.activate[(self._n_programs,)](
            self._partial,
            weights["hidden_layer.bias"],
            weights["bn1.weight"],
            weights["bn1.bias"],
            norm.running_mean,
            norm.running_var,
            weights["output_layer.weight"],
            weights["output_layer.bias"],
            self.dropout_state,
            self._normed,
            self._kept,
            self._inverse_deviation,
            self._partial_logits,
            n_rows,
            step,
            hidden_dim=self._head.hidden_dim,
            n_parts=PARTS,
            keep=self._keep,
            norm_momentum=NORM_MOMENTUM,
            epsilon=norm.eps,
            block_rows=self._block_rows,
            block_hidden=POINTWISE_HIDDEN,
        )

    def _backpropagate(self, targets: torch.Tensor, step: int) -> None:
        weights, momenta = self._weights, self._momenta
        trained = [
            tensor
            for name in ("bn1.weight", "bn1.bias", "output_layer.weight", "output_layer.bias")
            for tensor in (weights[name], momenta[name])
        ]
        kernels.backpropagate[(self._n_programs,)](
            self._partial_logits,
            targets,
            self._normed,
            self._kept,
            self._inverse_deviation,
            self.learning_rate,
            *trained,
            self._d_pre,
            self.losses,
            len(targets),
            step,
            hidden_dim=self._head.hidden_dim,
            keep=self._keep,
            decay=self._decay,
            n_programs=self._n_programs,
            block_programs=triton.next_power_of_2(self._n_programs),
            block_rows=self._block_rows,
            block_hidden=POINTWISE_HIDDEN,
        )

    def _update_hidden(self, features: torch.Tensor) -> None:
        n_rows, n_features = features.shape
        grid = (
            triton.cdiv(self._head.hidden_dim, UPDATE_HIDDEN),
            triton.cdiv(n_features, UPDATE_FEATURES),
        )
        kernels.update_hidden[grid](
            features,
            self._d_pre,
            self.learning_rate,
            self._weights["hidden_layer.weight"],
            self._momenta["hidden_layer.weight"],
            n_rows,
            n_features=n_features,
            hidden_dim=self._head.hidden_dim,
            decay=self._decay,
            all_rows=self._block_rows,
            block_rows=UPDATE_ROWS,
            block_hidden=UPDATE_HIDDEN,
            block_features=UPDATE_FEATURES,
        )
