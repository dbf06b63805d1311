"""How good a head is on the validation rows: what early stopping and the history need.

The metrics of the gate, with their intervals, are computed elsewhere from the test predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.training.features import LabelledRows, read_blocks
from harness.training.head import Head

__all__ = ["Evaluation", "evaluate"]


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


def evaluate(head: Head, rows: LabelledRows) -> Evaluation:
    """Evaluate a head, on the device that it is on.

    A row is called viral if the viral logit is the larger one.
    """
    device = head.output_layer.weight.device
    loss_sum, pairs = 0.0, torch.zeros(4, dtype=torch.int64)
    for start, block in read_blocks(rows.features, device):
        logits = head.evaluation_logits(block).cpu()
        labels = rows.labels[start : start + len(block)]
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        loss_sum += losses.sum(dtype=torch.float64).item()
        pairs += torch.bincount(2 * labels + logits.argmax(dim=1), minlength=4)
    true_negative, false_positive, false_negative, true_positive = pairs.tolist()
    return Evaluation(
        loss=loss_sum / len(rows),
        accuracy=(true_negative + true_positive) / len(rows),
        precision=true_positive / max(1, true_positive + false_positive),
        recall=true_positive / max(1, true_positive + false_negative),
    )
