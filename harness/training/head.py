"""The head: VirNucPro's two-layer classifier of features, under its own parameter names.

Training it is the trainer's work, reading and writing it that of checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from harness.errors import DataError
from harness.training.features import Features, as_rows, read_blocks
from harness.training.widths import explain_widths

__all__ = ["NORM_MOMENTUM", "N_CLASSES", "Head", "head_from_weights"]

N_CLASSES = 2  # 0 not viral, 1 viral
NORM_MOMENTUM = 0.1  # of the running statistics: PyTorch's default, which VirNucPro keeps


class Head(nn.Module):
    """Linear, BatchNorm, ReLU, dropout, Linear: features in, logits of the two classes out.

    Parameters
    ----------
    n_features : int
        Width of the features.
    hidden_dim : int
        Width of the hidden layer.
    dropout : float
        Share of hidden units that training sets to zero, in [0, 1).
    seed : int
        Of the weights, which are Xavier-uniform (Glorot and Bengio, 2010); biases are zero.
    """

    def __init__(
        self, n_features: int, *, hidden_dim: int = 512, dropout: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__()
        self.hidden_layer = _empty_linear(n_features, hidden_dim)
        self.bn1 = nn.BatchNorm1d(hidden_dim, momentum=NORM_MOMENTUM)
        self.dropout = nn.Dropout(dropout)
        self.output_layer = _empty_linear(hidden_dim, N_CLASSES)
        rng = torch.Generator().manual_seed(seed)
        for layer in (self.hidden_layer, self.output_layer):
            nn.init.xavier_uniform_(layer.weight, generator=rng)
            nn.init.zeros_(layer.bias)

    @property
    def n_features(self) -> int:
        """Width of the features that it takes."""
        return self.hidden_layer.in_features

    @property
    def hidden_dim(self) -> int:
        """Width of the hidden layer."""
        return self.hidden_layer.out_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits, (row, class)."""
        hidden = torch.relu(self.bn1(self.hidden_layer(features)))  # (row, hidden)
        logits: torch.Tensor = self.output_layer(self.dropout(hidden))
        return logits

    def predict(self, features: Features) -> npt.NDArray[np.float32]:
        """Return the probability of the viral class, float32 (n_rows,), in [0, 1].

        Parameters
        ----------
        features : float array, (n_rows, n_features)
            Or rows on disk; those are read in blocks.

        Raises
        ------
        ValueError
            If the features have another width.
        DataError
            If a feature is not finite, so that its row has no score.
        """
        rows = as_rows(features)
        if rows.shape[1] != self.n_features:
            raise ValueError(explain_widths(expected=self.n_features, found=rows.shape[1]))
        device = self.output_layer.weight.device
        scores = np.empty(rows.shape[0], dtype=np.float32)
        for start, block in read_blocks(rows, device):
            viral = torch.softmax(self.evaluation_logits(block), dim=1)[:, 1]  # (row,)
            scores[start : start + len(block)] = viral.cpu().numpy()
        if len(wrong := np.flatnonzero(~np.isfinite(scores))):
            raise DataError(
                f"{len(wrong)} rows have no score, such as row {wrong[0]}: their features are not "
                "finite. Embed these records again"
            )
        return scores

    @torch.inference_mode()
    def evaluation_logits(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits, (row, class), without dropout and with the running statistics.

        Unlike ``forward`` this does not depend on whether the module is in training mode.
        """
        norm = self.bn1
        hidden = nn.functional.batch_norm(
            self.hidden_layer(features),
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            eps=norm.eps,
        )  # (row, hidden)
        logits: torch.Tensor = self.output_layer(hidden.relu_())
        return logits


def head_from_weights(weights: Mapping[str, torch.Tensor], *, dropout: float = 0.5) -> Head:
    """Return a head with copies of some weights, ready to predict.

    Parameters
    ----------
    weights : mapping of str to Tensor
        A ``state_dict``; the widths are those of its layers.
    dropout : float
        For further training.

    Raises
    ------
    ValueError
        If they are not those of a head.
    """
    first = weights.get("hidden_layer.weight")
    if first is None or first.ndim != 2:
        raise ValueError("there is no layer 'hidden_layer' with a matrix of weights")
    head = Head(first.shape[1], hidden_dim=first.shape[0], dropout=dropout).to(first.device)
    try:
        head.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return head.eval()


def _empty_linear(n_in: int, n_out: int) -> nn.Linear:
    """Return a layer without values: PyTorch's own would be drawn from the global generator."""
    return nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")
