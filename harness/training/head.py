"""The head: VirNucPro's two-layer classifier of features, under its own parameter names.

Also the seeds that its training draws from, one for each purpose, so that changing one leaves the
others as they were, and how good it is on the validation rows. Training it is the trainer's work,
reading and writing it that of checkpoints; the gate's metrics are computed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from harness.errors import NotFiniteError
from harness.training.features import Features, LabelledRows, as_rows, explain_widths, read_blocks

__all__ = [
    "NORM_EPSILON",
    "NORM_MOMENTUM",
    "N_CLASSES",
    "Evaluation",
    "Head",
    "Seeds",
    "derive_seeds",
    "draw_order",
    "dropout_seed",
    "evaluate",
    "head_from_weights",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """The seeds that were derived from the user's one.

    Attributes
    ----------
    weights, shuffling, dropout : int
        In [0, 2**63).
    """

    weights: int
    shuffling: int
    dropout: int


def derive_seeds(seed: int) -> Seeds:
    """Derive independent seeds for weights, shuffling and dropout.

    Parameters
    ----------
    seed : int
        At least 0.
    """
    weights, shuffling, dropout = (
        _first_word(child) for child in np.random.SeedSequence(seed).spawn(3)
    )
    return Seeds(weights=weights, shuffling=shuffling, dropout=dropout)


def draw_order(seeds: Seeds, *, epoch: int, n_rows: int) -> torch.Tensor:
    """Return the order of the rows in one epoch, int64 (n_rows,).

    It depends on the seed, the epoch and the number of rows alone, so that two heads see the same
    rows in the same order, whatever their widths and devices.
    """
    rng = np.random.default_rng([seeds.shuffling, epoch])
    return torch.from_numpy(rng.permutation(n_rows))


def dropout_seed(seeds: Seeds, *, epoch: int, step: int) -> int:
    """Return the seed of the dropout masks of a call, by its first step, in [0, 2**63)."""
    return _first_word(np.random.SeedSequence([seeds.dropout, epoch, step]))


def _first_word(sequence: np.random.SeedSequence) -> int:
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


N_CLASSES = 2  # 0 not viral, 1 viral
# PyTorch's defaults, which VirNucPro keeps: of the running statistics, and beside the variance.
NORM_MOMENTUM, NORM_EPSILON = 0.1, 1e-5


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
        Of the weights, which are Xavier-uniform (Glorot and Bengio, 2010), and of the biases, which
        are uniform within 1 / sqrt(fan in), as PyTorch's Linear draws them.
    """

    def __init__(
        self, n_features: int, *, hidden_dim: int = 512, dropout: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__()
        self.hidden_layer = _empty_linear(n_features, hidden_dim)
        self.bn1 = nn.BatchNorm1d(hidden_dim, momentum=NORM_MOMENTUM, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.output_layer = _empty_linear(hidden_dim, N_CLASSES)
        rng = torch.Generator().manual_seed(seed)
        layers = (self.hidden_layer, self.output_layer)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight, generator=rng)
        for layer in layers:
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.bias, -bound, bound, generator=rng)

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
        NotFiniteError
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
            raise NotFiniteError(
                f"{len(wrong)} rows have no score, such as row {wrong[0]}: their features are not "
                "finite"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Loss and metrics of one pass over some rows.

    Attributes
    ----------
    loss : float
        Mean cross-entropy, nats.
    accuracy, precision, recall : float
        In [0, 1], of the viral class; precision is 0 where nothing was called viral.
    """

    loss: float
    accuracy: float
    precision: float
    recall: float


def evaluate(heads: Sequence[Head], rows: LabelledRows) -> list[Evaluation]:
    """Evaluate some heads, on the device that they are on, in one pass over the rows.

    A row is called viral if the viral logit is the larger one.
    """
    device = heads[0].output_layer.weight.device
    loss_sums, pairs = [0.0] * len(heads), torch.zeros((len(heads), 4), dtype=torch.int64)
    for start, block in read_blocks(rows.features, device):
        labels = rows.labels[start : start + len(block)]
        for number, head in enumerate(heads):
            logits = head.evaluation_logits(block).cpu()
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            loss_sums[number] += losses.sum(dtype=torch.float64).item()
            pairs[number] += torch.bincount(2 * labels + logits.argmax(dim=1), minlength=4)
    return list(map(_evaluation, loss_sums, pairs.tolist()))


def _evaluation(loss_sum: float, pairs: Sequence[int]) -> Evaluation:
    true_negative, false_positive, false_negative, true_positive = pairs
    return Evaluation(
        loss=loss_sum / sum(pairs),
        accuracy=(true_negative + true_positive) / sum(pairs),
        precision=true_positive / max(1, true_positive + false_positive),
        recall=true_positive / max(1, true_positive + false_negative),
    )
