"""The criteria: numbers and thresholds in, a result out; and the verdict they add up to.

``judge_accuracy`` and ``judge_time`` are useful on their own.
"""

from harness.gate.accuracy.criterion import judge_accuracy, judge_accuracy_unpaired
from harness.gate.baseline import judge_baseline, judge_baseline_unpaired
from harness.gate.embedding_integrity import StoreInspection, inspect_store, judge_embeddings
from harness.gate.metrics.breakdown import break_down
from harness.gate.metrics.intervals import compare_metrics
from harness.gate.metrics.scores import evaluate, large_moves, predict_labels
from harness.gate.representative import judge_representative
from harness.gate.result import REQUIRED_CRITERIA, CriterionResult, State
from harness.gate.speed.criterion import judge_time
from harness.gate.split_integrity import judge_split_integrity

__all__ = [
    "REQUIRED_CRITERIA",
    "CriterionResult",
    "State",
    "StoreInspection",
    "break_down",
    "compare_metrics",
    "evaluate",
    "inspect_store",
    "judge_accuracy",
    "judge_accuracy_unpaired",
    "judge_baseline",
    "judge_baseline_unpaired",
    "judge_embeddings",
    "judge_representative",
    "judge_split_integrity",
    "judge_time",
    "large_moves",
    "predict_labels",
]
