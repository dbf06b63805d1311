"""The criteria: numbers and thresholds in, a result out; and the verdict they add up to.

``judge_accuracy`` and ``judge_time`` are useful on their own. A name is imported when it is first
asked for, so that reading a verdict loads no statistics (``harness verify`` answers at once).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.criteria.accuracy import judge_accuracy, judge_accuracy_unpaired
    from harness.criteria.baseline import judge_baseline, judge_baseline_unpaired
    from harness.criteria.embedding_integrity import (
        StoreInspection,
        inspect_store,
        judge_embeddings,
    )
    from harness.criteria.intervals import compare_metrics
    from harness.criteria.metrics import break_down, evaluate, large_moves, predict_labels
    from harness.criteria.representative import judge_representative
    from harness.criteria.result import REQUIRED_CRITERIA, CriterionResult, State
    from harness.criteria.speed import judge_time
    from harness.criteria.split_integrity import judge_split_integrity

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


_MODULES = {
    "accuracy": ("judge_accuracy", "judge_accuracy_unpaired"),
    "baseline": ("judge_baseline", "judge_baseline_unpaired"),
    "embedding_integrity": ("StoreInspection", "inspect_store", "judge_embeddings"),
    "intervals": ("compare_metrics",),
    "metrics": ("break_down", "evaluate", "large_moves", "predict_labels"),
    "representative": ("judge_representative",),
    "result": ("REQUIRED_CRITERIA", "CriterionResult", "State"),
    "speed": ("judge_time",),
    "split_integrity": ("judge_split_integrity",),
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
